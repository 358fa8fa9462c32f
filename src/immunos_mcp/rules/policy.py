"""The routing policy: pure functions from values to a decision.

No clock, no I/O and no randomness; the same values always give the same decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    Consultation,
    Decision,
    HandoverChoice,
    Provider,
    Reason,
    Switch,
    WarningLevel,
)
from immunos_mcp.rules.budgets import states, tightest, without_room
from immunos_mcp.rules.claude_tiers import compared, stronger
from immunos_mcp.rules.ladder import local_rungs, rungs
from immunos_mcp.rules.levels import plan_level, warning_level
from immunos_mcp.rules.models import (
    Availability,
    availability,
    fallback_models,
    local_model,
    mapped_models,
    provider_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.domain import Engine, Task
    from immunos_mcp.rules.budgets import BudgetState
    from immunos_mcp.rules.circumstances import Circumstances
    from immunos_mcp.rules.settings import Settings
    from immunos_mcp.rules.track_record import TaskRecord, Verdict


class Case(Struct, frozen=True):
    """What the rows of the table check.

    Attributes:
        session_tokens: the session's budget tokens.
        plan_used_percent: how full the subscription's limit is, if the settings use it.
        level: the session's level.
        plan_level: the level of the subscription's own limit.
        task: what is to be done.
        settings: the settings in force.
        budget: the tightest of the budgets beside the session's own; ``None``: there is none.
        held_tokens: what open reservations of the session hold back; ``None``: reservations are off.
        full_budget: a budget that the task does not fit in beside open reservations.
    """

    session_tokens: int
    plan_used_percent: float | None
    level: WarningLevel
    plan_level: WarningLevel
    task: Task
    settings: Settings
    budget: BudgetState | None = None
    held_tokens: int | None = None
    full_budget: BudgetState | None = None

    @property
    def budget_level(self) -> WarningLevel:
        """The level of the tightest budget."""
        return WarningLevel.NORMAL if self.budget is None else self.budget.level

    @property
    def fits(self) -> bool:
        """Whether the task and all open reservations fit the session's limit and every budget."""
        if self.held_tokens is None or self.task.estimated_tokens is None:
            return True
        wanted = self.session_tokens + self.held_tokens + self.task.estimated_tokens
        return wanted <= self.settings.session_limit and self.full_budget is None


class Row(Struct, frozen=True):
    """One row of the policy's table.

    Attributes:
        reason: the word that the decision carries.
        applies: whether the row fits a case.
        model: the model it chooses.
        why: what it checks in a case, as text with the numbers.
    """

    reason: Reason
    applies: Callable[[Case], bool]
    model: Callable[[Case], str]
    why: Callable[[Case], str]


def _local(case: Case) -> str:
    return local_model(case.task.task_type, case.settings)


def _claude(case: Case) -> str:
    return case.settings.claude_model


def _mapped_claude(case: Case) -> str:
    mapped = mapped_models(case.task.task_type, case.settings)
    own = (each for each in mapped if provider_of(each, case.settings) is Provider.CLAUDE)
    return next(own, case.settings.claude_model)


def _is_routine(case: Case) -> bool:
    return case.task.classification is Classification.ROUTINE


def _against(name: str, threshold: int, case: Case) -> str:
    sign = ">=" if case.session_tokens >= threshold else "<"
    return f"{case.session_tokens} tokens {sign} {name} {threshold}"


def _plan_against(name: str, threshold: int, case: Case) -> str:
    if not threshold:
        return f"{name} is off"
    if case.plan_used_percent is None:
        return "the plan's limits are unknown"
    sign = ">=" if case.plan_used_percent >= threshold else "<"
    return f"{case.plan_used_percent:g}% of the plan {sign} {name} {threshold}"


def _budget_against(name: str, case: Case) -> str:
    found = case.budget
    if found is None:
        return "no budget is set, or none is known"
    budget = found.budget
    warning, switch = budget.warning_percent, budget.switch_percent
    threshold = switch if name == "auto-switch" else warning
    sign = ">=" if (found.percent or 0) >= threshold else "<"
    return f"budget {budget.name} ({budget.text}) at {found.percent:g}% {sign} {name} {threshold}"


def _classed(case: Case) -> str:
    return f"the task is {case.task.classification}"


def _is_reserved(classification: Classification, settings: Settings) -> bool:
    return classification in settings.claude_classifications.split(",")


def _mapped(case: Case) -> str:
    models = mapped_models(case.task.task_type, case.settings)
    return f"{case.task.task_type} is mapped to {', '.join(models) or 'nothing'}"


