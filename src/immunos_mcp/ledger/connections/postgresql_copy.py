"""Copies a ledger file into an empty team on PostgreSQL, and compares both before anything is stored."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from itertools import zip_longest
from math import isclose
from typing import TYPE_CHECKING, NamedTuple

from psycopg import errors

from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.postgresql import begin_writing
from immunos_mcp.ledger.connections.postgresql_connection import PostgresqlConnection
from immunos_mcp.ledger.connections.postgresql_link import (
    MIGRATE,
    open_driver,
    refuse_other_version,
    team_id,
    translated,
)
from immunos_mcp.ledger.connections.postgresql_schema import OF_NOBODY, column_kinds
from immunos_mcp.ledger.history import history
from immunos_mcp.ledger.people import give_to
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA
from immunos_mcp.replay.engine import replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.dialect import Connection

_PORTION = 5000

_SUMS: Mapping[str, str] = {
    # Of remainders, since a sum of large numbers may not be a number of 64 bits.
    "INTEGER": "coalesce(sum({0} % 1000003), 0)",
    "REAL": "coalesce(sum({0}), 0)",
    "TEXT": "coalesce(sum(length({0})), 0)",
}


class Copied(NamedTuple):
    """What was copied.

    Attributes:
        rows: the number of rows by table.
        decisions: how many decisions were replayed, alike in both.
    """

    rows: Mapping[str, int]
    decisions: int


def copy(file: Path, address: DatabaseAddress, person: str | None = None) -> Copied:
    """Copy a ledger file into a team that has nothing yet; all of it is stored or nothing.

    Counts, sums and a replay of the copy are compared with those of the file before it is stored.

    Args:
        file: the ledger file.
        address: the team's ledger.
        person: whose everything is that the file has of nobody known; added as a member if need be.

    Raises:
        LedgerError: one of the two cannot be used, the team has a ledger, or the copy is not the same.
    """
    with InlineSqliteLedger(file) as source:
        return run_sync(source.read(_copy, address, person))


def _copy(source: Connection, address: DatabaseAddress, person: str | None) -> Copied:
    with translated(address), closing(open_driver(address)) as driver:
        refuse_other_version(driver, address)
        target = PostgresqlConnection(driver)
        kinds = {name: found for name, found in column_kinds().items() if name not in OF_NOBODY}
        begin_writing(target, team_id(target, address))
        target.execute("SET LOCAL immunos.noting = off")
        target.execute("SET LOCAL statement_timeout = 0")
        target.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        _refuse_stored(target, address, kinds)
        rows = {
            table.removeprefix(schema.PREFIX): _copy_table(source, target, table, tuple(columns))
            for table, columns in kinds.items()
        }
        try:
            _advance_ids(target, kinds)
        except errors.InsufficientPrivilege:
            raise LedgerError(
                f"ledger {address} can only be copied into by the owner of its tables, the user who"
                f" {MIGRATE.removeprefix('run ')} was run as"
            ) from None
        target.execute("ANALYZE")
        decisions = _compare(source, target, address, kinds)
        if person is not None:
            give_to(target, person, datetime.now(UTC))
        target.pipeline.commit()
    return Copied({table: number for table, number in rows.items() if number}, decisions)


def _refuse_stored(
    target: PostgresqlConnection, address: DatabaseAddress, tables: Iterable[str]
) -> None:
    found = [
        (table, target.execute(f"SELECT 1 FROM {table} LIMIT 1"))  # noqa: S608  # constants
        for table in tables
    ]
    for table, rows in found:
        if rows.fetchone() is not None:
            raise LedgerError(
                f"ledger {address} is not empty: team {address.team!r} has rows in {table}; copy into"
                " another team"
            )


def _copy_table(
    source: Connection, target: PostgresqlConnection, table: str, columns: tuple[str, ...]
) -> int:
    names = ", ".join(columns)
    cursor = source.stream(f"SELECT {names} FROM {table}")  # noqa: S608  # constants
    rows = cursor.fetchmany(_PORTION)
    if not rows:
        return 0
    # Tables that keep teams apart cannot be copied into directly.
    target.execute(
        f"CREATE TEMPORARY TABLE copied ON COMMIT DROP AS SELECT {names} FROM {table} LIMIT 0"  # noqa: S608  # constants
    )
    copying = f"COPY copied ({names}) FROM STDIN".encode()
    with target.without_pipeline() as driver, driver.cursor().copy(copying) as copied:
        while rows:
            for row in rows:
                copied.write_row(row)
            rows = cursor.fetchmany(_PORTION)
    moved = target.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM copied")  # noqa: S608  # constants
    target.execute("DROP TABLE copied")
    return moved.rowcount


def _advance_ids(target: PostgresqlConnection, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Let the next ids come after those that were copied."""
    for table, columns in tables.items():
        key = next(iter(columns))
        (sequence,) = target.execute(
            "SELECT pg_get_serial_sequence(?, ?)", (f"{TABLES_SCHEMA}.{table}", key)
        ).fetchone()
        if sequence is not None:
            target.execute(
                f"SELECT setval('{sequence}', greatest(max({key}), (SELECT last_value FROM {sequence})))"  # noqa: S608  # constants
                f" FROM {table} HAVING count(*) > 0"
            ).fetchone()


def _compare(
    source: Connection,
    target: Connection,
    address: DatabaseAddress,
    tables: Mapping[str, Mapping[str, str]],
) -> int:
    for table, columns in tables.items():
        sums = ", ".join(_SUMS[kind].format(name) for name, kind in columns.items())
        summing = f"SELECT count(*), {sums} FROM {table}"  # noqa: S608  # constants
        ours, theirs = (it.execute(summing).fetchone() for it in (source, target))
        if not all(map(_are_alike, ours, theirs)):
            raise LedgerError(
                f"ledger {address} would differ from the file in {table}; nothing was stored"
            )
    number = 0
    for ours, theirs in zip_longest(*(_replayed(it) for it in (source, target))):
        if ours != theirs:
            raise LedgerError(
                f"ledger {address} would replay otherwise than the file; nothing was stored"
            )
        number += 1
    return number


def _are_alike(ours: float, theirs: float) -> bool:
    # Sums of fractions depend on the order.
    return ours == theirs or (isinstance(ours, float) and isclose(ours, theirs, rel_tol=1e-9))


def _replayed(connection: Connection) -> Iterator[tuple[object, ...]]:
    """Return each decision with what came out when it was replayed."""
    past = history(connection)
    for each in replay(past, past.settings_of):
        yield each.past, each.session_tokens, each.choice
