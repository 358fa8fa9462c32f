"""What the tokens of local models would have cost. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.rules import derived_prices

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.domain import TokenCounts
    from immunos_mcp.rules.settings import Settings


def kept_local_usd(counts: TokenCounts, settings: Settings, now: datetime) -> float | None:
    """Return what tokens would have cost as Claude's at list price; ``None``: that has no price."""
    price = derived_prices.find(settings.claude_model, now)
    cost = None if price is None else price.cost(counts)
    return None if cost is None else float(cost)
