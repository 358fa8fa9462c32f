"""Opens the ledger that an option names; only what that ledger needs is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.errors import LedgerError

if TYPE_CHECKING:
    from types import ModuleType

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.connections.ledger import InlineLedger, ThreadedLedger
    from immunos_mcp.ledger.connections.teams import TeamLedgers


def inline_ledger(
    database: Path | DatabaseAddress, busy_timeout_seconds: float | None = None
) -> InlineLedger:
    """Return the ledger of a command, for a ``with`` block."""
    if isinstance(database, Path):
        from immunos_mcp.ledger.connections.inline import InlineSqliteLedger

        if busy_timeout_seconds is None:
            return InlineSqliteLedger(database)
        return InlineSqliteLedger(database, busy_timeout_seconds)
    ledger: InlineLedger = _postgresql(database).InlinePostgresqlLedger(database)
    return ledger


def threaded_ledger(database: Path | DatabaseAddress) -> ThreadedLedger:
    """Return the ledger of a server, for an ``async with`` block."""
    if isinstance(database, Path):
        from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger

        return ThreadedSqliteLedger(database)
    ledger: ThreadedLedger = _postgresql(database).ThreadedPostgresqlLedger(database)
    return ledger


def team_ledgers(database: Path | DatabaseAddress, *, every_team: bool) -> TeamLedgers:
    """Return the ledgers of the teams of a server, for an ``async with`` block.

    ``every_team`` of a database is served if the address names none.
    """
    if isinstance(database, Path) or database.names_team or not every_team:
        from immunos_mcp.database_address import DEFAULT_TEAM  # few commands need it
        from immunos_mcp.ledger.connections.teams import OneTeam

        name = DEFAULT_TEAM if isinstance(database, Path) else database.team
        return OneTeam(threaded_ledger(database), name)
    require_driver(database)
    from immunos_mcp.ledger.connections.postgresql_teams import PostgresqlTeams

    return PostgresqlTeams(database)


def require_driver(database: Path | DatabaseAddress) -> DatabaseAddress:
    """Return the address of a database, once it is certain that this installation can use it.

    Raises:
        LedgerError: the package for it is not installed.
    """
    assert not isinstance(database, Path)
    _postgresql(database)
    return database


def _postgresql(database: DatabaseAddress) -> ModuleType:
    try:
        from immunos_mcp.ledger.connections import postgresql
    except ImportError as error:
        if error.name is not None and not error.name.startswith("psycopg"):
            raise
        raise LedgerError(
            f"ledger {database} needs the package psycopg; install it with"
            " `pip install 'immunos-mcp[team]'`"
        ) from None
    return postgresql
