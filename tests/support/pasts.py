"""Random pasts for hypothesis: steps that use a router as its clients do, in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import made_ledgers
from hypothesis import strategies as st

from immunos_mcp.domain import (
    Engine,
    EngineState,
    Judge,
    LocalModel,
    Outcome,
    PlanUsage,
    TokenCounts,
)
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from immunos_mcp.rules.setting_kinds import SettingChangeValue

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
CLAUDE, CODER, SMALL = "claude-sonnet-4.5", "qwen2.5-coder:7b", "qwen2.5:1.5b"
HAIKU = "claude-haiku-4-5-20251001"
TIERS = ("haiku,sonnet", f"{CODER},haiku,sonnet")
TASK_TYPES = ("code_review", "debug", "summarize", "essay")
SESSIONS = ("default", "work")


@dataclass(frozen=True, slots=True)
class Route:
    task_type: str
    classification: str
    estimated_tokens: int | None
    session: str


@dataclass(frozen=True, slots=True)
class Report:
    """An outcome of one of the last decisions, by whichever model did it."""

    back: int
    outcome: str
    model: str | None
    tokens: int
    judge: Judge | None = Judge.ASSISTANT


@dataclass(frozen=True, slots=True)
class Streak:
    """Tasks of one type, each done as it is routed, with one outcome."""

    task_type: str
    outcome: str
    times: int


@dataclass(frozen=True, slots=True)
class Spend:
    tokens: int
    cache_read: int
    session: str


@dataclass(frozen=True, slots=True)
class Change:
    changes: Mapping[str, SettingChangeValue]


@dataclass(frozen=True, slots=True)
class ChangeIn:
    """A project folder gets settings of its own, or (``None``) loses one that it had."""

    folder: str
    name: str
    value: SettingChangeValue | None


@dataclass(frozen=True, slots=True)
class Move:
    """Calls come from other folders now."""

    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes; clocks may also be set back."""

    seconds: float


@dataclass(frozen=True, slots=True)
class See:
    """The local engine is seen otherwise; ``None``: nobody looks."""

    state: EngineState | None
    installed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    percent: float


@dataclass(frozen=True, slots=True)
class Reset:
    session: str


Step = Route | Report | Streak | Spend | Change | ChangeIn | Move | Wait | See | Plan | Reset

routes = st.builds(
    Route,
    st.sampled_from(TASK_TYPES),
    st.sampled_from(("routine", "creative", "critical")),
    st.none() | st.integers(0, 50_000),
    st.sampled_from(SESSIONS),
)
reports = st.builds(
    Report,
    st.integers(0, 5),
    st.sampled_from(("success", "failure", "failure")),
    st.none() | st.none() | st.sampled_from((CLAUDE, HAIKU, CODER, SMALL)),
    st.integers(0, 20_000),
    st.none() | st.sampled_from(Judge),
)
changes = st.builds(
    Change,
    st.one_of(
        st.fixed_dictionaries({"token_warning_threshold": st.integers(1, 180_000)}),
        st.fixed_dictionaries({"track_record": st.sampled_from(("on", "on", "advise", "off"))}),
        st.fixed_dictionaries({"record_gain": st.sampled_from((0.0, 0.1, 0.3, 0.9))}),
        st.fixed_dictionaries({"record_half_life_days": st.integers(1, 400)}),
        st.fixed_dictionaries({"record_retry_days": st.integers(1, 60)}),
        st.fixed_dictionaries({"cache_read_weight": st.sampled_from((0.0, 0.1, 1.0))}),
        st.fixed_dictionaries({"plan_warning_percent": st.sampled_from((0, 50))}),
        st.fixed_dictionaries({"claude_model": st.sampled_from((CLAUDE, "gpt-5"))}),
        st.fixed_dictionaries({"session_window_minutes": st.sampled_from((0, 60))}),
        st.fixed_dictionaries(
            {
                "task_mappings": st.dictionaries(
                    st.sampled_from(TASK_TYPES),
                    st.sampled_from(
                        (CODER, f"{CODER},{SMALL}", f"{SMALL},{CLAUDE}", CLAUDE, *TIERS)
                    ),
                    max_size=2,
                )
            }
        ),
    ),
)
FOLDERS = ("/apps", "/apps/app", "/home")
OWN: tuple[tuple[str, SettingChangeValue | None], ...] = (
    ("handover", "never"),
    ("handover", "on"),
    ("handover", None),
    ("engines_allowed", "this_machine"),
    ("token_warning_threshold", 20_000),
    ("track_record", "off"),
    ("task_mappings", {"debug": SMALL, "code_review": None}),
    ("task_mappings", None),
)


