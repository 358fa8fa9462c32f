"""Inspects a ledger read-only: nothing is created, migrated or written.

One exception: after a program was killed with the ledger open, SQLite recreates the ``-shm`` file,
which it needs to read the ``-wal`` file.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.errors import InvalidStoredSettingsError, LedgerError
from immunos_mcp.ledger import schema, soundness
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.ledger.connections.sqlite_connection import SqliteConnection
from immunos_mcp.ledger.connections.sqlite_file import translated
from immunos_mcp.ledger.moments import utc_now, utc_text
from immunos_mcp.ledger.overrides import read_overrides
from immunos_mcp.ledger.stored_settings import settings_by_folder
from immunos_mcp.rules import setting_changes
from immunos_mcp.rules.gates import summary
from immunos_mcp.rules.project_settings import check

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.project_settings import SettingsByFolder
    from immunos_mcp.rules.settings import Settings

BUSY_TIMEOUT_SECONDS = 5.0

RECENT = timedelta(days=7)
"""How old conversations may be that are examined one by one."""


class Examination(NamedTuple):
    """What an inspection of a ledger found.

    Attributes:
        version: its schema version; 0: the file does not have our tables yet.
        damage: what SQLite reports as corrupt.
        settings: the current settings; ``None``: they cannot be read.
        settings_problem: why the settings cannot be used.
        began: when the latest session began.
        measured: when the latest measured response was written.
        unread_lines: transcript lines with usage that could not be read.
        gates: what the user decided for now about the gates, in words; ``None``: nothing.
        unread_in: the transcripts that have such lines, those with the most first.
        by_folder: what is set for each project folder, as stored.
        conversations: how many of Claude Code's had responses in the last days.
        without_total: those of them whose total does not cover their last response.
    """

    version: int
    damage: str | None = None
    settings: Settings | None = None
    settings_problem: str | None = None
    began: datetime | None = None
    measured: datetime | None = None
    unread_lines: int = 0
    unread_in: tuple[str, ...] = ()
    gates: str | None = None
    by_folder: SettingsByFolder = MappingProxyType({})
    conversations: int = 0
    without_total: tuple[str, ...] = ()

    @property
    def is_older(self) -> bool:
        """Whether an older version wrote it; the next call migrates it."""
        return 0 < self.version < schema.LATEST

    @property
    def is_newer(self) -> bool:
        """Whether a newer version than this one wrote it."""
        return self.version > schema.LATEST


def examine(path: Path) -> Examination:
    """Inspect a ledger.

    Raises:
        LedgerError: it cannot be read, or its tables do not match its version.
    """
    # Without a WAL no other program has the file open; opening it as immutable keeps SQLite from
    # creating a WAL.
    has_wal = path.with_name(f"{path.name}-wal").exists()
    place = f"{path.absolute().as_uri()}?{'mode=ro' if has_wal else 'immutable=1'}"
    try:
        with (
            translated(path),
            closing(SqliteConnection(place, uri=True, timeout=BUSY_TIMEOUT_SECONDS)) as connection,
        ):
            return _examination(connection)
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"ledger {path} has unexpected tables or columns ({error})") from error
    except OSError as error:
        raise LedgerError(f"ledger {path} cannot be opened ({error.strerror})") from error


def examine_database(address: DatabaseAddress) -> Examination:
    """Inspect the ledger of a team.

    Raises:
        LedgerError: it cannot be read, or its tables are not those of this version.
    """
    with inline_ledger(address) as ledger:
        return run_sync(ledger.read(look_into))


def _examination(connection: SqliteConnection) -> Examination:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    damage = None if found == "ok" else str(found)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if schema.VERSION_TABLE not in tables:
        return Examination(0, damage)
    (version,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM immunos_mcp_schema_version"
    ).fetchone()
    damage = damage or soundness.find_version_problem(connection, version)
    if version == schema.LATEST:
        damage = damage or soundness.find_problem(connection)
    if version != schema.LATEST or damage is not None:
        return Examination(version, damage)
    return look_into(connection)


def look_into(connection: Connection) -> Examination:
    """Inspect what is stored in a ledger of this version."""
    settings = settings_problem = None
    stored = dict(connection.execute("SELECT key, value FROM settings"))
    by_folder = settings_by_folder(connection)
    try:
        settings = setting_changes.from_stored(stored)
        check(settings, by_folder)
    except InvalidStoredSettingsError as error:
        settings_problem = str(error)
    (began,) = connection.execute("SELECT max(started_at) FROM immunos_mcp_session").fetchone()
    (measured,) = connection.execute(
        "SELECT max(measured_at) FROM immunos_mcp_measured_usage"
    ).fetchone()
    unread = connection.execute(
        "SELECT path, unread_lines FROM immunos_mcp_transcript WHERE unread_lines > 0"
        " ORDER BY unread_lines DESC, path"
    ).fetchall()
    return Examination(
        schema.LATEST,
        None,
        settings,
        settings_problem,
        _moment(began),
        _moment(measured),
        sum(lines for _, lines in unread),
        tuple(path for path, _ in unread),
        summary(read_overrides(connection, utc_now())),
        by_folder,
        *_conversations(connection, utc_now() - RECENT),
    )


def _conversations(connection: Connection, since: datetime) -> tuple[int, tuple[str, ...]]:
    rows = connection.execute(
        "SELECT conversation, max(measured_at) > coalesce((SELECT max(total_at)"
        "  FROM immunos_mcp_conversation_total AS total"
        "  WHERE total.conversation = used.conversation), '') FROM immunos_mcp_measured_usage AS used"
        " WHERE assistant = 'claude-code' AND conversation IS NOT NULL AND measured_at >= ?"
        " GROUP BY conversation ORDER BY conversation",
        (utc_text(since),),
    ).fetchall()
    return len(rows), tuple(conversation for conversation, is_uncovered in rows if is_uncovered)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment
