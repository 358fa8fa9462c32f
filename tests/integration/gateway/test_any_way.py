"""Whatever is lost or repeated between a developer's ledger and the team's, both end with the same."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import examples
import msgspec
import wire
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request

from immunos_mcp.errors import InvalidInputError
from immunos_mcp.gateway.connection import TeamAwayError
from immunos_mcp.gateway.membership import write_token
from immunos_mcp.gateway.router import GatewayRouter
from immunos_mcp.gateway.team import Team
from immunos_mcp.gateway_messages import GatewayReply
from immunos_mcp.http.gateway import Desk, Gateway
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.joined_team import JoinedTeam, join_team, waiting_for_team
from immunos_mcp.ledger.session_start import open_session
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.receiving import PushedSession, Receiver
from immunos_mcp.router import Router
from immunos_mcp.server.notifications import StatusNotifier

if TYPE_CHECKING:
    from starlette.types import Message

    from immunos_mcp.domain import Engine

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MEASURED = "SELECT count(*), sum(input_tokens) FROM immunos_mcp_measured_usage"
REPORTED = """
    SELECT model, input_tokens FROM immunos_mcp_usage WHERE counted = 1 ORDER BY model, input_tokens
"""
DECIDED = """
    SELECT {0}, model, outcome FROM immunos_mcp_decision WHERE {0} IS NOT NULL ORDER BY 1
"""


class Line:
    """The way to a team's server, without a network; ``state`` is what happens on it next."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.state = "up"

    async def ask(self, body: bytes, seconds: float) -> GatewayReply:
        assert seconds > 0
        if self.state == "cut":
            raise TeamAwayError("cut")

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        request = Request({"type": "http", "method": "POST", "headers": [], "state": {}}, receive)
        response = await self._gateway.receive(request)
        if self.state == "loses answers":
            raise TeamAwayError("lost")
        assert response.status_code == 200, response.body
        return msgspec.json.decode(bytes(response.body), type=GatewayReply)

    async def close(self) -> None:
        pass


class World:
    """A developer's ledger and the team's, at some time."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "own.db", folder / "team.db"
        self.own, self.theirs = (InlineSqliteLedger(file) for file in self.files)
        self.now = NOW
        receiver = Receiver(self.theirs, PushedSession("default"), clock=self.clock)
        router = Router(self.theirs, "default", self.clock)

        def router_at(_engine: Engine | None, _label: str | None) -> Router:
            return router

        desk = Desk("red", None, receiver, router_at)
        changes = StatusNotifier(router.list_revisions, "default")
        self.line = Line(Gateway(lambda _request: desk, lambda _request: changes))
        write_token(folder / "token", "")
        for ledger in (self.own, self.theirs):
            run_sync(ledger.write(open_session, "default", NOW))
        url = "https://budget.example.com"
        joined = JoinedTeam("g", url, "red", "", NOW, NOW, sends_labels=True)
        run_sync(self.own.write(join_team, joined))
        self.team = Team(
            self.own, folder / "token", lambda _url, _token: self.line, lambda: (), self.clock
        )
        self.router = GatewayRouter(self.team, self.own, "default", self.clock)
        self.copied = b""
        self.decisions = 0
        self.logged = 0

    def clock(self) -> datetime:
        return self.now

    def step(self, what: str) -> None:
        """Let something happen."""
        self.now += timedelta(seconds=1)
        if what == "log":
            self.logged += 1
            used = MeasuredUsage(f"m{self.logged}", self.now, "claude-sonnet-4-5", self.logged)
            run_sync(self.own.write(ingest, [used]))
        elif what == "route":
            self.decisions = run_sync(self.router.route_task("debug", "routine")).decision_id
        elif what == "record":
            run_sync(self.router.record_usage("claude-x", self.logged, 1))
        elif what == "judge":
            # It may be closed with the other outcome already.
            with suppress(InvalidInputError):
                run_sync(self._judged())
        elif what == "copy":
            self.own.close()
            self.copied = self.files[0].read_bytes()
        elif what == "put back":
            self.own.close()
            self.files[0].write_bytes(self.copied)
        elif what == "wait":
            self.now += timedelta(seconds=31)
        else:
            self.line.state = what

    async def _judged(self) -> None:
        if not self.decisions:
            return
        outcome = "success" if self.logged % 2 else "failure"
        await self.router.record_usage("m:1", 3, 1, decision_id=self.decisions, outcome=outcome)

    def settle(self) -> None:
        """Let the line be up for long enough."""
        self.step("wait")
        self.line.state = "up"
        run_sync(self.team.push_all())

    def close(self) -> None:
        self.own.close()
        self.theirs.close()


STEPS = st.sampled_from(
    ["log", "route", "record", "judge", "wait", "cut", "loses answers", "up", "log", "route"]
)


@examples.on_ledgers
@given(st.lists(STEPS, max_size=12))
@example(["loses answers", "record", "record", "up", "wait", "record"])
@example(["route", "loses answers", "judge", "wait", "judge", "up", "wait", "judge"])
@example(["cut", "route", "judge", "wait", "up", "route", "judge"])
def test_usage_reports_and_outcomes_arrive_once(steps: list[str]) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        for step in steps:
            world.step(step)
        world.settle()
        own, theirs = world.files
        assert wire.rows(theirs, MEASURED) == wire.rows(own, MEASURED)
        assert wire.rows(theirs, REPORTED) == wire.rows(own, REPORTED)
        known = wire.rows(own, DECIDED.format("team_decision_id"))
        made = wire.rows(theirs, DECIDED.format("decision_id"))
        # A decision whose answer was lost is known to the team alone.
        assert set(known) <= set(made)
        waiting = run_sync(world.own.read(waiting_for_team))
        assert waiting is not None
        assert waiting.rows == 0
        wire.assert_sound(own)
        wire.assert_sound(theirs)
        world.close()


def test_what_is_reported_after_a_copy_was_put_back_is_told_as_well(tmp_path: Path) -> None:
    world = World(tmp_path)
    for step in ("copy", "record", "put back", "record", "log", "record"):
        world.step(step)
    world.settle()
    assert wire.rows(world.files[1], REPORTED) == [
        ("claude-x", 0),
        ("claude-x", 0),
        ("claude-x", 1),
    ]
    world.close()
