"""Whether budgets are below a threshold, for scripts. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from immunos_mcp.answers.budgets import CheckAnswer, CheckedBudget, CheckState
from immunos_mcp.domain import WarningLevel
from immunos_mcp.errors import InvalidInputError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.answers.status import BudgetStatus, StatusAnswer

SESSION = "session"
"""The name of the session's own token budget."""


class Threshold(StrEnum):
    """The two thresholds of every budget."""

    WARNING = "warning"
    AUTO_SWITCH = "auto-switch"


_ORDER = [CheckState.REACHED, CheckState.UNKNOWN, CheckState.BELOW]


def check(status: StatusAnswer, name: str | None, threshold: Threshold) -> CheckAnswer:
    """Compare budgets with a threshold.

    Args:
        status: the session's status now.
        name: the only budget to check, also one that each person has; ``None``: all.
        threshold: the threshold.

    Raises:
        InvalidInputError: there is no such budget.
    """
    checked = list(_checked(status, threshold))
    wanted = [each for each in checked if name in {None, each.name, each.name.partition("/")[0]}]
    if not wanted:
        known = [each.name for each in checked]
        raise InvalidInputError(unknown("--budget", "budget", name or "", known))
    wanted.sort(key=lambda each: (_ORDER.index(each.state), -(each.percent_used or 0)))
    return CheckAnswer(wanted[0].state, threshold, tuple(wanted))


def _checked(status: StatusAnswer, threshold: Threshold) -> Iterator[CheckedBudget]:
    is_reached = _is_at(status.warning_level, threshold)
    state = CheckState.REACHED if is_reached else CheckState.BELOW
    if not is_reached and status.not_counting is not None:
        state = CheckState.UNKNOWN
    yield CheckedBudget(
        SESSION,
        state,
        f"{status.session_limit} tokens/session",
        status.warning_level,
        status.percent_used,
        status.started_at,
        status.not_counting if state is CheckState.UNKNOWN else None,
    )
    for budget in status.budgets or ():
        yield _of_budget(budget, status, threshold)


def _of_budget(budget: BudgetStatus, status: StatusAnswer, threshold: Threshold) -> CheckedBudget:
    state, reason = CheckState.BELOW, None
    if _is_at(budget.warning_level, threshold):
        state = CheckState.REACHED
    elif budget.percent_used is None:
        state, reason = CheckState.UNKNOWN, "no client has reported this window of the plan"
    elif status.not_counting is not None:
        state, reason = CheckState.UNKNOWN, status.not_counting
    return CheckedBudget(
        budget.name,
        state,
        budget.budget,
        budget.warning_level,
        budget.percent_used,
        budget.starts_at,
        reason,
    )


def _is_at(level: WarningLevel, threshold: Threshold) -> bool:
    if threshold is Threshold.WARNING:
        return level is not WarningLevel.NORMAL
    return level is WarningLevel.CRITICAL


def sentence(found: CheckedBudget, threshold: str) -> str:
    """Return the result for one budget, without a full stop."""
    if found.state is CheckState.UNKNOWN:
        return f"Cannot tell for {found.name} ({found.limit}): {found.reason}"
    what = "has reached" if found.state is CheckState.REACHED else "is below"
    used = f"{found.percent_used:g}% of {found.limit}"
    return f"Budget {found.name} {what} its {threshold} threshold: {used} used"


def budget_line(found: BudgetStatus) -> str:
    """Return how far a budget is used, in a few words."""
    if found.percent_used is None:
        return f"{found.name} ({found.budget}) unknown"
    least = "at least " if found.at_least else ""
    line = f"{found.name} {least}{found.percent_used:g}% of {found.budget}"
    if found.warning_level is not WarningLevel.NORMAL:
        line += f", {found.warning_level}"
    if found.gone_at is not None:
        line += f", at this rate gone on {found.gone_at.astimezone():%A %H:%M}"
    return line
