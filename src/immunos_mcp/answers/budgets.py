"""What ``check`` and ``blocks`` answer."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from immunos_mcp.domain import TokenCounts, WarningLevel


class CheckState(StrEnum):
    """Whether a budget is below a threshold."""

    BELOW = "below"
    REACHED = "reached"
    UNKNOWN = "unknown"


class CheckedBudget(Struct, frozen=True):
    """A budget against a threshold.

    Attributes:
        name: the budget; ``session`` is the session's own.
        state: whether it is below the threshold.
        limit: its limit and window.
        warning_level: its level.
        percent_used: of what is allowed by now; absent: not known.
        starts_at: when its window began, where that is known.
        reason: why it is not known how much is used.
    """

    name: str
    state: CheckState
    limit: str
    warning_level: WarningLevel
    percent_used: float | None = None
    starts_at: datetime | None = None
    reason: str | None = None


class CheckAnswer(Struct, frozen=True):
    """What ``check`` answers.

    Attributes:
        state: ``reached`` if any budget has reached the threshold, else ``unknown`` if of any that is not
            known.
        threshold: the threshold.
        budgets: the budgets that were checked, the one that decides first.
    """

    state: CheckState
    threshold: str
    budgets: tuple[CheckedBudget, ...]


class Block(Struct, frozen=True):
    """Five hours of a plan.

    Attributes:
        starts_at: the hour of its first response.
        ends_at: five hours later.
        tokens: Claude Code's tokens in it by kind.
        budget_tokens: what they add to the budget.
        usd: what they cost at list price.
        at_least: true where something has no known price.
        current: true for the block that has not ended.
        projected_budget_tokens: at its end, at the rate so far; for the current block only.
    """

    starts_at: datetime
    ends_at: datetime
    tokens: TokenCounts
    budget_tokens: int
    usd: float
    at_least: bool | None = None
    current: bool | None = None
    projected_budget_tokens: int | None = None
