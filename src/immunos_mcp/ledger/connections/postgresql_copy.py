"""Copies a ledger file into an empty team on PostgreSQL, and compares both before anything is stored."""

from __future__ import annotations

import hashlib
from contextlib import closing
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
    rolled_back,
    team_id,
    translated,
)
from immunos_mcp.ledger.connections.postgresql_schema import OF_NOBODY, column_kinds
from immunos_mcp.ledger.history import replay
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA
from immunos_mcp.replay.engine import replay as replayed_decisions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import psycopg

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.replay.history import History

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


def copy(file: Path, address: DatabaseAddress) -> Copied:
    """Copy a ledger file into a team that has nothing yet; all of it is stored or nothing.

    Counts, sums and a replay of the copy are compared with those of the file before it is stored.

    Raises:
        LedgerError: one of the two cannot be used, the team has a ledger, or the copy is not the same.
    """
    with InlineSqliteLedger(file) as source:
        return run_sync(source.read(_copy, address))


def _copy(source: Connection, address: DatabaseAddress) -> Copied:
    with translated(address), closing(open_driver(address)) as driver, rolled_back(driver):
        refuse_other_version(driver, address)
        target = PostgresqlConnection(driver)
        begin_writing(driver, team_id(target, address))
        driver.execute(b"SET LOCAL immunos.noting = off")
        driver.execute(b"SET LOCAL statement_timeout = 0")
        driver.execute(b"SET LOCAL idle_in_transaction_session_timeout = 0")
        kinds = {name: found for name, found in column_kinds().items() if name not in OF_NOBODY}
        _refuse_stored(driver, address, kinds)
        rows = {
            table.removeprefix(schema.PREFIX): _copy_table(source, driver, table, tuple(columns))
            for table, columns in kinds.items()
        }
        try:
            _advance_ids(driver, kinds)
        except errors.InsufficientPrivilege:
            raise LedgerError(
                f"ledger {address} can only be copied into by the owner of its tables, the user who"
                f" {MIGRATE.removeprefix('run ')} was run as"
            ) from None
        driver.execute(b"ANALYZE")
        with driver.pipeline() as pipeline:
            target.begin(pipeline)
            decisions = _compare(source, target, address, kinds)
        driver.execute(b"COMMIT")
    return Copied({table: number for table, number in rows.items() if number}, decisions)


def _refuse_stored(
    driver: psycopg.Connection, address: DatabaseAddress, tables: Mapping[str, object]
) -> None:
    for table in tables:
        looking = f"SELECT 1 FROM {table} LIMIT 1"  # noqa: S608  # a constant
        row = driver.execute(looking.encode()).fetchone()
        if row is not None:
            raise LedgerError(
                f"ledger {address} is not empty: team {address.team!r} has rows in {table}; copy into"
                " another team"
            )


def _copy_table(
    source: Connection, driver: psycopg.Connection, table: str, columns: tuple[str, ...]
) -> int:
    names = ", ".join(columns)
    # Tables that keep teams apart cannot be copied into directly.
    making = f"CREATE TEMPORARY TABLE copied ON COMMIT DROP AS SELECT {names} FROM {table} LIMIT 0"  # noqa: S608  # constants
    driver.execute(making.encode())
    cursor = source.stream(f"SELECT {names} FROM {table}")  # noqa: S608  # constants
    with driver.cursor().copy(f"COPY copied ({names}) FROM STDIN".encode()) as copying:
        while rows := cursor.fetchmany(_PORTION):
            for row in rows:
                copying.write_row(row)
    moving = f"INSERT INTO {table} ({names}) SELECT {names} FROM copied"  # noqa: S608  # constants
    moved = driver.execute(moving.encode()).rowcount
    driver.execute(b"DROP TABLE copied")
    return moved


def _advance_ids(driver: psycopg.Connection, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Let the next ids come after those that were copied."""
    for table, columns in tables.items():
        key = next(iter(columns))
        row = driver.execute(
            b"SELECT pg_get_serial_sequence(%s, %s)", (f"{TABLES_SCHEMA}.{table}", key)
        ).fetchone()
        if row is not None and row[0] is not None:
            advancing = (
                f"SELECT setval('{row[0]}', greatest(max({key}), (SELECT last_value FROM {row[0]})))"  # noqa: S608  # constants
                f" FROM {table} HAVING count(*) > 0"
            )
            driver.execute(advancing.encode())


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
    (number, digest), other = (replay(it, _replayed) for it in (source, target))
    if (number, digest) != other:
        raise LedgerError(
            f"ledger {address} would replay otherwise than the file; nothing was stored"
        )
    return number


def _are_alike(ours: float, theirs: float) -> bool:
    # Sums of fractions depend on the order.
    return ours == theirs or (isinstance(ours, float) and isclose(ours, theirs, rel_tol=1e-9))


def _replayed(history: History) -> tuple[int, str]:
    """Return how many decisions were replayed, and a digest of what came out."""
    number, digest = 0, hashlib.sha256()
    for each in replayed_decisions(history, history.settings_of):
        number += 1
        digest.update(repr((each.past, each.session_tokens, each.choice)).encode())
    return number, digest.hexdigest()
