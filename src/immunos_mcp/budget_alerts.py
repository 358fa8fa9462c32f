"""The use case of telling others that a budget has reached a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.ledger.budget_uses import first_told, forget_told

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.answers.budgets import CheckedBudget
    from immunos_mcp.ledger.connections.ledger import Ledger


class BudgetAlerts:
    """Who was told of which threshold."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        """Create the use case of a ledger."""
        self._ledger = ledger
        self._clock = clock

    async def tell(
        self, found: CheckedBudget, listener: str, tell: Callable[[CheckedBudget], str | None]
    ) -> str | None:
        """Tell a kind of listener that a budget has reached a threshold, once in its window.

        Args:
            found: the budget.
            listener: the kind.
            tell: tells it, and returns what went wrong, if anything did; then a later call tries again.
        """
        now = self._clock()
        told = (found.name, found.starts_at or now, f"{found.warning_level.value} {listener}")
        if not await self._ledger.write(first_told, *told, now):
            return None
        problem: str | None = "interrupted"
        try:
            problem = tell(found)
        finally:
            if problem is not None:
                await self._ledger.write(forget_told, *told)
        return problem
