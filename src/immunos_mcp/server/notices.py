"""The notices about the budget that one conversation gets at its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import WarningLevel
from immunos_mcp.rules.advice import first_gone, on_gone_budget, on_short_budget

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.rules.gates import Standing

NEAR_SHARE = 0.05
"""A threshold is near when less than this share of it is left."""

_RANKS = {WarningLevel.NORMAL: 0, WarningLevel.WARNING: 1, WarningLevel.CRITICAL: 2}


class BudgetNotices:
    """The notices about the budget in one conversation, none of which is given twice."""

    def __init__(self) -> None:
        self._noticed = (_RANKS[WarningLevel.NORMAL], False)
        self._told_short: set[tuple[object, ...]] = set()

    def notice(self, status: StatusAnswer, standing: Standing, now: datetime) -> str | None:
        """Return a line for the model if a limit got worse since the last call, or will not last.

        The tightest limit counts: the session's budget, the plan's limit, or a budget beside them.
        """
        before = self._noticed
        self._noticed = (_RANKS[standing.level], _is_near(status, standing))
        if self._noticed > before:
            return _line(status, standing)
        return self._short(status, standing, now)

    def _short(self, status: StatusAnswer, standing: Standing, now: datetime) -> str | None:
        """Return a line about what will not last, once in its window."""
        window: tuple[object, ...] = (status.session_id,)
        line = on_short_budget(status, standing.settings, now)
        if line is None or window in self._told_short:
            soonest = first_gone(standing.budgets)
            if soonest is None:
                return None
            window, line = (soonest.name, soonest.starts_at), on_gone_budget(soonest)
        if window in self._told_short:
            return None
        self._told_short.add(window)
        return line


def _next_threshold(status: StatusAnswer) -> int | None:
    if status.warning_level is WarningLevel.NORMAL:
        return status.token_warning_threshold
    if status.warning_level is WarningLevel.WARNING:
        return status.token_auto_switch_threshold
    return None


def _is_near(status: StatusAnswer, standing: Standing) -> bool:
    if standing.level is not status.warning_level:
        return False
    threshold = _next_threshold(status)
    return threshold is not None and threshold - status.session_tokens < threshold * NEAR_SHARE


def _line(status: StatusAnswer, standing: Standing) -> str:
    if standing.level is not status.warning_level:
        # Another limit is tighter, and the sentence names it.
        return f"{standing.message} Level {standing.level}."
    line = (
        f"Token budget: {status.session_tokens} of {status.session_limit}, "
        f"{status.warning_level}. {standing.message}"
    )
    threshold = _next_threshold(status)
    if threshold is None or not _is_near(status, standing):
        return line
    return f"{line} {threshold - status.session_tokens} tokens to the next threshold."