ROWS: tuple[Row, ...] = (
    Row(
        Reason.HANDOVER_FORBIDDEN,
        lambda case: case.settings.handover is HandoverChoice.NEVER,
        _mapped_claude,
        lambda case: f"handover is {case.settings.handover}",
    ),
    Row(
        Reason.TOKEN_BUDGET_EXCEEDED,
        lambda case: case.level is WarningLevel.CRITICAL,
        _local,
        lambda case: _against("auto-switch", case.settings.token_auto_switch_threshold, case),
    ),
    Row(
        Reason.PLAN_LIMIT_EXCEEDED,
        lambda case: case.plan_level is WarningLevel.CRITICAL,
        _local,
        lambda case: _plan_against("auto-switch", case.settings.plan_auto_switch_percent, case),
    ),
    Row(
        Reason.SPEND_LIMIT_EXCEEDED,
        lambda case: case.budget_level is WarningLevel.CRITICAL,
        _local,
        lambda case: _budget_against("auto-switch", case),
    ),
    Row(
        Reason.TOKEN_BUDGET_WARNING,
        lambda case: case.level is WarningLevel.WARNING and _is_routine(case),
        _local,
        lambda case: (
            f"{_against('warning', case.settings.token_warning_threshold, case)}, {_classed(case)}"
        ),
    ),
    Row(
        Reason.PLAN_LIMIT_WARNING,
        lambda case: case.plan_level is WarningLevel.WARNING and _is_routine(case),
        _local,
        lambda case: (
            f"{_plan_against('warning', case.settings.plan_warning_percent, case)}, {_classed(case)}"
        ),
    ),
    Row(
        Reason.SPEND_LIMIT_WARNING,
        lambda case: case.budget_level is WarningLevel.WARNING and _is_routine(case),
        _local,
        lambda case: f"{_budget_against('warning', case)}, {_classed(case)}",
    ),
    Row(
        Reason.TASK_CRITICAL,
        lambda case: case.task.classification is Classification.CRITICAL,
        _claude,
        _classed,
    ),
    Row(
        Reason.TASK_RESERVED,
        lambda case: _is_reserved(case.task.classification, case.settings),
        _claude,
        lambda case: f"{_classed(case)}, {case.settings.claude_classifications} stays with Claude",
    ),
    Row(
        Reason.TASK_OPTIMIZED,
        lambda case: case.task.task_type in case.settings.task_mappings,
        lambda case: mapped_models(case.task.task_type, case.settings)[0],
        _mapped,
    ),
    Row(Reason.DEFAULT_COMPLEX, lambda _case: True, _claude, lambda _case: "nothing else applies"),
)
"""The policy's table; the first row that applies decides, and the order is a contract."""


class Considered(Struct, frozen=True):
    """A model that the steps after the table considered, and what they found.

    Attributes:
        model: the model.
        availability: whether it can run.
        verdict: the verdict of its record, if that was consulted.
    """

    model: str
    availability: Availability
    verdict: Verdict | None = None


class Choice(Decision, frozen=True):
    """A decision with what led to it.

    Attributes:
        considered: the models that the steps after the table considered, in order.
    """

    considered: tuple[Considered, ...] = ()


def decide(settings: Settings, circumstances: Circumstances, task: Task) -> Decision:
    """Choose the model for a task in given circumstances, with the reason."""
    case = examine(settings, circumstances, task)
    choice = choose(case, circumstances.engine, circumstances.record)
    return Decision(*(getattr(choice, name) for name in Decision.__struct_fields__))


def choose(case: Case, engine: Engine | None, record: TaskRecord | None) -> Choice:
    """Find the first row that applies, and take the steps after the table.

    What would go to Claude and does not fit beside open reservations is decided as if the auto-switch
    threshold were reached; its level stays as it is.
    """
    choice = _choose(case, engine, record)
    is_hard = choice.reason is Reason.HANDOVER_FORBIDDEN
    if choice.provider is not Provider.CLAUDE or is_hard or case.fits:
        return choice
    if case.full_budget is None:
        refused = replace(case, level=WarningLevel.CRITICAL)
    else:
        full = replace(case.full_budget, level=WarningLevel.CRITICAL)
        refused = replace(case, budget=full)
    refusal = _choose(refused, engine, record)
    return replace(
        refusal, warning_level=case.level, projected_level=_projected_level(refusal, case)
    )


def _projected_level(refusal: Choice, case: Case) -> WarningLevel | None:
    tokens = refusal.projected_tokens
    return None if tokens is None else warning_level(tokens, case.settings)


def _choose(case: Case, engine: Engine | None, record: TaskRecord | None) -> Choice:
    row = next(row for row in ROWS if row.applies(case))
    settings = case.settings
    chosen = _chosen(case, row.reason, row.model(case))
    if row.reason is not Reason.TASK_OPTIMIZED:
        if chosen.provider is Provider.CLAUDE:
            return chosen
        # The budget is hard: the task stays local, whatever is found.
        if case.task.tried:
            chosen = _stays_local(chosen, case, engine)
        found = availability(chosen.model, engine, settings)
        considered = (Considered(chosen.model, found),)
        return replace(chosen, available=found.can_run, remedy=found.remedy, considered=considered)
    if settings.track_record is Consultation.OFF or record is None:
        return _walk(case, engine, None)
    with_record = _walk(case, engine, record)
    if settings.track_record is Consultation.ON:
        return with_record
    without = _walk(case, engine, None)
    advised = with_record.model if with_record.model != without.model else None
    return replace(without, advised_model=advised, considered=with_record.considered)


