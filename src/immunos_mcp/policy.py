"""The routing policy: pure functions from values to a decision.

No clock, no I/O and no randomness; the same values always give the same decision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from immunos_mcp.domain import (
    Classification,
    Decision,
    Provider,
    Reason,
    Rehearsal,
    WarningLevel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from immunos_mcp.domain import LoggedDecision, Settings, Task, TokenCounts, Weights

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


def local_model(task_type: str, settings: Settings) -> str:
    """Name the model that keeps a task type local.

    A task type mapped to Claude has no local model of its own and gets the default one.
    """
    mapped = settings.task_mappings.get(task_type)
    if mapped is None or provider_of(mapped, settings) is Provider.CLAUDE:
        return settings.default_local_model
    return mapped


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the policy's table.

    Attributes:
        reason: the word that the decision carries.
        applies: whether the row fits a level, a task and the settings.
        model: the model it chooses.
    """

    reason: Reason
    applies: Callable[[WarningLevel, Task, Settings], bool]
    model: Callable[[Task, Settings], str]


ROWS: tuple[Row, ...] = (
    Row(
        Reason.TOKEN_BUDGET_EXCEEDED,
        lambda level, _task, _settings: level is WarningLevel.CRITICAL,
        lambda task, settings: local_model(task.task_type, settings),
    ),
    Row(
        Reason.TOKEN_BUDGET_WARNING,
        lambda level, task, _settings: (
            level is WarningLevel.WARNING and task.classification is Classification.ROUTINE
        ),
        lambda task, settings: local_model(task.task_type, settings),
    ),
    Row(
        Reason.TASK_CRITICAL,
        lambda _level, task, _settings: task.classification is Classification.CRITICAL,
        lambda _task, settings: settings.claude_model,
    ),
    Row(
        Reason.TASK_OPTIMIZED,
        lambda _level, task, settings: task.task_type in settings.task_mappings,
        lambda task, settings: settings.task_mappings[task.task_type],
    ),
    Row(
        Reason.DEFAULT_COMPLEX,
        lambda _level, _task, _settings: True,
        lambda _task, settings: settings.claude_model,
    ),
)
"""The policy's table; the first row that applies decides, and the order is a contract."""


def decide(settings: Settings, session_tokens: int, task: Task) -> Decision:
    """Choose the model for a task at a session total, and say which row chose it."""
    level = warning_level(session_tokens, settings)
    row = next(row for row in ROWS if row.applies(level, task, settings))
    model = row.model(task, settings)
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
    )


def recommend(level: WarningLevel, settings: Settings) -> tuple[str, str]:
    """Name the model that a level recommends for a session, and say so in words."""
    if level is WarningLevel.CRITICAL:
        return settings.default_local_model, "Budget used up: all tasks go to Ollama."
    if level is WarningLevel.WARNING:
        return "mixed", "Budget is running low: routine tasks go to Ollama."
    return settings.claude_model, "Budget is fine: tasks go where they are done best."


def rehearse(logged: Iterable[LoggedDecision], settings: Settings) -> Rehearsal:
    """Decide logged tasks again, at the totals they were decided at, under other settings."""
    decisions = changed = moved_to_ollama = moved_to_claude = 0
    for entry in logged:
        decisions += 1
        again = decide(settings, entry.decision.session_tokens, entry.task)
        if again.model == entry.decision.model:
            continue
        changed += 1
        if again.provider is not entry.decision.provider:
            moved_to_ollama += again.provider is Provider.OLLAMA
            moved_to_claude += again.provider is Provider.CLAUDE
    return Rehearsal(decisions, changed, moved_to_ollama, moved_to_claude)
