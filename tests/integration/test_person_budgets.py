"""Budgets of people who share a ledger: decided by for whom they are, seen by whom they concern."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import wire

from immunos_mcp.answers.budgets import CheckState
from immunos_mcp.archive import Archive
from immunos_mcp.domain import PlanUsage, Reason
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.of_person import LedgerOfPerson
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.people import People
from immunos_mcp.router import Router
from immunos_mcp.rules.budget_check import Threshold, check

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from immunos_mcp.answers.routing import RouteAnswer

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ADA, BOB = 1, 2


class Shared:
    """A ledger that Ada and Bob share."""

    def __init__(self, ledger: InlineSqliteLedger) -> None:
        self.ledger = ledger
        self.now = NOON
        self.archive = Archive(ledger, lambda: self.now)
        self._messages = 0
        for name in ("ada", "bob"):
            run_sync(People(ledger, lambda: self.now).add(name, "member"))

    def router(self, person: int | None = None, label: str | None = None) -> Router:
        ledger = self.ledger if person is None else LedgerOfPerson(self.ledger, person)
        return Router(ledger, "default", lambda: self.now, folder=label)

    def set(self, budgets: str) -> None:
        changes = {"budgets": budgets, "time_zone": "UTC"}
        run_sync(self.router().update_config(changes, "test"))

    def use(self, tokens: int, person: int, label: str | None = None) -> None:
        self._messages += 1
        usage = MeasuredUsage(f"m{self._messages}", self.now, "gpt-5", tokens, folder=label)
        run_sync(LedgerOfPerson(self.ledger, person).write(ingest, [usage]))

    def route(self, person: int | None = None, label: str | None = None) -> RouteAnswer:
        return run_sync(self.router(person, label).route_task("essay", "critical"))

    def shown(self, person: int | None = None) -> dict[str, float | None]:
        status = run_sync(self.router(person).get_session_status())
        return {each.name: each.used for each in status.budgets or ()}


@contextmanager
def shared_at(file: Path) -> Generator[Shared]:
    with InlineSqliteLedger(file) as ledger:
        yield Shared(ledger)


@pytest.fixture
def shared(tmp_path: Path) -> Generator[Shared]:
    with shared_at(tmp_path / "ledger.db") as made:
        yield made


def test_a_person_is_decided_for_by_the_team_s_budgets_and_their_own(shared: Shared) -> None:
    shared.set("ada=1000 tokens/day of ada; own=500 tokens/day each; team=2000 tokens/day")
    shared.use(450, BOB)
    assert (shared.route(BOB).budget, shared.route(BOB).reason) == (
        "own",
        Reason.SPEND_LIMIT_EXCEEDED,
    )
    assert [shared.route(who).reason for who in (ADA, None)] == [Reason.TASK_CRITICAL] * 2
    shared.use(1500, ADA)
    assert shared.route(ADA).budget == "own"
    shared.set("own=off")
    assert shared.route(ADA).budget == "ada"
    assert shared.route(BOB).budget == shared.route().budget == "team"
    explained = run_sync(shared.archive.explain_decision(shared.route(ADA).decision_id))
    assert explained.explanation.rows[-1].why == (
        "budget ada (1000 tokens/day of ada) at 150% >= auto-switch 90"
    )
    again = run_sync(shared.archive.replay({}))
    assert (again.decisions, again.changed) == (9, 0)


def test_each_sees_their_own_figure_and_the_ledger_s_owner_everybody_s(shared: Shared) -> None:
    shared.set("ada=1000 tokens/day of ada; own=500 tokens/day each; team=2000 tokens/day")
    shared.use(450, BOB)
    shared.use(20, ADA)
    assert shared.shown(ADA) == {"ada": 20, "own": 20, "team": 470}
    assert shared.shown(BOB) == {"own": 450, "team": 470}
    assert shared.shown() == {"ada": 20, "own/ada": 20, "own/bob": 450, "team": 470}
    status = run_sync(shared.router().get_session_status())
    assert status.message.startswith("Budget is fine"), "nobody in particular has reached anything"
    found = check(status, "own", Threshold.AUTO_SWITCH)
    assert [(each.name, each.state) for each in found.budgets] == [
        ("own/bob", CheckState.REACHED),
        ("own/ada", CheckState.BELOW),
    ]


def test_a_plan_is_each_person_s_own(shared: Shared) -> None:
    shared.set("plan=80 percent/5h; own=50 percent/7d each; dollars=1 usd/5h of bob")
    run_sync(
        shared.router().update_config({"plan_auto_switch_percent": 90}, "test"),
    )
    ends = NOON + timedelta(hours=2)

    def report(person: int | None, percent: float, window: str = "five_hour") -> None:
        run_sync(
            shared.router(person).record_plan_usage([PlanUsage(window, percent, ends)]),
        )

    report(ADA, 79.0)
    report(BOB, 10.0)
    report(None, 1.0)
    report(BOB, 40.0, "seven_day")
    assert shared.shown(ADA) == {"plan": 79.0, "own": None}
    assert shared.shown(BOB) == {"plan": 10.0, "own": 40.0, "dollars": 0.0}
    assert shared.shown() == {"plan": 1.0, "own/ada": None, "own/bob": 40.0, "dollars": 0.0}
    assert (shared.route(ADA).budget, shared.route(BOB).reason) == ("plan", Reason.TASK_CRITICAL)
    report(BOB, 95.0)
    decided = shared.route(BOB)
    assert (decided.reason, decided.plan_used_percent) == (Reason.PLAN_LIMIT_EXCEEDED, 95.0)
    assert shared.route().reason is Reason.TASK_CRITICAL


def test_a_project_is_known_by_its_label_where_paths_stay_elsewhere(shared: Shared) -> None:
    shared.set("shop=1000 tokens/day in webshop; own=100 tokens/day each in webshop")
    shared.use(1000, ADA, "webshop")
    shared.use(1000, BOB, "webshop2")
    assert shared.shown() == {"own/ada": 1000, "own/bob": 0, "shop": 1000}
    assert shared.route(BOB, "webshop").budget == "shop"
    assert shared.route(BOB, "webshop2").budget is None


def test_a_budget_is_of_somebody_who_shares_the_ledger(shared: Shared) -> None:
    shared.set("ada=1 usd/day of ada")
    for dry_run in (False, True):
        with pytest.raises(InvalidInputError) as refused:
            run_sync(shared.router().update_config({"budgets": "x=1 usd/day of eve"}, "t", dry_run))
        assert "unknown person 'eve'" in str(refused.value)
    assert shared.shown() == {"ada": 0.0}


def test_the_command_sets_budgets_of_people_and_labels(home: Path) -> None:
    wire.run_json(home, "person", "add", "Ada Lovelace")
    added = wire.run(
        home, "budget", "add", "ada", "20", "usd/day", "--person", "Ada Lovelace", "--label", "shop"
    )
    assert added.stdout == (
        'Changed: budgets none -> ada=20 usd/day of "Ada Lovelace" in shop\n'
    ), added.stderr
    assert wire.run(home, "budget", "add", "own", "5", "usd/day", "--each").returncode == 0
    listed = wire.run_json(home, "budget", "list")
    assert [each["name"] for each in listed] == ["ada", "own/Ada Lovelace"]
    for wrong in (("--person", "eve"), ("--each", "--person", "x"), ("--label", "a/b")):
        refused = wire.run(home, "budget", "add", "x", "1", "usd/day", *wrong)
        assert refused.returncode == 2, wrong