def _stays_local(chosen: Choice, case: Case, engine: Engine | None) -> Choice:
    """Return the next local model for a task that was tried; the table's where there is none."""
    model = next(local_rungs(case.task, engine, case.settings), chosen.model)
    if model == chosen.model:
        return chosen
    return replace(chosen, model=model, changed_by=ChangedBy.LADDER, table_model=chosen.model)


def _chosen(case: Case, reason: Reason, model: str) -> Choice:
    """Return the choice of a model, with the figures of its case."""
    settings, provider = case.settings, provider_of(model, case.settings)
    projected_tokens = projected_level = None
    if case.task.estimated_tokens is not None:
        spent = case.task.estimated_tokens if provider is Provider.CLAUDE else 0
        projected_tokens = case.session_tokens + spent
        projected_level = warning_level(projected_tokens, settings)
    return Choice(
        model=model,
        provider=provider,
        reason=reason,
        warning_level=case.level,
        session_tokens=case.session_tokens,
        projected_tokens=projected_tokens,
        projected_level=projected_level,
        plan_used_percent=case.plan_used_percent,
        budget=None if case.budget is None else case.budget.budget.name,
        budget_used_percent=None if case.budget is None else case.budget.percent,
        held_tokens=case.held_tokens,
        reserved_tokens=(
            case.task.estimated_tokens or None
            if case.held_tokens is not None and provider is Provider.CLAUDE
            else None
        ),
    )


def consults_record(case: Case, choice: Choice) -> bool:
    """Return whether another record could have changed the choice."""
    return (
        choice.reason is Reason.TASK_OPTIMIZED
        and bool(choice.considered)
        and case.settings.track_record is not Consultation.OFF
    )


def _walk(case: Case, engine: Engine | None, record: TaskRecord | None) -> Choice:
    """Go through the models of a mapped task until one can run and is not passed over.

    They are the mapped ones in order, where the first cannot run installed ones of the same kind,
    and Claude. Of a task that was tried they are those behind the ones that failed, and Claude. The last
    of Claude's models takes what the others leave.
    """
    settings, task_type = case.settings, case.task.task_type
    models = mapped_models(task_type, settings)
    table_model, first = models[0], _availability(models[0], engine, settings)
    changed_by = ChangedBy.LADDER if case.task.tried else None
    models = _candidates(case, engine, models, first)
    considered: list[Considered] = []
    model = claude = settings.claude_model
    available, trial = None, False
    for candidate in models:
        behind = stronger(candidate, models, settings)
        if not behind and provider_of(candidate, settings) is Provider.CLAUDE:
            model = candidate
            break
        found = _availability(candidate, engine, settings)
        verdict = None
        if record is not None and found.can_run is not False:
            behind = behind or (settings.claude_model,)
            claude, verdict = compared(candidate, behind, task_type, record, settings)
        considered.append(Considered(candidate, found, verdict))
        if found.can_run is False:
            changed_by = changed_by or ChangedBy.AVAILABILITY
            continue
        trial = verdict is not None and verdict.trial
        if verdict is None or not verdict.passed_over:
            model, available = candidate, found.can_run
            break
        changed_by = changed_by or ChangedBy.TRACK_RECORD
        if trial:
            model = claude
            break
    is_changed = model != table_model
    return replace(
        _chosen(case, Reason.TASK_OPTIMIZED, model),
        available=available,
        changed_by=changed_by if is_changed else None,
        table_model=table_model if is_changed else None,
        remedy=first.remedy,
        trial=trial or None,
        considered=tuple(considered),
    )


def _candidates(
    case: Case, engine: Engine | None, models: tuple[str, ...], first: Availability
) -> tuple[str, ...]:
    if case.task.tried:
        return rungs(case.task, case.settings)
    if engine is not None and first.can_run is False:
        models = (*models, *fallback_models(models[0], engine, case.settings))
    return tuple(dict.fromkeys(models))


def _availability(model: str, engine: Engine | None, settings: Settings) -> Availability:
    """Return whether a model can run; of Claude's the engine knows nothing."""
    is_claude = provider_of(model, settings) is Provider.CLAUDE
    return Availability() if is_claude else availability(model, engine, settings)


def examine(settings: Settings, circumstances: Circumstances, task: Task) -> Case:
    """Return what the rows of the table check."""
    session_tokens, used_percent = circumstances.session_tokens, circumstances.plan_used_percent
    found = states(settings.budgets, circumstances.budgets) if settings.budgets else ()
    held_tokens = circumstances.held_tokens if settings.reservations is Switch.ON else None
    return Case(
        session_tokens,
        used_percent,
        warning_level(session_tokens, settings),
        plan_level(used_percent, settings),
        task,
        settings,
        tightest(found) if found else None,
        held_tokens,
        without_room(found) if held_tokens is not None else None,
    )
