"""The use cases on a real ledger with a fixed clock, and against a model of a few lines."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import examples
import pytest
import wire
from hypothesis import HealthCheck, assume
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)
from msgspec.structs import replace

from immunos_mcp.answers.history import SettingChange
from immunos_mcp.answers.routing import RouteAnswer
from immunos_mcp.answers.sessions import ResetAnswer
from immunos_mcp.answers.settings import ConfigAnswer, Difference, DryRunEffect
from immunos_mcp.answers.status import StatusAnswer
from immunos_mcp.answers.usage import RecordAnswer
from immunos_mcp.archive import Archive
from immunos_mcp.domain import PlanUsage, Provider, Reason, TokenCounts, WarningLevel
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router
from immunos_mcp.rules.setting_changes import notable_values
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

W, A = 150_000, 180_000
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
CLAUDE = "claude-sonnet-4.5"
CODER = "qwen2.5-coder:7b"


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def move(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass(frozen=True)
class Bench:
    """A router on a ledger of its own."""

    router: Router
    archive: Archive
    clock: Clock
    file: Path

    def route(self, task_type: str, classification: str = "routine", **more: Any) -> RouteAnswer:
        return run_sync(self.router.route_task(task_type, classification, **more))

    def record(self, tokens: int, model: str = CLAUDE, **more: Any) -> RecordAnswer:
        return run_sync(self.router.record_usage(model, tokens, 0, **more))

    def status(self, session: str | None = None) -> StatusAnswer:
        return run_sync(self.router.get_session_status(session))

    def reset(self, reason: str | None = None, session: str | None = None) -> ResetAnswer:
        return run_sync(self.router.reset_session(reason, session))

    def change(self, **changes: Any) -> ConfigAnswer:
        return run_sync(self.router.update_config(changes, "test"))

    def try_out(self, session: str | None = None, **changes: Any) -> ConfigAnswer:
        return run_sync(self.router.update_config(changes, "test", dry_run=True, session=session))


@contextmanager
def bench_at(file: Path) -> Generator[Bench]:
    clock = Clock()
    with InlineSqliteLedger(file) as ledger:
        yield Bench(Router(ledger, "default", clock), Archive(ledger, clock), clock, file)


@pytest.fixture
def bench(tmp_path: Path) -> Generator[Bench]:
    with bench_at(tmp_path / "ledger.db") as made:
        yield made
    if made.file.exists():
        wire.assert_sound(made.file)


def problems(use_case: Coroutine[Any, Any, object]) -> tuple[Problem, ...]:
    with pytest.raises(InvalidInputError) as refused:
        run_sync(use_case)
    return refused.value.problems


def test_the_plans_own_limit_routes_once_a_setting_looks_at_it_until_its_window_ends(
    bench: Bench,
) -> None:
    five_hour = PlanUsage("five_hour", 96.5, NOON + timedelta(hours=2))
    seven_day = PlanUsage("seven_day", 40.0, NOON + timedelta(days=3))
    run_sync(bench.router.record_plan_usage((five_hour, seven_day)))
    before = bench.route("essay", "critical")
    assert (before.reason, before.plan_used_percent) == (Reason.TASK_CRITICAL, None)
    assert bench.status().plan == (five_hour, seven_day)
    bench.change(plan_warning_percent=30, plan_auto_switch_percent=95)
    over = bench.route("essay", "critical")
    assert (over.model, over.reason) == (CODER, Reason.PLAN_LIMIT_EXCEEDED)
    assert (over.warning_level, over.plan_used_percent) == (WarningLevel.NORMAL, 96.5)
    assert bench.status().message == "Plan limit is almost reached: all tasks go to Ollama."
    bench.clock.move(hours=3)
    routine = bench.route("essay")
    assert (routine.reason, routine.plan_used_percent) == (Reason.PLAN_LIMIT_WARNING, 40.0)
    assert bench.route("essay", "critical").plan_used_percent is None
    assert bench.status().plan == (seven_day,)
    logged = run_sync(bench.archive.list_decisions(10, None))
    assert [entry.decision.plan_used_percent for entry in logged] == [40.0, 40.0, 96.5, None]
    rehearsed = bench.try_out(plan_warning_percent=50)
    assert rehearsed.rehearsal == DryRunEffect(4, 1, moved_to_ollama=0, moved_to_claude=1)


def test_the_answers_change_from_claude_to_ollama_across_both_thresholds(bench: Bench) -> None:
    ollama, claude = Provider.OLLAMA, Provider.CLAUDE
    normal, warning, critical = WarningLevel

    assert bench.record(W - 1) == RecordAnswer(W - 1, 0, normal)
    assert [bench.route("Code Review"), bench.route("essay"), bench.route("debug", "critical")] == [
        RouteAnswer(CODER, ollama, Reason.TASK_OPTIMIZED, normal, W - 1, 1),
        RouteAnswer(CLAUDE, claude, Reason.DEFAULT_COMPLEX, normal, W - 1, 2),
        RouteAnswer(CLAUDE, claude, Reason.TASK_CRITICAL, normal, W - 1, 3),
    ]
    assert bench.record(1) == RecordAnswer(W, 0, warning, crossed=warning)
    assert [
        bench.route("essay"),
        bench.route("essay", "creative"),
        bench.route("planning", "creative"),
        bench.route("planning", "critical"),
    ] == [
        RouteAnswer(CODER, ollama, Reason.TOKEN_BUDGET_WARNING, warning, W, 4),
        RouteAnswer(CLAUDE, claude, Reason.DEFAULT_COMPLEX, warning, W, 5),
        RouteAnswer("deepseek-r1:14b", ollama, Reason.TASK_OPTIMIZED, warning, W, 6),
        RouteAnswer(CLAUDE, claude, Reason.TASK_CRITICAL, warning, W, 7),
    ]
    assert bench.record(A - W - 1) == RecordAnswer(A - 1, 0, warning)
    assert bench.record(1) == RecordAnswer(A, 0, critical, crossed=critical)
    assert [bench.route("essay", "critical"), bench.route("planning", "creative")] == [
        RouteAnswer(CODER, ollama, Reason.TOKEN_BUDGET_EXCEEDED, critical, A, 8),
        RouteAnswer("deepseek-r1:14b", ollama, Reason.TOKEN_BUDGET_EXCEEDED, critical, A, 9),
    ]
    assert bench.record(1) == RecordAnswer(A + 1, 0, critical)


def test_one_record_may_cross_both_thresholds_at_once(bench: Bench) -> None:
    critical = WarningLevel.CRITICAL
    assert bench.record(A) == RecordAnswer(A, 0, critical, crossed=critical)


@pytest.mark.parametrize(
    ("estimate", "projected", "level"),
    [
        (0, 100, None),
        (W - 101, W - 1, None),
        (W - 100, W, WarningLevel.WARNING),
        (A, A + 100, WarningLevel.CRITICAL),
        (10**12, 10**12 + 100, WarningLevel.CRITICAL),
    ],
)
def test_an_estimate_projects_and_names_only_a_level_that_is_another(
    bench: Bench, estimate: int, projected: int, level: WarningLevel | None
) -> None:
    bench.record(100)
    answer = bench.route("essay", estimated_tokens=estimate)
    assert (answer.projected_tokens, answer.projected_level) == (projected, level)


def test_the_tokens_of_local_models_are_kept_apart(bench: Bench) -> None:
    bench.record(1_000)
    usage = bench.router.record_usage("llama3:8b", 10, 20, 30, 40)
    assert run_sync(usage) == RecordAnswer(1_000, 100, WarningLevel.NORMAL)
    status = bench.status()
    assert (status.claude_tokens, status.ollama_tokens) == (
        TokenCounts(1_000),
        TokenCounts(10, 20, 30, 40),
    )


def test_the_weights_in_force_weigh_what_was_recorded_before_too(bench: Bench) -> None:
    usage = bench.router.record_usage(CLAUDE, 1_000, 100, 10, 5)
    assert run_sync(usage) == RecordAnswer(1_110, 0, WarningLevel.NORMAL)
    bench.change(output_weight=5, cache_read_weight=0.1)
    assert bench.status().session_tokens == 1_000 + 500 + 10 + 1


def test_a_status_says_all_there_is_to_say(bench: Bench) -> None:
    bench.record(0)
    bench.clock.move(minutes=30)
    bench.route("debug")
    bench.route("debug")
    bench.route("essay")
    bench.record(60_000)
    bench.record(500, "llama3:8b")
    per_minute = round(60_000 / (10 * (1 - 2.718281828459045**-3)))
    assert bench.status() == StatusAnswer(
        session="default",
        session_tokens=60_000,
        session_limit=200_000,
        percent_used=30.0,
        warning_level=WarningLevel.NORMAL,
        token_warning_threshold=W,
        token_auto_switch_threshold=A,
        recommended_model=CLAUDE,
        message="Budget is fine: tasks go where they are done best.",
        kept_local_tokens=500,
        claude_tokens=TokenCounts(60_000),
        ollama_tokens=TokenCounts(500),
        decisions={Reason.TASK_OPTIMIZED: 2, Reason.DEFAULT_COMPLEX: 1},
        measured_tokens=0,
        reported_tokens=60_000,
        session_id=1,
        started_at=NOON,
        tokens_per_minute=per_minute,
        minutes_to_warning=15,
        minutes_to_auto_switch=20,
    )


@pytest.mark.parametrize(
    ("tokens", "level", "model", "percent"),
    [
        (W - 1, "normal", CLAUDE, 75.0),
        (W, "warning", "mixed", 75.0),
        (A - 1, "warning", "mixed", 90.0),
        (A, "critical", CODER, 90.0),
        (250_000, "critical", CODER, 125.0),
    ],
)
def test_a_status_recommends_by_its_level(
    bench: Bench, tokens: int, level: str, model: str, percent: float
) -> None:
    bench.record(tokens)
    status = bench.status()
    assert (status.warning_level, status.recommended_model, status.percent_used) == (
        level,
        model,
        percent,
    )


def test_asking_for_a_status_opens_nothing(bench: Bench) -> None:
    status = bench.status("unheard of")
    assert (status.session, status.session_id, status.started_at, status.tokens_per_minute) == (
        "unheard of",
        None,
        None,
        None,
    )
    assert run_sync(bench.archive.list_sessions(10, None)) == ()


def test_opening_a_session_twice_opens_it_once(bench: Bench) -> None:
    run_sync(bench.router.open_session())
    bench.clock.move(hours=1)
    run_sync(bench.router.open_session("default"))
    assert (bench.status().session_id, bench.status().started_at) == (1, NOON)


def test_sessions_of_different_names_count_apart_and_blanks_do_not_make_a_name(
    bench: Bench,
) -> None:
    bench.record(5)
    bench.record(7, session=" work ")
    bench.record(11, session="work")
    found = {name: bench.status(name).session_tokens for name in ("default", "work", "Work")}
    assert found == {"default": 5, "work": 18, "Work": 0}


def test_a_repeated_request_changes_nothing_and_says_so(bench: Bench) -> None:
    bench.record(W, request_id="r1")
    assert bench.record(W, request_id=" r1 ") == RecordAnswer(
        W, 0, WarningLevel.WARNING, repeated=True
    )
    bench.reset()
    assert bench.record(W, request_id="r1") == RecordAnswer(
        0, 0, WarningLevel.NORMAL, repeated=True
    )


@pytest.mark.parametrize(
    "other",
    [{"tokens": 6}, {"model": "llama3:8b"}, {"session": "work"}, {"cache_read_input_tokens": 1}],
)
def test_a_request_id_does_not_stand_for_other_usage(bench: Bench, other: dict[str, Any]) -> None:
    bench.record(5, request_id="r1")
    usage: dict[str, Any] = {"tokens": 5, "request_id": "r1", **other}
    before = wire.dump(bench.file)
    with pytest.raises(InvalidInputError, match=r"request_id: .*'r1'"):
        bench.record(**usage)
    assert wire.dump(bench.file) == before


def test_a_decision_is_closed_by_its_record_once(bench: Bench) -> None:
    bench.route("debug")
    bench.route("plan")
    bench.record(5, decision_id=1, outcome="failure")
    bench.record(5, decision_id=1, outcome="failure")
    bench.record(5, decision_id=2)
    with pytest.raises(InvalidInputError, match="closed as failure"):
        bench.record(5, decision_id=1, outcome="success")
    logged = run_sync(bench.archive.list_decisions(10, None))
    assert [(entry.decision_id, entry.outcome) for entry in logged] == [(2, None), (1, "failure")]
    assert bench.status().session_tokens == 15


@pytest.mark.parametrize("decision_id", [0, -1, 1, 2**63 - 1, 2**63, 10**400])
def test_a_decision_that_nobody_made_is_refused(bench: Bench, decision_id: int) -> None:
    usage = bench.router.record_usage(CLAUDE, 1, 1, decision_id=decision_id)
    expected = "the id of an earlier decision"
    assert problems(usage) == (Problem("decision_id", decision_id, expected),)
    assert run_sync(bench.archive.list_sessions(10, None)) == ()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"model": "a b"}, "model"),
        ({"model": ""}, "model"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"input_tokens": 10**12 + 1}, "input_tokens"),
        ({"output_tokens": -1}, "output_tokens"),
        ({"cache_creation_input_tokens": 2**63}, "cache_creation_input_tokens"),
        ({"cache_read_input_tokens": -1}, "cache_read_input_tokens"),
        ({"outcome": "success"}, "outcome"),
        ({"decision_id": 1, "outcome": "meh"}, "outcome"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 201}, "request_id"),
        ({"session": "\u200b"}, "session"),
    ],
)
def test_a_record_that_cannot_be_taken_is_named_and_changes_nothing(
    bench: Bench, arguments: dict[str, Any], field: str
) -> None:
    bench.route("debug")
    before = wire.dump(bench.file)
    usage: dict[str, Any] = {"model": CLAUDE, "input_tokens": 1, "output_tokens": 1, **arguments}
    (problem,) = problems(bench.router.record_usage(**usage))
    assert (problem.field, problem.got) == (field, arguments[field])
    assert wire.dump(bench.file) == before


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"task_type": ""}, "task_type"),
        ({"task_type": "x" * 65}, "task_type"),
        ({"task_type": "a\x00b"}, "task_type"),
        ({"classification": "urgent"}, "classification"),
        ({"classification": "Routine"}, "classification"),
        ({"estimated_tokens": -1}, "estimated_tokens"),
        ({"estimated_tokens": 2**63}, "estimated_tokens"),
        ({"session": " "}, "session"),
    ],
)
def test_a_task_that_cannot_be_taken_is_named_and_changes_nothing(
    bench: Bench, arguments: dict[str, Any], field: str
) -> None:
    bench.route("debug")
    before = wire.dump(bench.file)
    task: dict[str, Any] = {"task_type": "debug", "classification": "routine", **arguments}
    (problem,) = problems(bench.router.route_task(**task))
    assert (problem.field, problem.got) == (field, arguments[field])
    assert wire.dump(bench.file) == before


def test_the_largest_counts_are_added_to_the_token(bench: Bench) -> None:
    for _ in range(3):
        run_sync(bench.router.record_usage(CLAUDE, 10**12, 10**12, 10**12, 10**12))
    assert bench.status().session_tokens == 9 * 10**12
    assert bench.status().claude_tokens == TokenCounts(*[3 * 10**12] * 4)


def test_a_reset_gives_the_closing_figures_and_history_stays(bench: Bench) -> None:
    assert bench.reset() == ResetAnswer(session_id=1)
    bench.record(5)
    bench.record(7, "llama3:8b")
    bench.route("debug")
    bench.clock.move(minutes=1)
    assert bench.reset(" new day ") == ResetAnswer(2, 1, 5, 7, 1)
    assert (bench.status().session_id, bench.status().session_tokens) == (2, 0)
    closed = run_sync(bench.archive.list_sessions(10, None))[1]
    assert (closed.ended_at, closed.end_reason) == (NOON + timedelta(minutes=1), "new day")
    assert (closed.session_tokens, closed.kept_local_tokens) == (5, 7)
    assert (closed.decisions, closed.usage_records) == (1, 2)


@pytest.mark.parametrize("reason", ["", "x" * 501, "a\nb"])
def test_a_reason_that_cannot_be_kept_resets_nothing(bench: Bench, reason: str) -> None:
    bench.record(5)
    (problem,) = problems(bench.router.reset_session(reason))
    assert (problem.field, problem.got) == ("reason", reason)
    assert bench.status().session_id == 1


@pytest.mark.parametrize(("seconds", "tokens"), [(3599, 5), (3600, 0), (3601, 0)])
def test_a_session_that_reached_its_window_is_over_at_the_next_call(
    bench: Bench, seconds: int, tokens: int
) -> None:
    bench.record(5)
    bench.change(session_window_minutes=60)
    bench.clock.move(seconds=seconds)
    assert bench.status().session_tokens == tokens
    assert len(run_sync(bench.archive.list_sessions(10, None))) == 1
    assert bench.route("debug").session_tokens == tokens
    ended = [
        (entry.session_id, entry.end_reason)
        for entry in run_sync(bench.archive.list_sessions(10, None))
    ]
    assert ended == ([(1, None)] if tokens else [(2, None), (1, "session window")])


def test_crossing_is_counted_from_the_session_that_the_record_opens(bench: Bench) -> None:
    bench.change(session_window_minutes=60)
    bench.record(W)
    bench.clock.move(hours=1)
    warning = WarningLevel.WARNING
    assert bench.record(W) == RecordAnswer(W, 0, warning, crossed=warning)


def test_an_old_session_never_ends_by_itself_where_no_window_is_set(bench: Bench) -> None:
    bench.record(5)
    bench.clock.move(days=4_000)
    assert (bench.status().session_id, bench.record(5).session_tokens) == (1, 10)


def test_settings_change_for_the_next_decision_and_are_kept_with_who_did_it(bench: Bench) -> None:
    answer = bench.change(claude_model="claude-x", task_mappings={"Essay": "m:1", "debug": None})
    mappings = {**Settings().task_mappings, "essay": "m:1"}
    del mappings["debug"]
    after = replace(Settings(), claude_model="claude-x", task_mappings=mappings)
    assert answer == ConfigAnswer(
        {
            "claude_model": Difference(CLAUDE, "claude-x"),
            "task_mappings.debug": Difference(CODER, None),
            "task_mappings.essay": Difference(None, "m:1"),
        },
        notable_values(after),
    )
    assert (bench.route("essay").model, bench.route("debug").model) == ("m:1", "claude-x")
    assert run_sync(bench.router.get_config()) == after
    assert sorted(
        run_sync(bench.archive.list_setting_changes(10)), key=lambda entry: entry.setting
    ) == [
        SettingChange(NOON, "test", "claude_model", None, "claude-x"),
        SettingChange(NOON, "test", "task_mappings.debug", CODER, None),
        SettingChange(NOON, "test", "task_mappings.essay", None, "m:1"),
    ]


def test_one_bad_setting_refuses_all_of_them(bench: Bench) -> None:
    bench.route("debug")
    before = wire.dump(bench.file)
    changes: dict[str, Any] = {"session_limit": 300_000, "input_weight": 101, "claude_model": ""}
    found = problems(bench.router.update_config(changes, "test"))
    assert [problem.field for problem in found] == ["input_weight", "claude_model"]
    assert wire.dump(bench.file) == before


def test_changing_no_setting_answers_those_in_force(bench: Bench) -> None:
    assert bench.change() == ConfigAnswer({}, notable_values(Settings()))
    assert run_sync(bench.archive.list_setting_changes(10)) == ()


def test_a_dry_run_tells_the_effect_on_the_sessions_own_decisions_and_changes_nothing(
    bench: Bench,
) -> None:
    bench.record(100)
    for task_type in ("essay", "essay", "debug"):
        bench.route(task_type)
    bench.route("essay", "creative")
    bench.route("essay", session="work")
    before = wire.dump(bench.file)
    after = replace(Settings(), token_warning_threshold=100)
    assert bench.try_out(token_warning_threshold=100) == ConfigAnswer(
        {"token_warning_threshold": Difference(W, 100)},
        notable_values(after),
        dry_run=True,
        rehearsal=DryRunEffect(4, 2, moved_to_ollama=2, moved_to_claude=0),
    )
    assert bench.try_out("work", token_warning_threshold=100).rehearsal == DryRunEffect(1, 0, 0, 0)
    assert wire.dump(bench.file) == before


def test_a_dry_run_refuses_what_the_change_would_refuse(bench: Bench) -> None:
    changes: dict[str, Any] = {"token_warning_threshold": A + 1}
    dry = problems(bench.router.update_config(changes, "test", dry_run=True))
    assert dry == problems(bench.router.update_config(changes, "test"))


def test_a_dry_run_says_what_the_change_then_does(bench: Bench) -> None:
    bench.change(token_warning_threshold=190_000, token_auto_switch_threshold=195_000)
    run_sync(bench.router.unset_config(("token_auto_switch_threshold",), "test"))
    tried = bench.try_out(token_warning_threshold=100_000)
    done = bench.change(token_warning_threshold=100_000)
    assert (tried.changes, tried.settings) == (done.changes, done.settings)


def test_settings_go_back_to_their_defaults_all_or_none(bench: Bench) -> None:
    bench.change(session_limit=300_000, task_mappings={"essay": "m:1"})
    with pytest.raises(InvalidInputError):
        run_sync(bench.router.unset_config(("session_limit", "nonsense"), "test"))
    assert bench.status().session_limit == 300_000
    names = ("session_limit", "task_mappings.essay")
    assert run_sync(bench.router.unset_config(names, "test")) == ConfigAnswer(
        {
            "session_limit": Difference(300_000, 200_000),
            "task_mappings.essay": Difference("m:1", None),
        },
        notable_values(Settings()),
    )


def test_removing_a_mapping_that_is_not_there_stores_nothing(bench: Bench) -> None:
    bench.route("debug")
    before = wire.dump(bench.file)
    run_sync(bench.router.unset_config(("task_mappings.unheard_of",), "test"))
    assert wire.dump(bench.file) == before


@pytest.mark.parametrize(("session", "ids"), [(None, [4, 3, 2]), ("default", [3, 1]), ("x", [])])
def test_the_newest_decisions_come_first(bench: Bench, session: str | None, ids: list[int]) -> None:
    for name in ("default", "work", "default", "work"):
        bench.route("debug", session=name)
    logged = run_sync(bench.archive.list_decisions(3, session))
    assert [entry.decision_id for entry in logged] == ids


def test_history_is_found_under_any_spelling_of_a_sessions_name(bench: Bench) -> None:
    bench.route("debug", session="cafe\u0301 ")
    for spelling in ("caf\u00e9", "cafe\u0301", " caf\u00e9 "):
        decisions = run_sync(bench.archive.list_decisions(10, spelling))
        sessions = run_sync(bench.archive.list_sessions(10, spelling))
        assert (len(decisions), len(sessions)) == (1, 1)


def test_a_use_case_that_waits_is_a_bug_on_an_inline_ledger() -> None:
    class Waiting:
        def __await__(self) -> Generator[None]:
            yield

    async def waits() -> None:
        await Waiting()

    with pytest.raises(RuntimeError, match="must not await"):
        run_sync(waits())


@dataclass
class StatedSession:
    """What a session should stand at."""

    tokens: int = 0
    local: int = 0
    started_at: datetime = NOON
    reasons: Counter[str] = field(default_factory=Counter[str])


class RouterAgainstItsStatement(RuleBasedStateMachine):
    """The router against a model in memory: totals, levels, reasons, resets, windows, outcomes."""

    decisions = Bundle[int]("decisions")
    requests = Bundle[tuple[str, str, str, int]]("requests")
    names = st.sampled_from(["default", "work", "caf\u00e9"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.opened = bench_at(Path(self.folder.name) / "ledger.db")
        self.bench = self.opened.__enter__()
        self.open: dict[str, StatedSession] = {}
        self.outcomes: dict[int, str | None] = {}
        self.sessions_ever = 0
        self.warning, self.auto_switch, self.window = 1_000, 2_000, 0

    @initialize()
    def lower_the_thresholds(self) -> None:
        self.bench.change(token_warning_threshold=1_000, token_auto_switch_threshold=2_000)

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        if self.bench.file.exists():
            wire.assert_sound(self.bench.file)
        self.folder.cleanup()

    def standing(self, name: str) -> StatedSession | None:
        session = self.open.get(name)
        age = self.bench.clock.now - session.started_at if session else timedelta()
        if self.window and age >= timedelta(minutes=self.window):
            return None
        return session

    def touched(self, name: str) -> StatedSession:
        session = self.standing(name)
        if session is None:
            session = self.open[name] = StatedSession(started_at=self.bench.clock.now)
            self.sessions_ever += 1
        return session

    def level(self, tokens: int) -> str:
        if tokens >= self.auto_switch:
            return "critical"
        return "warning" if tokens >= self.warning else "normal"

    @rule(
        target=decisions,
        name=names,
        task_type=st.sampled_from(["debug", "essay"]),
        classification=st.sampled_from(["routine", "creative", "critical"]),
    )
    def route(self, name: str, task_type: str, classification: str) -> int:
        session = self.touched(name)
        level = self.level(session.tokens)
        if level == "critical":
            reason = "token_budget_exceeded"
        elif level == "warning" and classification == "routine":
            reason = "token_budget_warning"
        elif classification == "critical":
            reason = "task_critical"
        else:
            reason = "task_optimized" if task_type == "debug" else "default_complex"
        answer = self.bench.route(task_type, classification, session=name)
        is_claude = reason in {"task_critical", "default_complex"}
        expected_id = len(self.outcomes) + 1
        assert answer == RouteAnswer(
            CLAUDE if is_claude else CODER,
            Provider.CLAUDE if is_claude else Provider.OLLAMA,
            Reason(reason),
            WarningLevel(level),
            session.tokens,
            expected_id,
        )
        session.reasons[reason] += 1
        self.outcomes[expected_id] = None
        return expected_id

    def recorded(self, name: str, model: str, tokens: int, **more: Any) -> None:
        session = self.touched(name)
        before = self.level(session.tokens)
        if model == CLAUDE:
            session.tokens += tokens
        else:
            session.local += tokens
        after = WarningLevel(self.level(session.tokens))
        answer = self.bench.record(tokens, model, session=name, **more)
        assert answer == RecordAnswer(
            session.tokens, session.local, after, crossed=None if before == after else after
        )

    @rule(name=names, model=st.sampled_from([CLAUDE, "llama3:8b"]), tokens=st.integers(0, 900))
    def record(self, name: str, model: str, tokens: int) -> None:
        self.recorded(name, model, tokens)

    @rule(
        target=requests,
        name=names,
        model=st.sampled_from([CLAUDE, "llama3:8b"]),
        tokens=st.integers(0, 900),
        number=st.integers(0, 10**6),
    )
    def record_a_request(
        self, name: str, model: str, tokens: int, number: int
    ) -> tuple[str, str, str, int]:
        known = wire.rows(
            self.bench.file, "SELECT 1 FROM immunos_mcp_usage WHERE external_id = ?", str(number)
        )
        assume(not known)
        self.recorded(name, model, tokens, request_id=str(number))
        return name, str(number), model, tokens

    @rule(request=requests)
    def repeat_a_request(self, request: tuple[str, str, str, int]) -> None:
        name, request_id, model, tokens = request
        session = self.standing(name) or StatedSession()
        answer = self.bench.record(tokens, model, session=name, request_id=request_id)
        level = WarningLevel(self.level(session.tokens))
        assert answer == RecordAnswer(session.tokens, session.local, level, repeated=True)

    @rule(request=requests)
    def a_request_of_other_usage_is_refused(self, request: tuple[str, str, str, int]) -> None:
        name, request_id, model, tokens = request
        with pytest.raises(InvalidInputError, match="request_id"):
            self.bench.record(tokens + 1, model, session=name, request_id=request_id)

    @rule(
        decision_id=consumes(decisions), name=names, outcome=st.sampled_from(["success", "failure"])
    )
    def close_a_decision(self, decision_id: int, name: str, outcome: str) -> None:
        self.recorded(name, CLAUDE, 1, decision_id=decision_id, outcome=outcome)
        self.outcomes[decision_id] = outcome

    @rule(name=names)
    def reset(self, name: str) -> None:
        closed = self.open.get(name)
        answer = self.bench.reset("because", name)
        self.sessions_ever += 1
        self.open[name] = StatedSession(started_at=self.bench.clock.now)
        assert answer.session_id == self.sessions_ever
        if closed is None:
            assert answer == ResetAnswer(self.sessions_ever)
        else:
            assert (answer.closed_tokens, answer.closed_kept_local_tokens) == (
                closed.tokens,
                closed.local,
            )
            assert answer.closed_decisions == closed.reasons.total()

    @rule(warning=st.integers(1, 3_000), more=st.integers(0, 3_000))
    def change_the_thresholds(self, warning: int, more: int) -> None:
        self.warning, self.auto_switch = warning, warning + more
        self.bench.change(
            token_warning_threshold=warning, token_auto_switch_threshold=warning + more
        )

    @rule(minutes=st.sampled_from([0, 30, 60]))
    def change_the_window(self, minutes: int) -> None:
        self.window = minutes
        self.bench.change(session_window_minutes=minutes)

    @rule(minutes=st.integers(1, 40))
    def time_passes(self, minutes: int) -> None:
        self.bench.clock.move(minutes=minutes)

    @rule(name=names)
    def what_is_refused_changes_nothing(self, name: str) -> None:
        assume(name in self.open)
        before = wire.dump(self.bench.file)
        with pytest.raises(InvalidInputError):
            self.bench.route("!", session=name)
        with pytest.raises(InvalidInputError):
            self.bench.record(-1, session=name)
        with pytest.raises(InvalidInputError):
            self.bench.record(1, session=name, decision_id=len(self.outcomes) + 1)
        with pytest.raises(InvalidInputError):
            self.bench.change(token_warning_threshold=0)
        assert wire.dump(self.bench.file) == before

    @invariant()
    def every_session_stands_where_it_should(self) -> None:
        for name in ("default", "work", "caf\u00e9"):
            session, status = self.standing(name), self.bench.status(name)
            stated = session or StatedSession()
            assert (status.session_id is None) == (session is None)
            assert (status.session_tokens, status.kept_local_tokens, status.warning_level) == (
                stated.tokens,
                stated.local,
                self.level(stated.tokens),
            )
            assert status.decisions == stated.reasons
            assert status.started_at == (session.started_at if session else None)

    @invariant()
    def every_decision_and_session_is_in_the_history(self) -> None:
        logged = run_sync(self.bench.archive.list_decisions(10**6, None))
        assert {entry.decision_id: entry.outcome for entry in logged} == self.outcomes
        assert len(run_sync(self.bench.archive.list_sessions(10**6, None))) == self.sessions_ever


TestRouterAgainstItsStatement = RouterAgainstItsStatement.TestCase
TestRouterAgainstItsStatement.settings = hypothesis_settings(
    max_examples=examples.of_histories,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
