"""A status that Claude Code asks for counts the very response that asks for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import mcp_types as types
import pytest
from mcp.client import Client
from sdk_clients import ERAS, Era, answer
from transcript_lines import Answer, append, transcript

from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.router import Router
from immunos_mcp.server.app import build_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Writer:
    """Claude Code, which writes its response down while the server waits.

    Attributes:
        waits: how long the server waited each time.
    """

    def __init__(self, projects: Path) -> None:
        self.waits: list[float] = []
        self._file = transcript(projects)

    async def write_while_waiting(self, seconds: float) -> None:
        self.waits.append(seconds)
        soon = datetime.now(UTC) + timedelta(minutes=1)
        append(self._file, Answer(f"m{len(self.waits)}", 10, at=soon))


@asynccontextmanager
async def connected(
    folder: Path, writer: Writer, name: str, era: Era, *, reads_transcripts: bool = True
) -> AsyncGenerator[Client]:
    """Connect a client of that name to a server that waits as the writer says."""
    folders = TranscriptFolders((folder / "projects",), FORMAT)
    async with ThreadedSqliteLedger(folder / "ledger.db") as ledger:
        follower = Follower(ledger, folders) if reads_transcripts else None
        router = Router(ledger, "default", follower=follower)
        await router.open_session()
        built = build_server(router, "default", sleep=writer.write_while_waiting)
        async with Client(
            built.server,
            mode=era,
            raise_exceptions=True,
            client_info=types.Implementation(name=name, version="2.1.332"),
            cache=None,
        ) as client:
            yield client


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "projects")


@ERAS
async def test_a_response_written_within_the_wait_is_in_the_status_that_it_asked_for(
    tmp_path: Path, writer: Writer, era: Era
) -> None:
    async with connected(tmp_path, writer, "claude-code", era) as client:
        status = await answer(client, "get_session_status")
    assert (status["measured_tokens"], writer.waits) == (10, [0.3])


@ERAS
async def test_a_client_that_writes_no_transcripts_does_not_wait(
    tmp_path: Path, writer: Writer, era: Era
) -> None:
    async with connected(tmp_path, writer, "another-client", era) as client:
        await answer(client, "get_session_status")
    assert writer.waits == []


async def test_nobody_waits_where_transcripts_are_not_read(tmp_path: Path, writer: Writer) -> None:
    async with connected(
        tmp_path, writer, "claude-code", "auto", reads_transcripts=False
    ) as client:
        await answer(client, "get_session_status")
    assert writer.waits == []


async def test_only_a_status_waits(tmp_path: Path, writer: Writer) -> None:
    async with connected(tmp_path, writer, "claude-code", "auto") as client:
        await answer(client, "route_task", task_type="debug", classification="routine")
        await answer(client, "update_config", session_limit=300_000)
        await answer(client, "reset_session")
    assert writer.waits == []
