"""Applies the policy to logged tasks again, in order: pure functions of a history.

With the original settings, every decision is as logged: the history has all its inputs, including the
state of the local engine and the order in which outcomes became known. With other settings, a task that
goes elsewhere takes its tokens along, so later decisions of the session see the total it would have had.
"""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.domain import Classification, Task, TokenCounts
from immunos_mcp.replay.records import RecordsSoFar
from immunos_mcp.rules import levels, policy
from immunos_mcp.rules.budgets import states, tightest, uses_of
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.claude_tiers import record_key
from immunos_mcp.rules.ladder import models_tried
from immunos_mcp.rules.project_settings import origins_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.domain import Engine
    from immunos_mcp.replay.history import History, PastDecision, SettingsOf
    from immunos_mcp.replay.shifts import Shifts
    from immunos_mcp.rules.budgets import BudgetState
    from immunos_mcp.rules.policy import Case, Choice
    from immunos_mcp.rules.project_settings import Origins
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.track_record import Evidence


class Replayed(NamedTuple):
    """A logged decision, the new choice, and the session total it was made at."""

    past: PastDecision
    case: Case
    session_tokens: int
    choice: Choice


class DecisionInputs(NamedTuple):
    """The inputs of a decision, as arguments of ``explanation.explain``.

    Attributes:
        origins: the folder of each setting that a project folder had of its own.
    """

    settings: Settings
    circumstances: Circumstances
    task: Task
    origins: Origins = MappingProxyType({})


class _FirstChoice(NamedTuple):
    """A choice before the track record, and whether the record is to be consulted."""

    case: Case
    choice: Choice
    consults_record: bool


def replay(
    history: History, settings_of: SettingsOf, shifts: Shifts | None = None
) -> Iterator[Replayed]:
    """Decide each logged task again, with the information available at the time.

    Args:
        history: the logged past.
        settings_of: the settings to decide with.
        shifts: records every move and how much totals differ; ``None``: totals stay as logged.
    """
    records = RecordsSoFar(history.records)
    # Cases with the same inputs to the policy table share a choice, unless a record is consulted.
    known: dict[tuple[object, ...], _FirstChoice] = {}
    same_weights: dict[int, bool] = {}
    for past in _learning(history, records, settings_of):
        policy_id, task_type = past.policy_id, past.task_type
        settings = settings_of(policy_id, past.folder, past.setting_folders)
        if policy_id not in same_weights:
            same_weights[policy_id] = levels.weights_in_thousandths(
                settings
            ) == levels.weights_in_thousandths(history.policies[policy_id])
        total = past.session_tokens
        if not same_weights[policy_id]:
            total = _weighed_again(past, settings)
        if shifts is not None:
            total = max(0, total + shifts.totals.get(past.session_id, 0))
        level = levels.warning_level(total, settings)
        plan_level = levels.plan_level(past.plan_used_percent, settings)
        budget = _budget_of(past, settings)
        spend = None if budget is None else (budget.budget.name, budget.level)
        # What fits beside reservations follows from every figure of the case.
        figures = None
        if past.held_tokens is not None:
            figures = (total, past.held_tokens, past.estimated_tokens, past.budget_uses)
        key = (
            figures,
            policy_id,
            id(settings),
            past.engine_id,
            level,
            plan_level,
            spend,
            past.classification,
            task_type,
            past.tried,
        )
        found = known.get(key)
        if found is None:
            found = known[key] = _first_choice(past, total, settings, history.engines)
        case, choice, consults_record = found
        if consults_record:
            choice = _with_record(past, case, settings, history.engines, records)
        if shifts is not None and choice.provider != past.provider:
            shifts.move(past, choice.provider, settings)
        yield Replayed(past, case, total, choice)


def records_before(history: History) -> dict[tuple[str, str], Evidence]:
    """Return the evidence on every model, by task type, just before the first decision to replay."""
    records = RecordsSoFar(history.records)
    next(iter(_learning(history, records, history.settings_of)), None)
    return records.evidence()


def inputs_of(history: History) -> DecisionInputs | None:
    """Return the inputs of the first decision to replay; ``None``: there is none."""
    records = RecordsSoFar(history.records)
    for past in _learning(history, records, history.settings_of):
        engine = _engine_of(past, history.engines)
        record = records.at(past.task_type, datetime.fromisoformat(past.decided_at))
        return DecisionInputs(
            history.policies[past.policy_id],
            Circumstances(
                past.session_tokens,
                past.plan_used_percent,
                engine,
                record,
                uses_of(past.budget_uses),
                past.held_tokens,
            ),
            _task_of(past),
            origins_of(past.setting_folders or "{}"),
        )
    return None


def _learning(
    history: History, records: RecordsSoFar, settings_of: SettingsOf
) -> Iterator[PastDecision]:
    """Yield the decisions to replay; by then, the records have the evidence of that time."""
    outcomes = iter(history.outcomes())
    outcome = next(outcomes, None)
    for past in history.decisions():
        while outcome is not None and outcome.after_decision_id < past.decision_id:
            records.learn(outcome, settings_of(outcome.policy_id, None, None))
            outcome = next(outcomes, None)
        if past.is_replayed:
            yield past
        else:
            settings = settings_of(past.policy_id, None, None)
            model = record_key(past.model, past.task_type, settings)
            moment = datetime.fromisoformat(past.decided_at)
            records.remember_trial(past.task_type, model, moment)


def _first_choice(
    past: PastDecision, total: int, settings: Settings, engines: Mapping[int, Engine]
) -> _FirstChoice:
    uses = uses_of(past.budget_uses)
    circumstances = Circumstances(
        total, past.plan_used_percent, budgets=uses, held_tokens=past.held_tokens
    )
    case = policy.examine(settings, circumstances, _task_of(past))
    choice = policy.choose(case, _engine_of(past, engines), None)
    return _FirstChoice(case, choice, policy.consults_record(case, choice))


def _with_record(
    past: PastDecision,
    case: Case,
    settings: Settings,
    engines: Mapping[int, Engine],
    records: RecordsSoFar,
) -> Choice:
    now = datetime.fromisoformat(past.decided_at)
    choice = policy.choose(case, _engine_of(past, engines), records.at(past.task_type, now))
    if choice.trial:
        model = record_key(choice.model, past.task_type, settings)
        records.remember_trial(past.task_type, model, now)
    return choice


def _task_of(past: PastDecision) -> Task:
    return Task(
        past.task_type,
        Classification(past.classification),
        past.estimated_tokens,
        follows=past.follows,
        tried=models_tried(past.tried),
    )


def _budget_of(past: PastDecision, settings: Settings) -> BudgetState | None:
    if past.budget_uses is None or not settings.budgets:
        return None
    return tightest(states(settings.budgets, uses_of(past.budget_uses)))


def _engine_of(past: PastDecision, engines: Mapping[int, Engine]) -> Engine | None:
    return None if past.engine_id is None else engines[past.engine_id]


def _weighed_again(past: PastDecision, settings: Settings) -> int:
    if past.input_tokens is None:
        return past.session_tokens
    counts = TokenCounts(
        past.input_tokens,
        past.output_tokens or 0,
        past.cache_creation_input_tokens or 0,
        past.cache_read_input_tokens or 0,
    )
    return levels.budget_tokens(counts, settings)
