"""What a conversation or subagent logs releases what is held back for its own work, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import mcp_types as types
import pytest
import wire
from examples import on_ledgers
from hypothesis import given
from hypothesis import strategies as st
from mcp.client import Client

from immunos_mcp.assistants.claude_code.usage_lines import usage_of
from immunos_mcp.assistants.codex.rollouts import Rollout
from immunos_mcp.domain import JoinKey
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.router import Router
from immunos_mcp.server.app import build_server

if TYPE_CHECKING:
    import random
    from collections.abc import Generator
    from pathlib import Path

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLAUDE = "claude-sonnet-4-5"
LIMIT = 200_000
SECOND = timedelta(seconds=1)


class Desk:
    """A router with reservations, and a client that logs what its conversations use."""

    def __init__(self, ledger: InlineSqliteLedger) -> None:
        self.now = NOON
        self.ledger = ledger
        self.router = Router(ledger, "default", lambda: self.now)
        settings = {"reservations": "on", "token_auto_switch_threshold": LIMIT}
        run_sync(self.router.update_config(settings, "test"))
        self.responses = 0

    def route(self, tokens: int, call: str | None = None, thread: str | None = None) -> int:
        routed = self.router.decide_task(
            "essay", "creative", tokens, client="claude-code 2", key=JoinKey(call, thread)
        )
        logged = run_sync(routed).logged
        self.now += SECOND
        return logged.decision_id

    def use(self, tokens: int, conversation: str, agent: str | None = None, *calls: str) -> None:
        """Let a response be read, a second after whatever happened before."""
        self.responses += 1
        name = f"msg_{self.responses}"
        used = MeasuredUsage(name, self.now, CLAUDE, tokens, conversation=conversation)
        self.ingest(used._replace(agent=agent, calls=calls))
        self.now += SECOND

    def ingest(self, *used: MeasuredUsage) -> None:
        run_sync(self.ledger.write(ingest, used))

    def held(self) -> dict[int, int]:
        query = "SELECT decision_id, tokens FROM immunos_mcp_reservation"
        return dict(wire.rows(self.ledger.path, query))


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        yield Desk(ledger)


@pytest.mark.parametrize("is_read_first", [True, False])
def test_usage_releases_what_is_held_for_its_own_agent_oldest_first(
    desk: Desk, is_read_first: bool
) -> None:
    asked: list[tuple[int, str, str, str | None]] = [
        (30_000, "a", "one", None),
        (30_000, "b", "one", None),
        (30_000, "c", "one", "helper"),
        (30_000, "d", "two", None),
    ]
    for tokens, call, conversation, agent in asked:
        if is_read_first:  # the response that asks is written before its calls are answered
            desk.use(1, conversation, agent, call)
        desk.route(tokens, call)
        if not is_read_first:
            desk.use(1, conversation, agent, call)
    whole = dict.fromkeys([1, 2, 3, 4], 30_000)
    # A response that asks for a decision is none of the work; "one" asked twice.
    assert desk.held() == whole
    desk.use(40_000, "one")
    assert desk.held() == whole | {1: 0, 2: 20_000}
    desk.use(10_000, "one", "helper")
    desk.use(50_000, "three")
    assert desk.held() == {1: 0, 2: 20_000, 3: 20_000, 4: 30_000}
    keys = wire.rows(desk.ledger.path, "SELECT join_key FROM immunos_mcp_decision")
    assert keys == [("call:a",), ("call:b",), ("call:c",), ("call:d",)]


def test_a_response_that_grows_releases_its_growth_and_a_repeat_releases_nothing(
    desk: Desk,
) -> None:
    desk.route(30_000, None, "thread")
    used = MeasuredUsage("msg", desk.now, CLAUDE, 1_000, conversation="thread")
    for tokens in (1_000, 1_000, 5_000, 4_000):
        desk.ingest(used._replace(input_tokens=tokens))
    assert desk.held() == {1: 25_000}
    desk.ingest(used._replace(message_id="early", at=NOON - SECOND))
    desk.ingest(used._replace(message_id="local", model="qwen2.5-coder:7b"))
    assert desk.held() == {1: 25_000}


def test_what_has_expired_takes_no_usage_from_what_has_not(desk: Desk) -> None:
    desk.route(30_000, None, "thread")
    desk.now += timedelta(minutes=20)
    desk.route(30_000, None, "thread")
    desk.now += timedelta(minutes=15)
    desk.use(10_000, "thread")
    assert desk.held() == {1: 30_000, 2: 20_000}


def test_what_is_measured_anyway_is_not_released_by_a_report_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_measured(client: str) -> bool:
        return client == "claude-code 2"

    monkeypatch.setattr(desk.router, "is_measured", is_measured)
    joined, unjoined = desk.route(30_000, "a"), desk.route(30_000)
    for decision_id in (joined, unjoined):
        report = desk.router.record_usage(
            CLAUDE, 10_000, 0, decision_id=decision_id, client="claude-code 2"
        )
        run_sync(report)
    assert desk.held() == {joined: 30_000, unjoined: 20_000}
    run_sync(desk.router.outcomes.close(joined, "success"))
    assert desk.held() == {unjoined: 20_000}


moves = st.lists(
    st.tuples(st.sampled_from(["ask", "use", "end"]), st.integers(0, 120_000)), max_size=10
)


@on_ledgers
@given(moves, st.randoms(use_true_random=False))
def test_with_exact_estimates_measured_usage_never_exceeds_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    done: list[tuple[str, int]],
    chance: random.Random,
) -> None:
    with InlineSqliteLedger(tmp_path_factory.mktemp("ledger") / "ledger.db") as ledger:
        desk = Desk(ledger)
        left: dict[int, tuple[str, int]] = {}
        for what, tokens in done:
            if what == "ask":
                thread = str(tokens % 3)
                decision_id = desk.route(tokens, None, thread)
                if decision_id in desk.held():
                    left[decision_id] = (thread, tokens)
            elif left:
                # A thread works on its oldest task first.
                thread, _ = chance.choice([*left.values()])
                decision_id = next(each for each, (whose, _) in left.items() if whose == thread)
                rest = left[decision_id][1]
                used = rest if what == "end" else min(rest, tokens)
                desk.use(used, thread)
                left[decision_id] = (thread, rest - used)
                if what == "end":
                    run_sync(desk.router.outcomes.close(decision_id, "success"))
                    del left[decision_id]
            status = run_sync(desk.router.get_session_status())
            assert sum(desk.held().values()) == sum(rest for _, rest in left.values())
            assert status.session_tokens + sum(desk.held().values()) <= LIMIT


def test_the_logs_name_the_calls_and_who_made_them() -> None:
    def line(*names: str) -> bytes:
        blocks = [{"type": "tool_use", "id": f"id of {name}", "name": name} for name in names]
        usage = {"input_tokens": 1}
        message: dict[str, Any] = {"id": "msg", "model": CLAUDE, "usage": usage, "content": blocks}
        given = {"type": "assistant", "timestamp": NOON.isoformat(), "message": message}
        return json.dumps({**given, "sessionId": "s", "agentId": "a7"}).encode()

    name = "mcp__plugin_immunos_immunos__route_task"
    (used,) = usage_of(line(name, "mcp__immunos__route_task", "Bash"))
    assert isinstance(used, MeasuredUsage)
    assert (used.conversation, used.agent) == ("s", "a7")
    assert used.calls == (f"id of {name}", "id of mcp__immunos__route_task")
    (other,) = usage_of(line("route_task_of_others"))
    assert isinstance(other, MeasuredUsage)
    assert other.calls == ()
    record = {
        "timestamp": NOON.isoformat(),
        "type": "token_usage_record",
        "payload": {
            "session_id": "s",
            "thread_id": "t",
            "response_id": "r",
            "usage": {"output_tokens": 1},
        },
    }
    (logged,) = Rollout("", "").usage_of(json.dumps(record).encode())
    assert isinstance(logged, MeasuredUsage)
    assert (logged.conversation, logged.agent) == ("s", "t")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("client_name", "meta", "key"),
    [
        ("claude-code", {"claudecode/toolUseId": "toolu_1", "threadId": "no"}, "call:toolu_1"),
        ("codex-mcp-client", {"threadId": "t1", "callId": "c"}, "thread:t1"),
        ("codex-mcp-client", {"threadId": 7}, None),
        ("claude-code", {"claudecode/toolUseId": "x" * 201}, None),
        ("other", {}, None),
    ],
)
async def test_a_call_says_what_joins_it(
    tmp_path: Path, client_name: str, meta: dict[str, Any], key: str | None
) -> None:
    file = tmp_path / "ledger.db"
    task = {"task_type": "essay", "classification": "creative"}
    async with ThreadedSqliteLedger(file) as ledger:
        server, _ = build_server(Router(ledger, "default"), "default")
        info = types.Implementation(name=client_name, version="1")
        async with Client(server, client_info=info, cache=None) as client:
            await client.call_tool("route_task", task, meta=cast("types.RequestParamsMeta", meta))
    assert wire.rows(file, "SELECT join_key FROM immunos_mcp_decision") == [(key,)]
