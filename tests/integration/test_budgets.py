"""Budgets on a real ledger with a fixed clock: decided by, shown, explained, replayed, checked."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import wire

from immunos_mcp.answers.budgets import CheckState
from immunos_mcp.archive import Archive
from immunos_mcp.domain import PlanUsage, Reason
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.reports.prices import list_prices
from immunos_mcp.reports.text import text as report_text
from immunos_mcp.router import Router
from immunos_mcp.rules.budget_check import Threshold, check

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from immunos_mcp.answers.routing import RouteAnswer
    from immunos_mcp.answers.status import BudgetStatus

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
SONNET = "claude-sonnet-4-5"


class Desk:
    """A router with a clock that is moved, on a ledger of its own."""

    def __init__(self, ledger: InlineSqliteLedger, folder: str | None = None) -> None:
        self.now = MONDAY
        self.ledger = ledger
        self.router = Router(ledger, "default", lambda: self.now, folder=folder)
        self.archive = Archive(ledger, lambda: self.now)
        self._messages = 0

    def set(self, budgets: str, **more: object) -> None:
        changes = {"budgets": budgets, "time_zone": "UTC", **more}
        run_sync(self.router.update_config(changes, "test"))  # type: ignore[arg-type]  # as given

    def use(
        self,
        tokens: int,
        model: str = SONNET,
        folder: str | None = None,
        assistant: str = "codex",
    ) -> None:
        self._messages += 1
        usage = MeasuredUsage(
            f"m{self._messages}", self.now, model, tokens, folder=folder, assistant=assistant
        )
        run_sync(self.ledger.write(ingest, [usage]))

    def route(self, classification: str = "creative", client: str = "") -> RouteAnswer:
        routed = self.router.decide_task("essay", classification, client=client)
        return run_sync(routed).answer

    def shown(self) -> dict[str, BudgetStatus]:
        status = run_sync(self.router.get_session_status())
        return {each.name: each for each in status.budgets or ()}


@contextmanager
def desk_at(file: Path, folder: str | None = None) -> Generator[Desk]:
    with InlineSqliteLedger(file) as ledger:
        yield Desk(ledger, folder)


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    with desk_at(tmp_path / "ledger.db") as made:
        yield made


def test_dollars_of_a_day_send_tasks_home_until_the_next(desk: Desk) -> None:
    desk.set("daily=20 usd/day")
    desk.use(4_000_000)  # 12 dollars
    assert (desk.route().reason, desk.route().budget) == (Reason.DEFAULT_COMPLEX, None)
    desk.use(1_000_000)
    assert (desk.route("routine").reason, desk.route().reason) == (
        Reason.SPEND_LIMIT_WARNING,
        Reason.DEFAULT_COMPLEX,
    )
    desk.use(1_000_000)
    decided = desk.route("critical")
    assert (decided.reason, decided.budget, decided.budget_used_percent) == (
        Reason.SPEND_LIMIT_EXCEEDED,
        "daily",
        90.0,
    )
    assert decided.warning_level == "normal"
    desk.now = datetime(2026, 11, 24, tzinfo=UTC)
    assert desk.route("critical").reason is Reason.TASK_CRITICAL
    assert desk.shown()["daily"].used == 0


def test_a_status_tells_the_use_and_when_it_is_gone(desk: Desk) -> None:
    desk.set("week=7M tokens/week; spread=7M tokens/week spread")
    desk.now += timedelta(days=1, hours=12)  # Wednesday, 0:00
    desk.use(4_000_000)
    shown = desk.shown()
    assert (shown["week"].percent_used, shown["week"].warning_level) == (57.1, "normal")
    assert shown["week"].ends_at == datetime(2026, 11, 30, tzinfo=UTC)
    assert shown["week"].gone_at == datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert (shown["spread"].percent_used, shown["spread"].warning_level) == (133.3, "critical")
    desk.now = datetime(2026, 11, 30, tzinfo=UTC)
    assert [each.used for each in desk.shown().values()] == [0, 0]


def test_a_sum_with_an_unknown_model_is_at_least_so_much(desk: Desk) -> None:
    desk.set("daily=20 usd/day")
    desk.use(1_000_000)
    desk.use(1_000_000, "a-model-nobody-knows")
    shown = desk.shown()["daily"]
    assert (shown.used, shown.at_least) == (3.0, True)


def test_a_budget_of_a_project_concerns_work_there(tmp_path: Path) -> None:
    with desk_at(tmp_path / "ledger.db", "/home/me/other") as other:
        other.set("app=1000 tokens/day in /home/me/app; gpt=1000 tokens/day by codex")
        other.use(1000, folder="/home/me/app/src", assistant="claude-code")
        other.use(10, folder="/home/me/apple", assistant="claude-code")
        shown = other.shown()
        assert [shown[name].used for name in ("app", "gpt")] == [1000, 0]
        assert other.route().reason is Reason.DEFAULT_COMPLEX
        other.use(1000, assistant="codex")
        assert other.route(client="claude-code 2.1").reason is Reason.DEFAULT_COMPLEX
        assert other.route(client="codex-mcp-client 1").budget == "gpt"
    with desk_at(tmp_path / "ledger.db", "/home/me/app") as here:
        assert here.route(client="claude-code 2.1").budget == "app"


def test_a_window_of_the_plan_that_was_reset_is_not_known_to_be_used(desk: Desk) -> None:
    desk.set("plan=80 percent/7d; tokens=1000 tokens/5h")
    assert [each.used for each in desk.shown().values()] == [None, None]
    resets = desk.now + timedelta(hours=2)
    reports = [PlanUsage("seven_day", 76.0, resets), PlanUsage("five_hour", 5.0, resets)]
    run_sync(desk.router.record_plan_usage(reports))
    desk.use(900)
    shown = desk.shown()
    assert [shown[name].percent_used for name in ("plan", "tokens")] == [95, 90]
    assert desk.route().reason is Reason.SPEND_LIMIT_EXCEEDED
    desk.now = resets
    shown = desk.shown()
    assert [shown[name].percent_used for name in ("plan", "tokens")] == [None, 0]
    assert desk.route().reason is Reason.DEFAULT_COMPLEX


def test_a_session_budget_begins_anew_with_the_session(desk: Desk) -> None:
    desk.set("s=1 usd/session")
    desk.route()
    desk.now += timedelta(minutes=7)
    desk.use(300_000)
    assert desk.route().budget == "s"
    desk.now += timedelta(minutes=1)
    run_sync(desk.router.reset_session())
    assert desk.shown()["s"].used == 0
    assert desk.route().budget is None
    sums = "SELECT starts_at FROM immunos_mcp_person_spend_total"
    assert wire.rows(desk.ledger.path, sums) == [("2026-11-23T12:08:00.000Z",)]


def test_what_is_logged_or_reported_is_summed_up_though_nobody_decides(desk: Desk) -> None:
    desk.use(1000)
    desk.set("daily=1 usd/day; codex=5000 tokens/week by codex")
    stored = "SELECT count(*), sum(input_tokens) FROM immunos_mcp_person_spend_total"
    stale = "SELECT count(*) FROM immunos_mcp_person_spend_stale"
    assert wire.rows(desk.ledger.path, stored) == [(2, 2000)]
    desk.use(500)
    assert wire.rows(desk.ledger.path, stored) == [(2, 3000)]
    run_sync(desk.router.record_usage(SONNET, 7, 0))
    assert wire.rows(desk.ledger.path, stored) == [(2, 3007)]
    assert wire.rows(desk.ledger.path, stale) == [(0,)]
    assert desk.shown()["codex"].used == 1500


def test_decisions_are_explained_and_replayed_as_they_were_made(desk: Desk) -> None:
    desk.set("daily=1000 tokens/day")
    for tokens in (0, 760, 150, 100):
        desk.use(tokens)
        desk.route("routine")
        desk.route("creative")
    again = run_sync(desk.archive.replay({}))
    assert (again.decisions, again.changed) == (8, 0)
    wider = run_sync(desk.archive.replay({"budgets": "daily=10000 tokens/day"}))
    assert wider.changed == 5
    tried = run_sync(desk.router.update_config({"budgets": "daily=800 tokens/day"}, "x", True))
    assert tried.rehearsal is not None
    assert tried.rehearsal.changed == 1
    explained = run_sync(desk.archive.explain_decision(6)).explanation
    row = explained.rows[-1]
    assert (row.reason, row.applies) == (Reason.SPEND_LIMIT_EXCEEDED, True)
    assert row.why == "budget daily (1000 tokens/day) at 91% >= auto-switch 90"
    assert "no budget were set" in [each.when for each in explained.alternatives]


def test_a_check_says_what_it_knows(desk: Desk) -> None:
    desk.set("daily=1000 tokens/day; plan=80 percent/7d")
    desk.use(800)

    def checked(name: str | None, threshold: Threshold) -> CheckState:
        return check(run_sync(desk.router.get_session_status()), name, threshold).state

    assert checked("daily", Threshold.WARNING) is CheckState.REACHED
    assert checked("daily", Threshold.AUTO_SWITCH) is CheckState.BELOW
    assert checked("session", Threshold.WARNING) is CheckState.BELOW
    assert checked("plan", Threshold.WARNING) is CheckState.UNKNOWN
    assert checked(None, Threshold.WARNING) is CheckState.REACHED
    assert checked(None, Threshold.AUTO_SWITCH) is CheckState.UNKNOWN


def test_a_crossing_is_told_once_in_its_window_unless_telling_fails(desk: Desk) -> None:
    desk.set("daily=1000 tokens/day")
    told: list[str] = []

    def tell(problem: str | None = None) -> None:
        desk.use(1000)
        status = run_sync(desk.router.get_session_status())
        answer = check(status, "daily", Threshold.AUTO_SWITCH)

        def telling(found: object) -> str | None:
            told.append(str(found))
            return problem

        assert (
            run_sync(desk.router.budget_alerts.tell(answer.budgets[0], "run", telling)) == problem
        )

    tell("nobody answers")
    tell()
    tell()
    assert len(told) == 2
    desk.now += timedelta(days=1)
    tell()
    assert len(told) == 3


@contextmanager
def sink() -> Generator[tuple[int, list[bytes]]]:
    received: list[bytes] = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port, received
        finally:
            server.shutdown()
            thread.join()


def test_the_command_sets_shows_and_checks_budgets(home: Path) -> None:
    added = wire.run(home, "budget", "add", "daily", "20", "usd/day", "--warn", "50")
    assert added.stdout == "Changed: budgets none -> daily=20 usd/day warn 50\n"
    with InlineSqliteLedger(wire.ledger_path(home)) as ledger:
        run_sync(Router(ledger, "default").record_usage(SONNET, 4_000_000, 0))
    marker = home / "told"
    command = f"{sys.executable} -c \"import sys;open('{marker}','a').write(sys.stdin.read())\""
    done = wire.run(home, "check", "--budget", "daily", "--at", "warning", "--run", command)
    assert (done.returncode, done.stdout) == (
        3,
        "Budget daily has reached its warning threshold: 60% of 20 usd/day warn 50 used\n",
    )
    assert marker.read_text(encoding="utf-8").count('"name":"daily"') == 1
    assert wire.run(home, "check", "--budget", "nothing").returncode == 2
    with sink() as (port, received):
        url = f"http://127.0.0.1:{port}/"
        for _ in range(2):
            told = wire.run(home, "check", "--at", "warning", "--run", command, "--webhook", url)
            assert (told.returncode, told.stderr) == (3, "")
    # The command was told before, the webhook once for this crossing.
    assert marker.read_text(encoding="utf-8").count('"name":"daily"') == 1
    assert [json.loads(body)["name"] for body in received].count("daily") == 1


def test_blocks_begin_with_the_hour_of_their_first_response(desk: Desk) -> None:
    desk.now = datetime(2026, 11, 22, 9, 50, tzinfo=UTC)
    for minutes, tokens in ((0, 100), (250, 200), (1, 300), (600, 1000), (60, 1000)):
        desk.now += timedelta(minutes=minutes)
        desk.use(tokens, assistant="claude-code")
        desk.use(7)
    found = run_sync(desk.archive.blocks(3))
    assert [(each.starts_at.hour, each.budget_tokens, each.current) for each in found] == [
        (9, 100, None),
        (14, 500, None),
        (0, 2000, True),
    ]
    assert found[-1].ends_at == datetime(2026, 11, 23, 5, tzinfo=UTC)
    assert found[-1].projected_budget_tokens == round(2000 / (61 / 300))
    assert found[-1].usd == 0.006


def test_a_report_has_the_budgets(desk: Desk) -> None:
    desk.set("daily=20 usd/day; s=1 usd/session")
    desk.use(4_000_000)
    report = run_sync(desk.archive.report(None, list_prices(desk.now)))
    assert report.budgets == (desk.shown()["daily"],)
    shown = report_text(report).splitlines()
    line = shown[shown.index("Budgets") + 1]
    assert line.startswith("daily 60% of 20 usd/day, at this rate gone on Monday ")
