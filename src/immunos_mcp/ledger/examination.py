"""Looking a ledger over without opening it for use: nothing is made, migrated or written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from immunos_mcp import settings as settings_rules
from immunos_mcp.errors import InvalidStoredSettingsError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connection import translated

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.domain import Settings

BUSY_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Examination:
    """What a ledger looks like from outside.

    Attributes:
        version: of its tables; 0 where ours are not in the file yet.
        damage: what SQLite finds wrong with the file.
        settings: the settings in force; ``None`` where they cannot be read.
        settings_problem: why its settings cannot be used.
        newest: the latest moment that anything in it claims to be from.
        unread_lines: lines of transcripts that should carry usage and could not be read.
    """

    version: int
    damage: str | None = None
    settings: Settings | None = None
    settings_problem: str | None = None
    newest: datetime | None = None
    unread_lines: int = 0

    @property
    def is_newer(self) -> bool:
        """Whether a later program than this one wrote it."""
        return self.version > schema.LATEST


def examine(path: Path) -> Examination:
    """Look a ledger over.

    Raises:
        LedgerError: it cannot be read at all.
    """
    with (
        translated(path),
        closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SECONDS)
        ) as connection,
    ):
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
            settings = settings_rules.from_stored(stored)
        except InvalidStoredSettingsError as error:
            settings_problem = str(error)
        (newest,) = connection.execute(
            "SELECT max((SELECT max(started_at) FROM immunos_mcp_session),"
            " coalesce((SELECT max(measured_at) FROM immunos_mcp_measured_usage), ''))"
        ).fetchone()
        (unread_lines,) = connection.execute(
            "SELECT coalesce(sum(unread_lines), 0) FROM immunos_mcp_transcript"
        ).fetchone()
    moment = datetime.fromisoformat(newest) if newest else None
    return Examination(version, damage, settings, settings_problem, moment, unread_lines)
