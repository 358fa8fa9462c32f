"""What differs between databases: the connection and a few named SQL fragments.

Otherwise, operations use the SQL that SQLite and PostgreSQL have in common: ``?`` and ``:name`` for
parameters, never both in one statement; a type where nothing else tells a parameter's; whole numbers
instead of truth values; a target for each ``ON CONFLICT ... DO UPDATE``, and
the table's name before the columns that it reads.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.json import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


class Rows(Protocol):
    """What a statement returns."""

    @property
    def rowcount(self) -> int:
        """The number of rows that it changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or ``None``."""
        ...

    def fetchmany(self, size: int, /) -> list[Any]:
        """Return the next rows."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside the transaction that the ledger began for an operation.

    Attributes:
        is_remote: whether waiting for an answer takes long, so that announcing statements is worth something.
        last_uses: what the budgets' use was found to be, with all that it follows from.
        last_settings: the settings that a decision was last made with, which is likely to be the next one's.
        person_id: who acts, of the people who share the ledger; ``None``: nobody in particular.
    """

    is_remote: bool
    last_uses: tuple[object, object] | None
    last_settings: str | None
    person_id: int | None

    def execute(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /
    ) -> Rows:
        """Run a statement."""
        ...

    def ahead(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /) -> None:
        """Announce a statement that is run before anything is written, so that its rows are on their way."""
        ...

    def id_ahead(self, table: str, column: str, /) -> None:
        """Announce that a row is added for its id, so that nobody has to wait for that then."""
        ...

    def stream(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ..., /
    ) -> Rows:
        """Run a statement that may return more rows than the memory should hold."""
        ...

    def add_rows(self, table: str, columns: Mapping[str, Sequence[Any]], /) -> None:
        """Insert rows that are not there, however many, given as the values of each column."""
        ...

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> object:
        """Run a statement with each of these parameters."""
        ...

    def foreign_changes(self) -> int:
        """Return a number that changes at least whenever another connection commits."""
        ...

    def added_id(self, column: str, statement: str, parameters: Sequence[Any], /) -> int:
        """Insert a row, and return the id that it got in a column."""
        ...

    def change_mark(self) -> tuple[int, int]:
        """Return two numbers, one of which changes with every change of the ledger by anybody."""
        ...

    def ensure_index(self, name: str) -> None:
        """Make one of ``INDEXES``, unless it is there."""
        ...

    def drop_index(self, name: str) -> None:
        """Drop one of ``INDEXES`` that only one operation needs."""
        ...

    def ensure_trigger(self, name: str, event: str, table: str, statement: str) -> None:
        """Have a statement run after each row that is inserted, updated or deleted (``event``)."""
        ...

    def drop_trigger(self, name: str) -> None:
        """Drop a trigger, unless it is gone."""
        ...


INDEXES = MappingProxyType(
    {
        "immunos_mcp_measured_usage_request": (
            "immunos_mcp_measured_usage (request_id) WHERE request_id IS NOT NULL"
        ),
        "immunos_mcp_measured_usage_conversation": (
            "immunos_mcp_measured_usage (conversation) WHERE conversation IS NOT NULL"
        ),
        "immunos_mcp_measured_usage_moment": "immunos_mcp_measured_usage (measured_at)",
        "immunos_mcp_pruning_usage": "immunos_mcp_usage (decision_id)",
        "immunos_mcp_usage_at": "immunos_mcp_usage (recorded_at)",
        "immunos_mcp_measured_usage_at": "immunos_mcp_measured_usage (measured_at)",
        "immunos_mcp_request_usage_at": "immunos_mcp_request_usage (finished_at)",
        "immunos_mcp_side_usage_at": "immunos_mcp_side_usage (used_at)",
    }
)
"""Indexes that operations ask for, since most files do not need them and would only grow by them."""

IN_LIST = "IN (SELECT value FROM json_each(?))"
"""A condition: the text is in the list that ``list_parameter`` encodes as one parameter."""

IN_NUMBERS = "IN (SELECT CAST(value AS INTEGER) FROM json_each(?))"
"""A condition: the number is in the list that ``list_parameter`` encodes as one parameter."""


def list_parameter(values: Iterable[str | int | None]) -> str:
    """Encode values as the parameter of ``IN_LIST``; one statement handles any number of them."""
    return encode([*values]).decode()


def change_mark(connection: Connection) -> tuple[int, int]:
    """Return two numbers, one of which changes with every change of the ledger by anybody.

    They are comparable as long as the connection is open.
    """
    return connection.change_mark()
