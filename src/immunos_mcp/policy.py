"""The routing policy: pure functions from values to a decision.

No clock, no I/O and no randomness; the same values always give the same decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from immunos_mcp.domain import (
    Alternative,
    ChangedBy,
    Circumstances,
    Classification,
    Decision,
    EngineState,
    Explanation,
    Provider,
    Reason,
    Rehearsal,
    RowExplanation,
    Switch,
    WarningLevel,
)
from immunos_mcp.names import canonical_model, is_cloud_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from immunos_mcp.domain import (
        Engine,
        LoggedDecision,
        PlanUsage,
        Settings,
        Task,
        TokenCounts,
        Weights,
    )

_CLAUDE_NAME = re.compile(
    r"claude|^[^:]*(?<![a-z])(?:opus|sonnet|haiku)(?![a-z])[^:]*$", re.IGNORECASE
)


def provider_of(model: str, settings: Settings) -> Provider:
    """Tell whose tokens a model spends.

    Claude's are the model set as ``claude_model`` (whatever its name) and every model named after
    Claude or one of its families, in any spelling that APIs use. All others are local, and so is a
    name with a tag, such as ``magnum-opus:7b``, that only has a family's name in it.
    """
    if model == settings.claude_model or _CLAUDE_NAME.search(model):
        return Provider.CLAUDE
    return Provider.OLLAMA


def budget_tokens(counts: TokenCounts, weights: Weights) -> int:
    """Weigh the four kinds of tokens into budget tokens, rounded half up to a whole number.

    Weights count in thousandths, so that the sum is exact however large the counts are.
    """
    thousandths = (
        counts.input_tokens * round(weights.input_tokens * 1000)
        + counts.output_tokens * round(weights.output_tokens * 1000)
        + counts.cache_creation_input_tokens * round(weights.cache_creation_input_tokens * 1000)
        + counts.cache_read_input_tokens * round(weights.cache_read_input_tokens * 1000)
    )
    return (thousandths + 500) // 1000


def warning_level(session_tokens: int, settings: Settings) -> WarningLevel:
    """Place a session's budget tokens against the two thresholds."""
    if session_tokens >= settings.token_auto_switch_threshold:
        return WarningLevel.CRITICAL
    if session_tokens >= settings.token_warning_threshold:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL


def plan_used_percent(plan: Iterable[PlanUsage], settings: Settings) -> float | None:
    """Return how much of the fullest of the subscription's limits is used, in percent.

    ``None`` where nothing was reported, or where no setting looks at it.
    """
    if not settings.plan_warning_percent and not settings.plan_auto_switch_percent:
        return None
    return max((usage.used_percentage for usage in plan), default=None)


def plan_level(used_percent: float | None, settings: Settings) -> WarningLevel:
    """Place the use of the subscription's limit against its own two thresholds."""
    if used_percent is None:
        return WarningLevel.NORMAL
    if 0 < settings.plan_auto_switch_percent <= used_percent:
        return WarningLevel.CRITICAL
    if 0 < settings.plan_warning_percent <= used_percent:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL


def mapped_models(task_type: str, settings: Settings) -> tuple[str, ...]:
    """Return the models that a task type is mapped to, in order; none where it is not mapped."""
    mapped = settings.task_mappings.get(task_type)
    return () if mapped is None else tuple(mapped.split(","))


def local_model(task_type: str, settings: Settings) -> str:
    """Name the model that keeps a task type local: the first that it is mapped to and that does.

    A task type mapped to Claude alone, or to models that leave the machine where those are not
    allowed, has no local model of its own and gets the default one.
    """
    for model in mapped_models(task_type, settings):
        if provider_of(model, settings) is Provider.OLLAMA and not _is_forbidden(model, settings):
            return model
    return settings.default_local_model


def _is_forbidden(model: str, settings: Settings) -> bool:
    return settings.cloud_models is Switch.OFF and is_cloud_model(model)


def can_run(model: str, engine: Engine, settings: Settings) -> tuple[bool | None, str | None]:
    """Tell whether a local model can run now, and if not, the command that lets it.

    ``None`` where the engine was not seen yet or is too slow to tell.
    """
    if _is_forbidden(model, settings):
        return False, "immunos-mcp config set cloud_models=on"
    if engine.state in {EngineState.UNKNOWN, EngineState.SLOW}:
        return None, None
    if engine.state is not EngineState.UP:
        return False, "ollama serve" if engine.state is EngineState.DOWN else "immunos-mcp doctor"
    installed = engine.models.get(canonical_model(model))
    if installed is None:
        return False, f"ollama pull {model}"
    fit = installed.capabilities is None or "completion" in installed.capabilities
    return fit, None if fit else "immunos-mcp models"


