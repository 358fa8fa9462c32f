"""Parallel tasks keep a limit together: what a decision holds back, and what releases it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import warm_starts
from examples import on_ledgers
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.archive import Archive
from immunos_mcp.domain import Reason
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from immunos_mcp.answers.routing import RouteAnswer

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLAUDE = "claude-sonnet-4-5"
LIMIT = 200_000


class Desk:
    """A router with reservations, and a clock that is moved."""

    def __init__(self, ledger: InlineSqliteLedger, **settings: Any) -> None:
        self.now = NOON
        self.router = Router(ledger, "default", lambda: self.now)
        self.archive = Archive(ledger, lambda: self.now)
        run_sync(self.router.update_config({"reservations": "on", **settings}, "test"))

    def route(self, tokens: int | None, session: str | None = None) -> RouteAnswer:
        return run_sync(self.router.route_task("essay", "creative", tokens, session))

    def report(self, decided: RouteAnswer, tokens: int, **more: Any) -> None:
        done = self.router.record_usage(CLAUDE, tokens, 0, decision_id=decided.decision_id, **more)
        run_sync(done)

    def used(self) -> int:
        return run_sync(self.router.get_session_status()).session_tokens


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        yield Desk(ledger)


def test_twenty_parallel_tasks_do_not_pass_a_limit_of_ten(desk: Desk) -> None:
    decided = [desk.route(20_000) for _ in range(20)]
    assert [each.provider for each in decided] == ["claude"] * 10 + ["ollama"] * 10
    assert [each.reserved_tokens for each in decided] == [20_000] * 10 + [None] * 10
    refused = decided[-1]
    assert (refused.reason, refused.warning_level, refused.held_tokens) == (
        Reason.TOKEN_BUDGET_EXCEEDED,
        "normal",
        200_000,
    )
    again = run_sync(desk.archive.replay({}))
    assert (again.decisions, again.changed) == (20, 0)
    off = run_sync(desk.archive.replay({"reservations": "off"}))
    assert off.changed == 9  # with those, the last one is beyond the threshold
    steps = run_sync(desk.archive.explain_decision(20)).explanation.steps
    assert steps[0] == "20000 tokens do not fit beside 200000 reserved ones"


def test_an_outcome_usage_or_the_end_releases(desk: Desk) -> None:
    first, second, third = (desk.route(60_000) for _ in range(3))
    assert desk.route(60_000).provider == "ollama"
    desk.report(first, 10_000)  # 10,000 used, 50,000 still held
    assert desk.route(20_001).provider == "ollama"
    desk.report(first, 10_000, outcome="success")  # 20,000 used, nothing held
    last = desk.route(60_000)
    assert last.provider == "claude"
    assert desk.route(1).provider == "ollama"
    run_sync(desk.router.outcomes.close(second.decision_id, "failure"))
    assert desk.route(60_000).provider == "claude"
    desk.now += timedelta(minutes=30)
    assert desk.route(120_000).provider == "claude"
    assert third.reserved_tokens == 60_000


def test_what_a_clock_that_was_ahead_held_back_is_held_no_longer_than_else(desk: Desk) -> None:
    desk.now += timedelta(days=365)
    desk.route(60_000)
    desk.now = NOON
    assert desk.route(LIMIT).held_tokens == 60_000
    desk.now += timedelta(minutes=30)
    assert desk.route(LIMIT).provider == "claude"


def test_a_task_without_an_estimate_holds_nothing_and_passes(desk: Desk) -> None:
    assert desk.route(LIMIT).provider == "claude"
    assert desk.route(None).provider == "claude"
    assert desk.route(0).reserved_tokens is None


def test_other_sessions_hold_back_no_tokens_of_this_one_but_of_budgets(desk: Desk) -> None:
    desk.route(LIMIT, "other")
    assert desk.route(LIMIT).provider == "claude"
    run_sync(desk.router.update_config({"budgets": "all=500000 tokens/day"}, "test"))
    assert desk.route(100_001, "third").budget == "all"
    assert desk.route(100_000, "third").provider == "claude"


def test_dollars_are_held_back_at_the_price_of_output(tmp_path: Path) -> None:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        desk = Desk(ledger, budgets="daily=1 usd/day", claude_model=CLAUDE)
        assert desk.route(66_000).provider == "claude"
        refused = desk.route(1000)
        assert (refused.reason, refused.budget) == (Reason.SPEND_LIMIT_EXCEEDED, "daily")
        again = run_sync(desk.archive.replay({}))
        assert again.changed == 0


def test_nothing_is_held_where_reservations_are_off(tmp_path: Path) -> None:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        desk = Desk(ledger, reservations="off")
        decided = [desk.route(LIMIT) for _ in range(3)]
        assert {each.provider for each in decided} == {"claude"}
        assert {(each.held_tokens, each.reserved_tokens) for each in decided} == {(None, None)}


moves = st.lists(
    st.tuples(st.sampled_from(["ask", "finish", "fail", "leave"]), st.integers(0, 120_000)),
    max_size=25,
)


@on_ledgers
@given(moves)
def test_with_exact_estimates_the_limit_is_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory, done: list[tuple[str, int]]
) -> None:
    file = tmp_path_factory.mktemp("ledger") / "ledger.db"
    with InlineSqliteLedger(file) as ledger:
        desk = Desk(ledger)
        open_tasks: list[tuple[RouteAnswer, int]] = []
        for what, tokens in done:
            if what == "ask":
                decided = desk.route(tokens)
                if decided.provider == "claude":
                    open_tasks.append((decided, tokens))
            elif open_tasks:
                task, estimate = open_tasks.pop(tokens % len(open_tasks))
                if what != "leave":
                    outcome = "success" if what == "finish" else "failure"
                    desk.report(task, estimate, outcome=outcome)
            assert desk.used() <= LIMIT
        for task, estimate in open_tasks:
            desk.report(task, estimate)
        assert desk.used() <= LIMIT


WORKER = """
import sys
from pathlib import Path
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    router = Router(ledger, "default")
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(5):
        answer = run_sync(router.route_task("essay", "creative", 20_000))
        print(answer.provider, flush=True)
        if answer.provider == "claude":
            run_sync(router.record_usage("claude-sonnet-4-5", 20_000, 0, decision_id=answer.decision_id))
raise SystemExit
"""


def test_processes_that_ask_at_once_keep_the_limit_though_one_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with InlineSqliteLedger(file) as ledger:
        desk = Desk(ledger, token_auto_switch_threshold=LIMIT)
        run_sync(desk.router.open_session())
        workers = [
            subprocess.Popen(
                (*warm_starts.running(WORKER), str(file)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        assert workers[0].stdout is not None
        workers[0].stdout.readline()
        workers[0].kill()
        for worker in workers:
            worker.communicate(timeout=60)
        assert 160_000 <= desk.used() <= LIMIT
