"""The routing policy: pure functions from values to a decision.

No clock, no I/O and no randomness; the same values always give the same decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from immunos_mcp.domain import (
    Circumstances,
    Classification,
    Decision,
    Provider,
    Reason,
    Rehearsal,
    WarningLevel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from immunos_mcp.domain import (
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


def local_model(task_type: str, settings: Settings) -> str:
    """Name the model that keeps a task type local.

    A task type mapped to Claude has no local model of its own and gets the default one.
    """
    mapped = settings.task_mappings.get(task_type)
    if mapped is None or provider_of(mapped, settings) is Provider.CLAUDE:
        return settings.default_local_model
    return mapped


@dataclass(frozen=True, slots=True)
class Case:
    """What the rows of the table look at.

    Attributes:
        level: where the session stands against its thresholds.
        plan_level: where the subscription's own limit stands against its.
        task: what is to be done.
        settings: the settings in force.
    """

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
    """

    reason: Reason
    applies: Callable[[Case], bool]
    model: Callable[[Case], str]


def _local(case: Case) -> str:
    return local_model(case.task.task_type, case.settings)


def _claude(case: Case) -> str:
    return case.settings.claude_model


def _is_routine(case: Case) -> bool:
    return case.task.classification is Classification.ROUTINE


ROWS: tuple[Row, ...] = (
    Row(
        Reason.TOKEN_BUDGET_EXCEEDED,
        lambda case: case.level is WarningLevel.CRITICAL,
        _local,
    ),
    Row(
        Reason.PLAN_LIMIT_EXCEEDED,
        lambda case: case.plan_level is WarningLevel.CRITICAL,
        _local,
    ),
    Row(
        Reason.TOKEN_BUDGET_WARNING,
        lambda case: case.level is WarningLevel.WARNING and _is_routine(case),
        _local,
    ),
    Row(
        Reason.PLAN_LIMIT_WARNING,
        lambda case: case.plan_level is WarningLevel.WARNING and _is_routine(case),
        _local,
    ),
    Row(
        Reason.TASK_CRITICAL,
        lambda case: case.task.classification is Classification.CRITICAL,
        _claude,
    ),
    Row(
        Reason.TASK_OPTIMIZED,
        lambda case: case.task.task_type in case.settings.task_mappings,
        lambda case: case.settings.task_mappings[case.task.task_type],
    ),
    Row(Reason.DEFAULT_COMPLEX, lambda _case: True, _claude),
)
"""The policy's table; the first row that applies decides, and the order is a contract."""


def decide(settings: Settings, circumstances: Circumstances, task: Task) -> Decision:
    """Choose the model for a task in given circumstances, and say which row chose it."""
    session_tokens, used_percent = circumstances.session_tokens, circumstances.plan_used_percent
    level = warning_level(session_tokens, settings)
    case = Case(level, plan_level(used_percent, settings), task, settings)
    row = next(row for row in ROWS if row.applies(case))
    model = row.model(case)
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
    )


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
        if again.model == decision.model:
            continue
        changed += 1
        if again.provider is not decision.provider:
            moved_to_ollama += again.provider is Provider.OLLAMA
            moved_to_claude += again.provider is Provider.CLAUDE
    return Rehearsal(decisions, changed, moved_to_ollama, moved_to_claude)
