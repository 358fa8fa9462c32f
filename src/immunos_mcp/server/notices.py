"""The notices about the budget that one conversation gets at its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import WarningLevel
from immunos_mcp.rules.advice import on_short_budget

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.rules.settings import Settings

NEAR_SHARE = 0.05
"""A threshold is near when less than this share of it is left."""

_RANKS = {WarningLevel.NORMAL: 0, WarningLevel.WARNING: 1, WarningLevel.CRITICAL: 2}


class BudgetNotices:
    """The notices about the budget in one conversation, none of which is given twice."""

    def __init__(self) -> None:
        self._noticed = (_RANKS[WarningLevel.NORMAL], False)
        self._told_short: int | None = None

    def notice(self, status: StatusAnswer, settings: Settings, now: datetime) -> str | None:
        """Return a line for the model if the budget got worse since the last call, or will not last."""
        before = self._noticed
        self._noticed = (_RANKS[status.warning_level], _is_near(status))
        if self._noticed > before:
            return _line(status)
        short = on_short_budget(status, settings, now)
        if short is None or self._told_short == status.session_id:
            return None
        self._told_short = status.session_id
        return short


def _next_threshold(status: StatusAnswer) -> int | None:
    if status.warning_level is WarningLevel.NORMAL:
        return status.token_warning_threshold
    if status.warning_level is WarningLevel.WARNING:
        return status.token_auto_switch_threshold
    return None


def _is_near(status: StatusAnswer) -> bool:
    threshold = _next_threshold(status)
    return threshold is not None and threshold - status.session_tokens < threshold * NEAR_SHARE


def _line(status: StatusAnswer) -> str:
    line = (
        f"Token budget: {status.session_tokens} of {status.session_limit}, "
        f"{status.warning_level}. {status.message}"
    )
    threshold = _next_threshold(status)
    if threshold is None or not _is_near(status):
        return line
    return f"{line} {threshold - status.session_tokens} tokens to the next threshold."
