"""One connection to PostgreSQL: opened on use, and again after the database went away."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from immunos_mcp.errors import LedgerBusyError, LedgerError
from immunos_mcp.ledger import schema, team_schema
from immunos_mcp.ledger.connections.postgresql_connection import PostgresqlConnection, adapt
from immunos_mcp.ledger.team_schema import TABLES_SCHEMA, TEAM_NAME, VIEWS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Generator

    from immunos_mcp.database_address import DatabaseAddress

CONNECT_SECONDS = 5
_PAUSE_SECONDS = 0.1
_GONE = ("57P", "25P03")
"""What the database says when it ends a connection: it stops, or has not heard of it for too long."""
_TIMEOUTS = (
    "SET lock_timeout = '5s'; SET statement_timeout = '30s';"
    " SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on;"
    f" SET search_path = {VIEWS_SCHEMA}"
)

LOSSES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.IdleInTransactionSessionTimeout,
)
"""Errors that may be that a connection was lost."""

_OF_POOLERS = (errors.DuplicatePreparedStatement, errors.InvalidSqlStatementName)
"""Errors that a prepared statement is there already, or no more: not on a connection of one's own."""

# Lost connections are reported by whoever notices them.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

MIGRATE = "run `immunos-mcp db migrate`"
GRANT = "run `immunos-mcp db migrate --grant-to USER` as the owner of its tables"
AS_OWNER = "connect as the owner of its tables, or of the database while there are none"


class Link:
    """A connection of one thread to the tables of this version.

    Attributes:
        address: where the database is.
    """

    def __init__(self, address: DatabaseAddress, was_open: Event | None = None) -> None:
        """Create a link that is not open yet; ``was_open`` is shared by links to one database."""
        self.address = address
        self._connection: PostgresqlConnection | None = None
        self._was_open = was_open or Event()

    def connection(self, deadline: float) -> PostgresqlConnection:
        """Return the connection; where there was one, it is tried until a deadline to open another.

        Raises:
            psycopg.Error: there is none.
            LedgerError: the tables are those of another version.
        """
        while self._connection is None or self._connection.driver.closed:
            try:
                self._connection = self._opened()
            except psycopg.OperationalError:
                if not self._was_open.is_set() or time.monotonic() + _PAUSE_SECONDS > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
        return self._connection

    def _opened(self) -> PostgresqlConnection:
        driver = open_driver(self.address)
        try:
            # A migration only adds, so those who were there before it can stay until they are upgraded.
            refuse_other_version(driver, self.address, may_be_newer=self._was_open.is_set())
        except BaseException:
            driver.close()
            raise
        self._was_open.set()
        return PostgresqlConnection(driver)

    def is_lost(self, error: psycopg.Error) -> bool:
        """Return whether an error is that the connection was lost, which is closed then."""
        if self._connection is None:
            return True
        # Those without a code are the driver's own; the connection may not know yet that it is lost.
        code = error.sqlstate or ""
        is_lost = code.startswith(_GONE) or not code
        if is_lost:
            self.close()
        return is_lost

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        if self._connection is not None:
            self._connection.driver.close()
            self._connection = None


def open_driver(address: DatabaseAddress) -> psycopg.Connection:
    """Connect to a database, whatever is in it."""
    driver = psycopg.connect(
        address.text,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        fallback_application_name="immunos-mcp",
    )
    driver.execute(_TIMEOUTS.encode())
    adapt(driver)
    return driver


def versions(driver: psycopg.Connection) -> tuple[int, int]:
    """Return the versions of the ledgers' tables and of the teams'; 0: there are none."""
    ledger, team = (
        _version(driver, table) for table in (schema.VERSION_TABLE, team_schema.VERSION_TABLE)
    )
    return ledger, team


def _version(driver: psycopg.Connection, table: str) -> int:
    name = f"{TABLES_SCHEMA}.{table}"
    row = driver.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if row is None or row[0] is None:
        return 0
    newest = f"SELECT max(version) FROM {name}"  # noqa: S608  # a constant
    found = driver.execute(newest.encode()).fetchone()
    return 0 if found is None else int(found[0] or 0)


