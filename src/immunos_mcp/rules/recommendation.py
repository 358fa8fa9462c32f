"""What the state of the budgets recommends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import HandoverChoice, WarningLevel

if TYPE_CHECKING:
    from immunos_mcp.rules.budgets import BudgetState
    from immunos_mcp.rules.settings import Settings


_ALL_YOURS = "do only what is needed, since nothing is handed over here."


class Recommendation(Struct, frozen=True):
    """What the budget's state recommends.

    Attributes:
        model: ``mixed`` between the thresholds.
        message: the recommendation as a sentence.
        level: that of the tightest limit.
    """

    model: str
    message: str
    level: WarningLevel = WarningLevel.NORMAL


def recommend(
    level: WarningLevel,
    settings: Settings,
    plan: WarningLevel = WarningLevel.NORMAL,
    budget: BudgetState | None = None,
) -> Recommendation:
    """Return the model that the levels of the session, the plan and the tightest budget recommend."""
    spend = WarningLevel.NORMAL if budget is None else budget.level
    name = "" if budget is None else budget.budget.name
    found = (
        (level, "Budget used up", "Budget is running low"),
        (plan, "Plan limit is almost reached", "Plan limit is getting close"),
        (spend, f"Budget {name} is used up", f"Budget {name} is running low"),
    )
    is_forbidden = settings.handover is HandoverChoice.NEVER
    for each, used_up, _ in found:
        if each is WarningLevel.CRITICAL:
            if is_forbidden:
                return Recommendation(settings.claude_model, f"{used_up}: {_ALL_YOURS}", each)
            local = settings.default_local_model
            return Recommendation(local, f"{used_up}: all tasks go to Ollama.", each)
    for each, _, low in found:
        if each is WarningLevel.WARNING:
            if is_forbidden:
                return Recommendation(settings.claude_model, f"{low}: {_ALL_YOURS}", each)
            return Recommendation("mixed", f"{low}: routine tasks go to Ollama.", each)
    return Recommendation(
        settings.claude_model, "Budget is fine: tasks go where they are done best."
    )
