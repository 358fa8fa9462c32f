"""Makes and migrates the tables on PostgreSQL, which only a command does, as the role that owns them."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from psycopg import errors, sql

from immunos_mcp.database_address import DEFAULT_TEAM, is_team_name
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger import schema, team_schema
from immunos_mcp.ledger.connections import postgresql_schema
from immunos_mcp.ledger.connections.postgresql_link import (
    AS_OWNER,
    open_driver,
    refuse_other_version,
    rolled_back,
    translated,
    versions,
)
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA, TEAM_NAME, TEAM_TABLE, VIEWS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from immunos_mcp.database_address import DatabaseAddress

_LOCK = 0x696D6D75

_LOCK_ATTEMPTS = 60
_LOCK_PAUSE_SECONDS = 0.2
# Shorter than the second after which the database looks for deadlocks, and would end a server's transaction.
_LOCK_TIMEOUT = b"SET LOCAL lock_timeout = '500ms'"
_RELATIONS = (
    b"SELECT relnamespace::regnamespace::text, relname FROM pg_class"
    b" WHERE relnamespace::regnamespace::text = ANY(%s) AND relkind IN ('r', 'v') ORDER BY oid"
)
_GRANTED = (
    b"SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl)"
    b" WHERE oid = to_regclass(%s) AND grantee NOT IN (0, relowner)"
)


class Migrated(NamedTuple):
    """The version of a ledger's tables before and after a migration; 0: there were none."""

    before: int
    after: int


def migrate(address: DatabaseAddress, grant_to: str | None = None) -> Migrated:
    """Bring the tables to this program's version, in one transaction; safe to repeat.

    Args:
        address: the database; its user will own the tables.
        grant_to: a role that may serve teams from then on, and owns nothing; those that could still can.

    Raises:
        InvalidInputError: there is no such role.
        LedgerError: the database cannot be used, somebody uses it all the time, or its tables are newer.
    """
    with (
        translated(address, AS_OWNER),
        closing(open_driver(address)) as driver,
        rolled_back(driver),
    ):
        driver.execute(b"BEGIN")
        driver.execute(b"SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        driver.execute(f"SET LOCAL search_path = {TABLES_SCHEMA}".encode())
        driver.execute(b"SET LOCAL statement_timeout = 0")
        before = versions(driver)
        if before > (schema.LATEST, team_schema.LATEST):
            refuse_other_version(driver, address)
        if before not in {(0, 0), (schema.LATEST, team_schema.LATEST)}:
            _lock_everything(driver)
        serving = _serving_roles(driver)
        for statement in _statements(*before):
            driver.execute(statement.encode())
        _mark(driver, before)
        if before[0] == 0:
            _add_team(driver, DEFAULT_TEAM)
        # Views that were made again have lost what was granted on them.
        for role in serving:
            _grant(driver, role)
        if grant_to is not None:
            _grant_to_named(driver, grant_to)
        driver.execute(b"COMMIT")
    return Migrated(before[0], schema.LATEST)


def _lock_everything(driver: psycopg.Connection) -> None:
    """Wait until servers have finished what is under way, and keep them from the tables until the end.

    Raises:
        psycopg.errors.LockNotAvailable: somebody does not let go of them.
    """
    found = driver.execute(_RELATIONS, ([TABLES_SCHEMA, VIEWS_SCHEMA],)).fetchall()
    names = ", ".join(sql.Identifier(*row).as_string(driver) for row in found)
    locking = f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE".encode()
    driver.execute(b"SAVEPOINT unlocked")
    driver.execute(_LOCK_TIMEOUT)
    for attempts_left in reversed(range(_LOCK_ATTEMPTS)):
        try:
            driver.execute(locking)
        except errors.LockNotAvailable:
            if not attempts_left:
                raise
            # This also frees what was locked, so that those who have a part of it can go on.
            driver.execute(b"ROLLBACK TO unlocked")
            driver.execute(_LOCK_TIMEOUT)
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return


def _statements(ledger: int, team: int) -> Iterator[str]:
    for each in (TABLES_SCHEMA, VIEWS_SCHEMA):
        yield f"CREATE SCHEMA IF NOT EXISTS {each}"
    if ledger < schema.LATEST:
        yield from postgresql_schema.statements(ledger, schema.LATEST)
    for step in team_schema.STEPS[team:]:
        yield from step
    if (ledger, team) != (schema.LATEST, team_schema.LATEST):
        yield from postgresql_schema.permanent_statements()


def _mark(driver: psycopg.Connection, before: tuple[int, int]) -> None:
    now = utc_text(datetime.now(UTC))
    marks = (
        (schema.VERSION_TABLE, before[0], schema.LATEST),
        (team_schema.VERSION_TABLE, before[1], team_schema.LATEST),
    )
    for table, first, last in marks:
        marking = f"INSERT INTO {table} (version, applied_at) VALUES (%s, %s)"  # noqa: S608  # constants
        steps = [(step, now) for step in range(first + 1, last + 1)]
        driver.cursor().executemany(marking.encode(), steps)


def add_team(address: DatabaseAddress, name: str) -> int:
    """Add a team, as the owner of the tables; return its id.

    Raises:
        InvalidInputError: there is a team of that name, or it is no name for a team.
        LedgerError: the database cannot be used, or its tables are those of another version.
    """
    if not is_team_name(name):
        expected = "letters, digits, - and _, at most 64"
        raise InvalidInputError(Problem("team", name, expected))
    with (
        translated(address, AS_OWNER),
        closing(open_driver(address)) as driver,
        rolled_back(driver),
    ):
        refuse_other_version(driver, address, remedy=AS_OWNER)
        driver.execute(b"BEGIN")
        try:
            added = _add_team(driver, name)
        except errors.UniqueViolation:
            message = f"team: there is a team {name} already"
            raise InvalidInputError(Problem("team", name, message=message)) from None
        driver.execute(b"COMMIT")
    return added


def _add_team(driver: psycopg.Connection, name: str) -> int:
    driver.execute(f"SELECT set_config('{TEAM_NAME}', %s, true)".encode(), (name,))
    adding = (
        f"INSERT INTO {TABLES_SCHEMA}.{TEAM_TABLE} (name, created_at) VALUES (%s, %s)"  # noqa: S608  # constants
        " RETURNING team_id"
    )
    now = utc_text(datetime.now(UTC))
    ((added,),) = driver.execute(adding.encode(), (name, now)).fetchall()
    return int(added)


def _serving_roles(driver: psycopg.Connection) -> list[str]:
    """Return the roles that may serve teams already, quoted."""
    place = f"{VIEWS_SCHEMA}.{TEAM_TABLE}"
    return [role for (role,) in driver.execute(_GRANTED, (place,)).fetchall()]


def _grant(driver: psycopg.Connection, quoted: str) -> None:
    for statement in postgresql_schema.grants(quoted):
        driver.execute(statement.encode())


def _grant_to_named(driver: psycopg.Connection, role: str) -> None:
    try:
        _grant(driver, sql.Identifier(role).as_string(driver))
    except errors.UndefinedObject:
        expected = "a role of the database (CREATE ROLE makes one)"
        raise InvalidInputError(Problem("--grant-to", role, expected)) from None
