"""Exports the ledger for other programs: its tables under public names, in batches of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from immunos_mcp.errors import InvalidInputError, Problem, nearest
from immunos_mcp.ledger import exported_tables
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection

Value: TypeAlias = "str | int | float | None"

BATCH_ROWS = 1_000


class ExportedRows(NamedTuple):
    """Some rows of a table.

    Attributes:
        table: its public name.
        columns: their public names.
        rows: one value per column; the first batch of a table is empty.
    """

    table: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]


TABLES: tuple[str, ...] = tuple(exported_tables.TABLES)
"""The public names of all tables."""


def chosen_tables(names: Sequence[str]) -> Sequence[str]:
    """Return the named tables, or all of them.

    Raises:
        InvalidInputError: a table does not exist or is named twice.
    """
    for place, table in enumerate(names):
        if table not in TABLES:
            expected = f"one of {', '.join(TABLES)}"
            raise InvalidInputError(Problem("table", table, expected, nearest(table, TABLES)))
        if table in names[:place]:
            message = f"table: {table} is named twice"
            raise InvalidInputError(Problem("table", table, message=message))
    return names or TABLES


def export(
    connection: Connection,
    tables: Sequence[str],
    since: datetime | None,
    sink: Callable[[ExportedRows], None],
) -> None:
    """Pass every row of some tables to ``sink``, all from one snapshot.

    Args:
        connection: in an open transaction, which provides the snapshot.
        tables: public names.
        since: skip rows from before this time; ``None``: export all.
        sink: called with an empty batch at the beginning of each table, then with its rows.
    """
    parameters = {} if since is None else {"since": utc_text(since)}
    for name in tables:
        table = exported_tables.TABLES[name]
        sink(ExportedRows(name, table.names, ()))
        cursor = connection.stream(table.query(is_limited=since is not None), parameters)
        while rows := cursor.fetchmany(BATCH_ROWS):
            sink(ExportedRows(name, table.names, rows))
