"""The connection that SQLite's ledgers hand to operations."""

from __future__ import annotations

import sqlite3
from itertools import chain
from typing import TYPE_CHECKING, Any

from immunos_mcp.ledger.dialect import INDEXES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from immunos_mcp.ledger.connections.open_files import OpenFiles

_ROWS_OF_A_STATEMENT = 40


class SqliteConnection(sqlite3.Connection):
    """What operations need of SQLite; ``Connection`` describes it.

    Attributes:
        open_files: its files, once they are open.
    """

    is_remote: bool = False
    last_uses: tuple[object, object] | None = None
    open_files: OpenFiles
    last_settings: str | None = None
    person_id: int | None = None

    def foreign_changes(self) -> int:
        """Return a number that changes whenever another connection commits."""
        (version,) = self.execute("PRAGMA data_version").fetchone()
        return int(version)

    def added_id(self, _column: str, statement: str, parameters: Sequence[Any], /) -> int:
        """Insert a row, and return its id, faster than ``RETURNING`` does."""
        added = self.execute(statement, parameters).lastrowid
        assert added is not None
        return added

    def stream(
        self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /
    ) -> sqlite3.Cursor:
        """Run a statement, as ``execute`` does, which reads rows as they are asked for."""
        return self.execute(statement, parameters)

    def change_mark(self) -> tuple[int, int]:
        """Return two numbers, one of which changes with every change of the ledger by anybody."""
        return self.foreign_changes(), self.total_changes

    def ahead(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> None:
        """Do nothing: there is nothing to wait for."""

    def add_rows(self, table: str, columns: Mapping[str, Sequence[Any]], /) -> None:
        """Insert rows, several in a statement: where a table has triggers, each statement costs more."""
        # The driver takes longer over an absent value than over all that are there.
        empty = {name for name, values in columns.items() if all(each is None for each in values)}
        rows = list(zip(*(columns[name] for name in columns if name not in empty), strict=True))
        row = f"({', '.join('NULL' if name in empty else '?' for name in columns)})"
        adding = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608  # constants
        several = len(rows) - len(rows) % _ROWS_OF_A_STATEMENT
        if several:
            self.executemany(
                adding + ", ".join([row] * _ROWS_OF_A_STATEMENT),
                (
                    tuple(chain.from_iterable(rows[first : first + _ROWS_OF_A_STATEMENT]))
                    for first in range(0, several, _ROWS_OF_A_STATEMENT)
                ),
            )
        self.executemany(adding + row, rows[several:])

    def id_ahead(self, table: str, column: str, /) -> None:
        """Do nothing, likewise."""

    def ensure_index(self, name: str) -> None:
        """Make one of ``INDEXES``, unless it is there."""
        self.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {INDEXES[name]}")

    def drop_index(self, name: str) -> None:
        """Drop one of ``INDEXES``."""
        self.execute(f"DROP INDEX {name}")

    def ensure_trigger(self, name: str, event: str, table: str, statement: str) -> None:
        """Have a statement run after each row that is inserted, updated or deleted."""
        self.execute(
            f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} BEGIN {statement}; END"
        )

    def drop_trigger(self, name: str) -> None:
        """Drop a trigger, unless it is gone."""
        self.execute(f"DROP TRIGGER IF EXISTS {name}")