def refuse_other_version(
    driver: psycopg.Connection,
    address: DatabaseAddress,
    *,
    may_be_newer: bool = False,
    remedy: str = GRANT,
) -> None:
    """Raise ``LedgerError`` if the tables are missing, or those of another version of this program.

    ``remedy`` is what helps a user who may not look at them.
    """
    try:
        found = versions(driver)
    except errors.InsufficientPrivilege:
        raise LedgerError(f"ledger {address} has not been opened to this user; {remedy}") from None
    expected = schema.LATEST, team_schema.LATEST
    if found == (0, 0):
        raise LedgerError(f"ledger {address} has no tables yet; {MIGRATE} first")
    # If a ledger's tables are of the same version, those that only teams have are not.
    shown = 2 if found[0] == expected[0] else 1
    theirs, ours = (".".join(map(str, each[:shown])) for each in (found, expected))
    is_newer = found[0] > expected[0] or found[1] > expected[1]
    if is_newer and may_be_newer:
        return
    if is_newer:
        raise LedgerError(
            f"ledger {address} was written by a newer immunos-mcp (ledger version {theirs}, this"
            f" program supports {ours}); upgrade immunos-mcp, and restart clients that run it"
        )
    if found != expected:
        raise LedgerError(
            f"ledger {address} is older than this program (ledger version {theirs}, this program"
            f" needs {ours}); {MIGRATE} first"
        )


def team_id(connection: PostgresqlConnection, address: DatabaseAddress) -> int:
    """Return the id of the team that an address names.

    Raises:
        LedgerError: there is no such team.
    """
    looking = (
        "SELECT (SELECT team_id FROM immunos_mcp_team WHERE name = named)"  # noqa: S608  # a constant
        f" FROM set_config('{TEAM_NAME}', ?, true) AS named"
    )
    (found,) = connection.execute(looking, (address.team,)).fetchone()
    if found is None:
        raise LedgerError(
            f"ledger {address} has no team {address.team!r}; `immunos-mcp team add` adds one"
        )
    return int(found)


@contextmanager
def translated(address: DatabaseAddress, remedy: str = GRANT) -> Generator[None]:
    """Turn failures of the database into a ``LedgerError``; all other errors pass through.

    ``remedy`` is what helps a user who may not do what is done.
    """
    try:
        yield
    except (errors.LockNotAvailable, errors.QueryCanceled) as error:
        words = words_of(error, address)
        raise LedgerBusyError(f"ledger {address} is busy; try again ({words})") from error
    except errors.InsufficientPrivilege as error:
        words = words_of(error, address)
        raise LedgerError(
            f"ledger {address} does not let this user do that ({words}); {remedy}"
        ) from error
    except _OF_POOLERS:
        raise LedgerError(
            f"ledger {address} is behind a pooler that gives each transaction another connection; connect"
            " to the database itself, or to a pool in session mode"
        ) from None
    except LOSSES as error:
        words = words_of(error, address)
        raise LedgerError(
            f"ledger {address} cannot be used ({words}); check the address and the database"
        ) from None
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        # The driver cannot read the address, and says so with all of it.
        raise LedgerError(f"ledger {address} has no valid address of a database") from None


def words_of(error: BaseException, address: DatabaseAddress) -> str:
    """Return what an error says, in one line without the password."""
    words = " ".join(str(error).split()) or type(error).__name__
    for secret in address.secrets:
        words = words.replace(secret, "***")
    return words


@contextmanager
def undone(connection: PostgresqlConnection) -> Generator[None]:
    """End a transaction that failed, so that the connection can be used for the next one."""
    try:
        yield
    except Exception:
        if not connection.driver.closed:
            try:
                connection.pipeline.roll_back()
            except psycopg.Error:
                connection.driver.close()
        raise
    except BaseException:
        # Nobody knows what it was waiting for.
        connection.driver.close()
        raise


@contextmanager
def rolled_back(driver: psycopg.Connection) -> Generator[None]:
    """End a transaction that failed, as far as there is still a connection to do so."""
    try:
        yield
    except BaseException:
        if not driver.closed:
            with suppress(psycopg.Error):
                driver.rollback()
        raise