@dataclass(frozen=True, slots=True)
class Case:
    """What the rows of the table look at.

    Attributes:
        session_tokens: the session's budget tokens.
        plan_used_percent: how full the subscription's limit is, where it is looked at.
        level: where the session stands against its thresholds.
        plan_level: where the subscription's own limit stands against its.
        task: what is to be done.
        settings: the settings in force.
    """

    session_tokens: int
    plan_used_percent: float | None
    level: WarningLevel
    plan_level: WarningLevel
    task: Task
    settings: Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the policy's table.

    Attributes:
        reason: the word that the decision carries.
        applies: whether the row fits a case.
        model: the model it chooses.
        why: what it looks at in a case, in words and numbers.
    """

    reason: Reason
    applies: Callable[[Case], bool]
    model: Callable[[Case], str]
    why: Callable[[Case], str]


def _local(case: Case) -> str:
    return local_model(case.task.task_type, case.settings)


def _claude(case: Case) -> str:
    return case.settings.claude_model


def _is_routine(case: Case) -> bool:
    return case.task.classification is Classification.ROUTINE


def _against(name: str, threshold: int, case: Case) -> str:
    sign = ">=" if case.session_tokens >= threshold else "<"
    return f"{case.session_tokens} tokens {sign} {name} {threshold}"


def _plan_against(name: str, threshold: int, case: Case) -> str:
    if not threshold:
        return f"{name} is off"
    if case.plan_used_percent is None:
        return "the plan's limits are not known"
    sign = ">=" if case.plan_used_percent >= threshold else "<"
    return f"{case.plan_used_percent:g} % of the plan {sign} {name} {threshold}"


def _classed(case: Case) -> str:
    return f"the task is {case.task.classification}"


def _mapped(case: Case) -> str:
    models = mapped_models(case.task.task_type, case.settings)
    return f"{case.task.task_type} is mapped to {', '.join(models) or 'nothing'}"


ROWS: tuple[Row, ...] = (
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
        Reason.TASK_CRITICAL,
        lambda case: case.task.classification is Classification.CRITICAL,
        _claude,
        _classed,
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


def decide(settings: Settings, circumstances: Circumstances, task: Task) -> Decision:
    """Choose the model for a task in given circumstances, and say which row chose it."""
    case = _case(settings, circumstances, task)
    session_tokens, used_percent, level = case.session_tokens, case.plan_used_percent, case.level
    row = next(row for row in ROWS if row.applies(case))
    table_model = row.model(case)
    model, available, remedy = table_model, None, None
    if circumstances.engine is not None:
        model, available, remedy = _available(row, case, table_model, circumstances.engine)
    is_changed = model != table_model
    provider = provider_of(model, settings)
    projected_tokens = projected_level = None
    if task.estimated_tokens is not None:
        spent = task.estimated_tokens if provider is Provider.CLAUDE else 0
        projected_tokens = session_tokens + spent
        projected_level = warning_level(projected_tokens, settings)
    return Decision(
        model=model,
        provider=provider,
        reason=row.reason,
        warning_level=level,
        session_tokens=session_tokens,
        projected_tokens=projected_tokens,
        projected_level=projected_level,
        plan_used_percent=used_percent,
        available=available,
        changed_by=ChangedBy.AVAILABILITY if is_changed else None,
        table_model=table_model if is_changed else None,
        remedy=remedy,
    )


def _case(settings: Settings, circumstances: Circumstances, task: Task) -> Case:
    session_tokens, used_percent = circumstances.session_tokens, circumstances.plan_used_percent
    return Case(
        session_tokens,
        used_percent,
        warning_level(session_tokens, settings),
        plan_level(used_percent, settings),
        task,
        settings,
    )


def explain(settings: Settings, circumstances: Circumstances, task: Task) -> Explanation:
    """Tell how ``decide`` comes to its answer, and which single change would give another.

    The changes tried are the other classifications, the other warning levels, and the task type
    being mapped to nothing.
    """
    case = _case(settings, circumstances, task)
    decision = decide(settings, circumstances, task)
    rows: list[RowExplanation] = []
    for row in ROWS:
        rows.append(RowExplanation(row.reason, row.applies(case), row.why(case)))
        if row.reason is decision.reason:
            break
    steps: list[str] = []
    if decision.table_model is not None:
        steps.append(f"{decision.table_model} cannot run ({decision.remedy}): {decision.model}")
    elif decision.available is False:
        steps.append(f"{decision.model} cannot run ({decision.remedy}); the budget is hard")
    unmapped = {
        task_type: model
        for task_type, model in settings.task_mappings.items()
        if task_type != task.task_type
    }
    warning, auto_switch = settings.token_warning_threshold, settings.token_auto_switch_threshold
    tried = [
        *(
            (f"the task were {other}", settings, circumstances, replace(task, classification=other))
            for other in Classification
            if other is not task.classification
        ),
        *(
            (
                f"the session were at {total}",
                settings,
                replace(circumstances, session_tokens=total),
                task,
            )
            for total in (0, warning, auto_switch)
            if warning_level(total, settings) is not case.level
        ),
        (
            f"{task.task_type} were not mapped",
            replace(settings, task_mappings=unmapped),
            circumstances,
            task,
        ),
    ]
    alternatives: list[Alternative] = []
    for when, other_settings, other_circumstances, other_task in tried:
        other = decide(other_settings, other_circumstances, other_task)
        if other.model != decision.model:
            alternatives.append(Alternative(when, other.model, other.reason))
    return Explanation(tuple(rows), tuple(steps), tuple(alternatives))


def _available(
    row: Row, case: Case, model: str, engine: Engine
) -> tuple[str, bool | None, str | None]:
    """Return the model that runs in the place of one that cannot, whether it can, and the remedy.

    Where the budget decided, the local choice stands. A mapped task goes to its further models in
    order, then to installed ones of the same kind, then to Claude.
    """
    settings = case.settings
    if provider_of(model, settings) is Provider.CLAUDE:
        return model, None, None
    available, remedy = can_run(model, engine, settings)
    if available is not False or row.reason is not Reason.TASK_OPTIMIZED:
        return model, available, remedy
    for candidate in (
        *mapped_models(case.task.task_type, settings)[1:],
        *_akin(model, case, engine),
    ):
        if provider_of(candidate, settings) is Provider.CLAUDE:
            return candidate, None, remedy
        if can_run(candidate, engine, settings)[0]:
            return candidate, True, remedy
    return settings.claude_model, None, remedy


def _akin(model: str, case: Case, engine: Engine) -> list[str]:
    """Return installed models fit for a mapped one's role: other sizes of it, then what is trusted.

    Of other sizes the largest comes first. Trusted is what the settings name for any task.
    """
    family = canonical_model(model).rpartition(":")[0]
    sizes = [
        installed
        for name, installed in engine.models.items()
        if name.rpartition(":")[0] == family and not is_cloud_model(name)
    ]
    sizes.sort(key=lambda installed: (-installed.size_bytes, installed.name))
    return [*(installed.name for installed in sizes), case.settings.default_local_model]


def named_models(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the local models that the settings name, each with the task types it is for."""
    named: dict[str, list[str]] = {}
    for task_type in settings.task_mappings:
        for model in mapped_models(task_type, settings):
            if provider_of(model, settings) is Provider.OLLAMA:
                named.setdefault(model, []).append(task_type)
    named.setdefault(settings.default_local_model, []).append("default")
    return {model: tuple(task_types) for model, task_types in named.items()}


