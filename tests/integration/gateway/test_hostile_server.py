"""What a broken or hostile team's server answers costs nothing but its own word."""

from __future__ import annotations

import gzip
import json
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import wire
from anyio.abc import SocketAttribute

from immunos_mcp.errors import ImmunosError, LedgerBusyError, LedgerError
from immunos_mcp.gateway.connection import TeamAwayError, TeamConnection
from immunos_mcp.gateway.membership import write_token
from immunos_mcp.gateway.replies import LONGEST_TEXT
from immunos_mcp.gateway.router import GatewayRouter
from immunos_mcp.gateway.team import CallRefusedError, Team
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.joined_team import JoinedTeam, join_team
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import SocketStream

pytestmark = pytest.mark.anyio

SAID = {"team": "core", "person": "ada", "role": "member"}
DECISION = {
    "model": "team:1",
    "provider": "ollama",
    "reason": "task_optimized",
    "warning_level": "normal",
    "session_tokens": 7,
}
LOGGED: dict[str, Any] = {
    "decision_id": 5,
    "session": "default",
    "decided_at": "2026-11-28T10:00:00Z",
    "task": {"task_type": "debug", "classification": "routine"},
    "decision": DECISION,
    "outcome": None,
}
GOOD: dict[str, Any] = {**SAID, "logged": LOGGED, "answer": {**DECISION, "decision_id": 5}}


def nested(name: str) -> bytes:
    deep = b"[" * 20_000 + b"]" * 20_000
    return json.dumps({**SAID, name: "HERE"}).encode().replace(b'"HERE"', deep)


BY_TEAM = "SELECT count(*) FROM immunos_mcp_decision WHERE team_decision_id IS NOT NULL"
OPEN = "SELECT session_id, ended_at FROM immunos_mcp_session"
USELESS: dict[str, tuple[int, Any]] = {
    "nothing": (200, b""),
    "a page": (200, b"<html>"),
    "no UTF-8": (200, b'{"team": "\xff"}'),
    "an answer nested too deeply": (200, nested("answer")),
    "an error nested too deeply": (500, nested("error")),
    "a redirect": (302, b""),
    "a body without an end": (200, b" " * (2 * 2**20)),
    "a number of a decision beyond 64 bits": (200, {**GOOD, "logged": {**LOGGED, "decision_id": 2**63}}),
    "a decision that has the number of none": (200, {**GOOD, "logged": {**LOGGED, "decision_id": 0}}),
    "a decision without a model": (
        200,
        {**GOOD, "logged": {**LOGGED, "decision": {**DECISION, "model": ""}}},
    ),
    "a task type of any length": (
        200,
        {**GOOD, "logged": {**LOGGED, "task": {**LOGGED["task"], "task_type": "x" * 99}}},
    ),
    "tokens below nothing": (200, {**GOOD, "answer": {**GOOD["answer"], "held_tokens": -1}}),
    "a number that is none": (200, json.dumps({**SAID, "new": float("nan")}).encode()),
    "what is compressed": (200, gzip.compress(json.dumps(GOOD).encode())),
    "tokens beyond any number": (
        200,
        {**GOOD, "logged": {**LOGGED, "decision": {**DECISION, "session_tokens": 10**30}}},
    ),
    "a decision without an answer": (200, {**SAID, "logged": LOGGED}),
    "nobody's team": (200, {**GOOD, "team": None}),
    "an answer of another shape": (200, {**SAID, "logged": LOGGED, "answer": {"model": 1}}),
}  # fmt: skip