def change_in(folder: str, change: tuple[str, SettingChangeValue | None]) -> ChangeIn:
    return ChangeIn(folder, *change)


changes_in = st.builds(change_in, st.sampled_from(FOLDERS), st.sampled_from(OWN))
moves = st.builds(
    Move, st.lists(st.sampled_from((*FOLDERS, "/apps/app/src")), max_size=2).map(tuple)
)
waits = st.builds(Wait, st.sampled_from((-2.0, 0.0, 0.0004, 30.0, 4000.0, 86_400.0 * 20)))
sights = st.builds(
    See,
    st.none() | st.sampled_from((EngineState.UP, EngineState.UP, EngineState.DOWN)),
    st.lists(st.sampled_from((CODER, SMALL, "qwen2.5-coder:1.5b")), unique=True).map(tuple),
)
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        routes,
        reports,
        st.builds(
            Streak,
            st.sampled_from(TASK_TYPES[:2]),
            st.sampled_from(("success", "failure")),
            st.integers(1, 6),
        ),
        waits,
        changes,
        changes_in,
        moves,
        sights,
        st.builds(Spend, st.integers(0, 90_000), st.integers(0, 90_000), st.sampled_from(SESSIONS)),
        st.builds(Plan, st.sampled_from((10.0, 60.0, 99.0))),
        st.builds(Reset, st.sampled_from(SESSIONS)),
    ),
    min_size=25,
    max_size=60,
)


@dataclass(slots=True)
class Past:
    """A ledger, and what happens to it."""

    file: Path
    now: datetime = START
    engine: Engine | None = None
    decision_ids: list[int] = field(default_factory=list[int])
    places: tuple[str, ...] = ()

    def live(self, lived: list[Step]) -> None:
        """Let every step happen, each as one call."""
        if not self.file.exists():
            made_ledgers.put(self.file, made_ledgers.empty())
        with InlineSqliteLedger(self.file) as ledger:
            for step in lived:
                router = Router(
                    ledger,
                    "default",
                    lambda: self.now,
                    engine=None if self.engine is None else self._seen,
                    places=self.places,
                )
                try:
                    self._take(step, router)
                except (InvalidInputError, InvalidStoredSettingsError):
                    # What was refused changed nothing.
                    continue

    def _seen(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def _take(self, step: Step, router: Router) -> None:  # noqa: C901, PLR0912  # a case for each kind
        match step:
            case Route():
                answer = run_sync(
                    router.route_task(
                        step.task_type, step.classification, step.estimated_tokens, step.session
                    )
                )
                self.decision_ids.append(answer.decision_id)
            case Streak():
                for _ in range(step.times):
                    answer = run_sync(router.route_task(step.task_type, "routine"))
                    self.decision_ids.append(answer.decision_id)
                    run_sync(router.outcomes.close(answer.decision_id, step.outcome))
            case Report():
                self._report(step, router)
            case Spend():
                run_sync(
                    router.record_usage(
                        CLAUDE,
                        step.tokens,
                        0,
                        cache_read_input_tokens=step.cache_read,
                        session=step.session,
                    )
                )
            case Change():
                run_sync(router.update_config(step.changes, "test"))
            case ChangeIn():
                own = router.project_settings
                if step.value is None:
                    run_sync(own.unset(step.folder, (step.name,), "test"))
                else:
                    run_sync(own.change(step.folder, {step.name: step.value}, "test"))
            case Move():
                self.places = step.places
            case Wait():
                self.now += timedelta(seconds=step.seconds)
            case See():
                models = {name: LocalModel(name, size_bytes=9) for name in step.installed}
                self.engine = None if step.state is None else Engine(step.state, models=models)
            case Plan():
                usage = PlanUsage("five_hour", step.percent, self.now + timedelta(hours=1))
                run_sync(router.record_plan_usage([usage]))
            case Reset():
                run_sync(router.reset_session(session=step.session))

    def _report(self, step: Report, router: Router) -> None:
        for decision_id in self.decision_ids[-1 - step.back :][:1]:
            if step.judge is None:
                run_sync(
                    router.handover.record(
                        step.model or CODER,
                        TokenCounts(step.tokens),
                        decision_id,
                        Outcome(step.outcome),
                    )
                )
            elif step.model is None:
                run_sync(router.outcomes.close(decision_id, step.outcome, judge=step.judge))
            else:
                run_sync(
                    router.record_usage(
                        step.model,
                        step.tokens,
                        0,
                        decision_id=decision_id,
                        outcome=step.outcome,
                        judge=step.judge,
                    )
                )