def recommend(
    level: WarningLevel, settings: Settings, plan: WarningLevel = WarningLevel.NORMAL
) -> tuple[str, str]:
    """Name the model that the budget's and the plan's level recommend, and say so in words."""
    if level is WarningLevel.CRITICAL:
        return settings.default_local_model, "Budget used up: all tasks go to Ollama."
    if plan is WarningLevel.CRITICAL:
        return settings.default_local_model, "Plan limit near: all tasks go to Ollama."
    if level is WarningLevel.WARNING:
        return "mixed", "Budget is running low: routine tasks go to Ollama."
    if plan is WarningLevel.WARNING:
        return "mixed", "Plan limit is coming near: routine tasks go to Ollama."
    return settings.claude_model, "Budget is fine: tasks go where they are done best."


def rehearse(logged: Iterable[LoggedDecision], settings: Settings) -> Rehearsal:
    """Decide logged tasks again, at the totals they were decided at, under other settings."""
    decisions = changed = moved_to_ollama = moved_to_claude = 0
    for entry in logged:
        decisions += 1
        decision = entry.decision
        circumstances = Circumstances(decision.session_tokens, decision.plan_used_percent)
        again = decide(settings, circumstances, entry.task)
        if again.model == (decision.table_model or decision.model):
            continue
        changed += 1
        if again.provider is not decision.provider:
            moved_to_ollama += again.provider is Provider.OLLAMA
            moved_to_claude += again.provider is Provider.CLAUDE
    return Rehearsal(decisions, changed, moved_to_ollama, moved_to_claude)