class Canned:
    """A server that answers everything alike."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.sent: int | None = None

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            received = b""
            while not received.endswith((b"}", b"\r\n\r\n") if received[:3] == b"GET" else b"}"):
                received += await stream.receive()
            head = f"HTTP/1.1 {self.status} x\r\nlocation: http://127.0.0.1:1/\r\n"
            head += f"connection: close\r\ncontent-length: {len(self.body)}\r\n\r\n"
            with suppress(anyio.BrokenResourceError):
                await stream.send(head.encode() + self.body[: self.sent])
                if self.sent is not None:
                    # Nothing more, and no end, until the client gives up.
                    await stream.receive()


class Joined:
    """The use cases of a ledger that has joined such a server."""

    def __init__(self, ledger: InlineSqliteLedger, url: str) -> None:
        self.passed, self.url = timedelta(0), url
        token_file = ledger.path.with_name("token")
        write_token(token_file, "token")
        now = datetime.now(UTC)
        team = JoinedTeam("g", url, "core", "ada", now, now, sends_labels=True)
        run_sync(ledger.write(join_team, team))
        self.team = Team(ledger, token_file, TeamConnection, tuple, self.clock)
        self.router = GatewayRouter(self.team, ledger, "default", self.clock)

    def clock(self) -> datetime:
        """Return a later time at each answer, so that the server is asked again."""
        return datetime.now(UTC) + self.passed


@asynccontextmanager
async def joined(tmp_path: Path) -> AsyncGenerator[tuple[Joined, Canned]]:
    canned = Canned()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, canned.serve)
            made = Joined(ledger, url)
            yield made, canned
            await made.team.close()
            tasks.cancel_scope.cancel()


async def test_what_cannot_be_used_leaves_the_decision_here(tmp_path: Path) -> None:
    async with joined(tmp_path) as (ada, canned):
        canned.body = json.dumps(GOOD).encode()
        assert (await ada.router.route_task("debug", "routine")).model == "team:1"
        for what, (status, body) in USELESS.items():
            canned.status = status
            canned.body = body if isinstance(body, bytes) else json.dumps(body).encode()
            for call in (
                lambda: ada.router.route_task("debug", "routine"),
                lambda: ada.router.record_usage("tiny", 1, 1),
                ada.router.get_session_status,
            ):
                ada.passed += timedelta(minutes=1)
                assert (await call()).offline, what
            with pytest.raises(ImmunosError):
                await ada.router.update_config({"session_limit": 1}, "test")
    assert wire.rows(tmp_path / "ledger.db", BY_TEAM) == [(1,)]


async def test_an_answer_that_does_not_end_is_waited_for_half_a_second(tmp_path: Path) -> None:
    async with joined(tmp_path) as (ada, canned):
        canned.body, canned.sent = json.dumps(GOOD).encode(), 40
        with anyio.fail_after(5):
            assert (await ada.router.route_task("debug", "routine")).offline
    assert wire.rows(tmp_path / "ledger.db", BY_TEAM) == [(0,)]


@pytest.mark.parametrize(
    "settings", [{"handover": ["never"]}, {"ladder": {}}, {"session_limit": -1}]
)
async def test_settings_that_there_cannot_be_leave_those_here(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with joined(tmp_path) as (ada, canned):
        canned.body = json.dumps({**GOOD, "settings": settings}).encode()
        assert (await ada.router.route_task("debug", "routine")).model == "team:1"
        assert await ada.router.get_config() == Settings()
        assert await ada.router.project_settings.here() == Settings()


async def test_without_a_usable_answer_a_session_here_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(tmp_path) as (ada, canned):
        await ada.router.open_session()
        useless: tuple[tuple[dict[str, Any], str], ...] = (
            ({**SAID, "error": "a member may reset only ada"}, "may reset only ada"),
            ({**SAID, "answer": {"session_id": "x"}}, "nothing was changed here, but perhaps"),
            ({**SAID, "answer": {}}, "nothing was changed here, but perhaps"),
        )
        for body, words in useless:
            canned.body = json.dumps(body).encode()
            with pytest.raises(ImmunosError, match=words):
                await ada.router.reset_session("new day")
        canned.status = 302
        with pytest.raises(
            TeamAwayError, match=r"answers HTTP 302.*use the address that it leads to"
        ):
            await ada.team.ask()
        ada.passed = timedelta(minutes=1)
        canned.status = 500
        with pytest.raises(TeamAwayError, match="nothing was changed here, but perhaps"):
            await ada.router.reset_session()
        with pytest.raises(TeamAwayError, match=r"it is asked again soon$"):
            await ada.router.reset_session()
        ada.passed = timedelta(minutes=2)
        canned.status, canned.body = 200, json.dumps({**SAID, "answer": {"session_id": 7}}).encode()

        def busy(*_: object) -> None:
            raise LedgerBusyError("the ledger is busy")

        monkeypatch.setattr("immunos_mcp.router.reset_session", busy)
        with pytest.raises(
            LedgerError, match=r"is busy; the team's session was reset, yours was not"
        ):
            await ada.router.reset_session()
    assert wire.rows(tmp_path / "ledger.db", OPEN) == [(1, None)]


async def test_words_of_a_server_are_short_and_command_no_terminal(tmp_path: Path) -> None:
    async with joined(tmp_path) as (ada, canned):
        canned.body = json.dumps({**SAID, "error": "\x1b[2J" + "x" * 100_000}).encode()
        with pytest.raises(CallRefusedError) as refused:
            await ada.router.route_task("debug", "routine")
        assert str(refused.value) == f"?[2J{'x' * (LONGEST_TEXT - 4)}"
        answer = {**DECISION, "decision_id": 5, "remedy": "\x1b]52;c;eA\x07", "model": "a\u202eb"}
        canned.body = json.dumps({**SAID, "logged": LOGGED, "answer": answer}).encode()
        routed = await ada.router.route_task("debug", "routine")
        assert (routed.model, routed.remedy) == ("a?b", "?]52;c;eA?")
        canned.body = json.dumps(
            {"team": "x\n\x1b" * 200, "person": "b\nc", "role": "admin", "version": 1}
        ).encode()
        connection = TeamConnection(ada.url, "")
        identity = await connection.identity(5)
        await connection.close()
        assert (identity.team, identity.person) == ("x??" * 66 + "x?", "b?c")
