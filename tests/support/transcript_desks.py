"""A ledger and the transcripts that it counts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from transcript_lines import NOON

from immunos_mcp.archive import Archive
from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.answers.usage import SyncAnswer

BEFORE = NOON - timedelta(hours=1)
AFTER = NOON + timedelta(hours=1)


class Desk:
    """A ledger, a folder of transcripts, a clock that the test sets, and routers on them."""

    def __init__(self, folder: Path) -> None:
        self.projects = folder / "projects"
        self.projects.mkdir()
        self.now: datetime = BEFORE
        self.ledger = InlineSqliteLedger(folder / "ledger.db")
        self.router = self.another_router()
        self.archive = Archive(self.ledger, lambda: self.now, self._follower())

    def another_router(self) -> Router:
        return Router(self.ledger, "default", clock=lambda: self.now, follower=self._follower())

    def _follower(self) -> Follower:
        return Follower(self.ledger, TranscriptFolders((self.projects,), FORMAT))

    def begin(self, session: str | None = None) -> None:
        run_sync(self.router.open_session(session))

    def status(self, session: str | None = None) -> StatusAnswer:
        return run_sync(self.router.get_session_status(session))

    def tokens(self, session: str | None = None) -> int:
        return self.status(session).session_tokens

    def sync_all(self) -> SyncAnswer:
        return run_sync(self.archive.sync(None, lambda _read, _total: None))
