"""How many tokens usage weighs in budgets, and the levels that follow from it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import MeasuredAssistant, WarningLevel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from immunos_mcp.domain import PlanUsage, TokenCounts
    from immunos_mcp.rules.settings import Settings


def budget_tokens(counts: TokenCounts, settings: Settings) -> int:
    """Weigh the four kinds of tokens into budget tokens, rounded half up to a whole number.

    Weights count in thousandths, so that the sum is exact however large the counts are.
    """
    of_input, of_output, of_cache_creation, of_cache_read = weights_in_thousandths(settings)
    thousandths = (
        counts.input_tokens * of_input
        + counts.output_tokens * of_output
        + counts.cache_creation_input_tokens * of_cache_creation
        + counts.cache_read_input_tokens * of_cache_read
    )
    return rounded(thousandths)


def weights_in_thousandths(settings: Settings) -> tuple[int, int, int, int]:
    """Return what one token of each kind weighs, in thousandths."""
    return (
        round(settings.input_weight * 1000),
        round(settings.output_weight * 1000),
        round(settings.cache_creation_weight * 1000),
        round(settings.cache_read_weight * 1000),
    )


def rounded(thousandths: int) -> int:
    """Return whole budget tokens, rounded half up."""
    return (thousandths + 500) // 1000


def warning_level(session_tokens: int, settings: Settings) -> WarningLevel:
    """Return the level of a session by its budget tokens."""
    if session_tokens >= settings.token_auto_switch_threshold:
        return WarningLevel.CRITICAL
    if session_tokens >= settings.token_warning_threshold:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL


def plan_used_percent(plan: Iterable[PlanUsage], settings: Settings) -> float | None:
    """Return how much of the fullest of the subscription's limits is used, in percent.

    ``None`` where nothing was reported, or no setting uses it. Other assistants' subscriptions matter
    where their tokens count.
    """
    if not settings.plan_warning_percent and not settings.plan_auto_switch_percent:
        return None
    counted = settings.counted_assistants.split(",")
    uncounted = [each for each in MeasuredAssistant if each not in counted]
    return max(
        (each.used_percentage for each in plan if not any(map(each.is_of, uncounted))),
        default=None,
    )


def plan_level(used_percent: float | None, settings: Settings) -> WarningLevel:
    """Return the level of the subscription's limit by its own two thresholds."""
    if used_percent is None:
        return WarningLevel.NORMAL
    if 0 < settings.plan_auto_switch_percent <= used_percent:
        return WarningLevel.CRITICAL
    if 0 < settings.plan_warning_percent <= used_percent:
        return WarningLevel.WARNING
    return WarningLevel.NORMAL
