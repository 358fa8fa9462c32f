"""A home with the logs of assistants other than Claude Code, and a ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from transcript_desks import AFTER, BEFORE

from immunos_mcp.archive import Archive
from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.other_logs import OtherLogs
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.answers.usage import SyncAnswer


class Home:
    """A home with other assistants' logs, and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = BEFORE
        self.ledger = InlineSqliteLedger(folder / "ledger.db")
        self.router = self.another_router()

    def another_router(self) -> Router:
        return Router(self.ledger, "default", lambda: self.now, self._follower())

    def _follower(self) -> Follower:
        others = {
            "CODEX_HOME": str(self.folder / ".codex"),
            "GEMINI_CLI_HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder / ".local" / "share"),
            "QWEN_HOME": str(self.folder / ".qwen"),
            "COPILOT_HOME": str(self.folder / ".copilot"),
            "CLINE_DATA_DIR": str(self.folder / ".cline" / "data"),
            "PI_CODING_AGENT_DIR": str(self.folder / ".pi" / "agent"),
        }
        claude = TranscriptFolders((self.folder / "projects",), FORMAT)
        return Follower(self.ledger, claude, OtherLogs(others))

    def begin(self) -> None:
        run_sync(self.router.open_session(None))
        self.now = AFTER

    def status(self) -> StatusAnswer:
        return run_sync(self.router.get_session_status())

    def sync(self) -> SyncAnswer:
        archive = Archive(self.ledger, lambda: self.now, self._follower())
        return run_sync(archive.sync(None, lambda _read, _total: None))

    def stored(self) -> list[tuple[Any, ...]]:
        kinds = "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens"
        return self.rows(f"assistant, {kinds}")

    def rows(self, columns: str) -> list[tuple[Any, ...]]:
        """Return columns of the stored responses, oldest first."""
        self.ledger.close()
        with closing(sqlite3.connect(self.folder / "ledger.db")) as connection:
            return connection.execute(
                f"SELECT {columns} FROM immunos_mcp_measured_usage ORDER BY measured_at"  # constants
            ).fetchall()
