"""Looking a ledger over without opening it for use: nothing is made, migrated or written.

Only where a program was killed while it had the ledger open does SQLite make its ``-shm`` file anew: what
lies in the ``-wal`` file cannot be read without.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.errors import InvalidStoredSettingsError, LedgerError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.sqlite_file import translated
from immunos_mcp.rules import setting_changes

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.rules.settings import Settings

BUSY_TIMEOUT_SECONDS = 5.0


class Examination(NamedTuple):
    """What a ledger looks like from outside.

    Attributes:
        version: of its tables; 0 where ours are not in the file yet.
        damage: what SQLite finds wrong with the file.
        settings: the settings in force; ``None`` where they cannot be read.
        settings_problem: why its settings cannot be used.
        began: when the latest session began.
        measured: when the latest measured response was written.
        unread_lines: lines of transcripts that should carry usage and could not be read.
    """

    version: int
    damage: str | None = None
    settings: Settings | None = None
    settings_problem: str | None = None
    began: datetime | None = None
    measured: datetime | None = None
    unread_lines: int = 0

    @property
    def is_older(self) -> bool:
        """Whether an earlier program wrote it; the next call brings it up to date."""
        return 0 < self.version < schema.LATEST

    @property
    def is_newer(self) -> bool:
        """Whether a later program than this one wrote it."""
        return self.version > schema.LATEST


def examine(path: Path) -> Examination:
    """Look a ledger over.

    Raises:
        LedgerError: it cannot be read at all, or lacks what its version has.
    """
    # Without a WAL nobody has the file open, and reading it as one that does not change keeps SQLite
    # from making one.
    has_wal = path.with_name(f"{path.name}-wal").exists()
    place = f"{path.absolute().as_uri()}?{'mode=ro' if has_wal else 'immutable=1'}"
    try:
        with (
            translated(path),
            closing(sqlite3.connect(place, uri=True, timeout=BUSY_TIMEOUT_SECONDS)) as connection,
        ):
            return _examination(connection)
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"ledger {path} is not as this program makes it ({error})") from error


def _examination(connection: sqlite3.Connection) -> Examination:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    damage = None if found == "ok" else str(found)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if schema.VERSION_TABLE not in tables:
        return Examination(0, damage)
    (version,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM immunos_mcp_schema_version"
    ).fetchone()
    if version != schema.LATEST:
        return Examination(version, damage)
    settings = settings_problem = None
    stored = dict(connection.execute("SELECT key, value FROM settings"))
    try:
        settings = setting_changes.from_stored(stored)
    except InvalidStoredSettingsError as error:
        settings_problem = str(error)
    (began,) = connection.execute("SELECT max(started_at) FROM immunos_mcp_session").fetchone()
    (measured,) = connection.execute(
        "SELECT max(measured_at) FROM immunos_mcp_measured_usage"
    ).fetchone()
    (unread_lines,) = connection.execute(
        "SELECT coalesce(sum(unread_lines), 0) FROM immunos_mcp_transcript"
    ).fetchone()
    return Examination(
        version, damage, settings, settings_problem, _moment(began), _moment(measured), unread_lines
    )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return moment
