"""Checks what SQLite cannot: whether stored values mean something to this program."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    Outcome,
    Provider,
    Reason,
    TaskState,
    WarningLevel,
)
from immunos_mcp.errors import shown
from immunos_mcp.ledger import schema
from immunos_mcp.rules.roles import Role

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

EXEMPT = frozenset({"settings", schema.VERSION_TABLE})
"""Tables with values that other programs write, or that nothing is decided by."""


def _moment(text: str) -> None:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it has no time zone")


def _changed_by(text: str) -> None:
    # Counts of decisions that nothing changed have an empty text.
    if text:
        ChangedBy(text)


def _object_with(member: str) -> Callable[[str], None]:
    def check(text: str) -> None:
        found = json.loads(text)
        if not isinstance(found, dict) or member not in found:
            raise ValueError(f"it has no {member}")

    return check


_CHECKS: dict[str, Callable[[str], object]] = {
    "at": _moment,
    "before": _moment,
    "day": datetime.fromisoformat,
    "provider": Provider,
    "reason": Reason,
    "role": Role,
    "classification": Classification,
    "outcome": Outcome,
    "warning_level": WarningLevel,
    "changed_by": _changed_by,
    "engine": _object_with("state"),
    "state": TaskState,
    "settings": _object_with("session_limit"),
}


def problem(table: str, columns: Sequence[str], row: Sequence[Any]) -> str | None:
    """Return what is wrong with a row read with ``as_text``; ``None``: nothing."""
    for column, value in zip(columns, row, strict=True):
        if not isinstance(value, str):
            continue
        try:
            value.encode()
            check = _moment if column.endswith("_at") else _CHECKS.get(column)
            if check is not None and table.startswith(schema.PREFIX) and table not in EXEMPT:
                check(value)
        except ValueError:
            return f"{column} of {table} is {shown(value)}"
    return None


def as_text(stored: bytes) -> str:
    """Decode stored text, whatever bytes it has; a ``text_factory``."""
    return stored.decode("utf-8", "surrogateescape")


def our_tables(connection: sqlite3.Connection) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return the tables of this program in a file, each with its columns."""
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if name.startswith(schema.PREFIX)
    ]
    for name in names:
        yield name, columns_of(connection, name)


def columns_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a table, in order."""
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return tuple(name for (name,) in rows)


def find_version_problem(connection: sqlite3.Connection, version: int) -> str | None:
    """Return why a ledger cannot be of the version that it is marked as; ``None``: it can be."""
    names = _names(connection)
    marks = (
        connection.execute(
            "SELECT 1 FROM immunos_mcp_schema_version WHERE version BETWEEN 1 AND ?", (version,)
        )
        if schema.VERSION_TABLE in names
        else ()
    )
    if len([*marks]) != version:
        return f"it is marked as version {version}, but not as each version before"
    later = schema.made(schema.LATEST).names - schema.made(version).names
    found = sorted(later & names)
    return f"it is marked as version {version}, but has {found[0]}" if found else None


def _names(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    # In a damaged list, names can be of any type.
    return {name for (name,) in found if str(name).startswith(schema.PREFIX)}


def find_problem(connection: sqlite3.Connection) -> str | None:
    """Return the first thing that is wrong in a ledger, beyond what SQLite notices by itself."""
    tables = dict(our_tables(connection))
    for name, columns in schema.made(schema.LATEST).columns.items():
        if not name.startswith(schema.PREFIX):
            continue
        missing = set(columns) - set(tables.get(name, ()))
        if missing:
            return f"{name} has no {', '.join(sorted(missing))}" if name in tables else f"no {name}"
    factory, connection.text_factory = connection.text_factory, as_text
    try:
        for name, columns in tables.items():
            for row in connection.execute(f"SELECT {', '.join(columns)} FROM {name}"):  # noqa: S608  # names of our own
                found = problem(name, columns, row)
                if found is not None:
                    return found
        orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    finally:
        connection.text_factory = factory
    return None if orphan is None else f"a row of {orphan[0]} refers to one that is gone"
