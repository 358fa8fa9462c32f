"""Adds up priced usage by whatever a report shows it by. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from immunos_mcp.domain import TokenCounts
from immunos_mcp.rules.list_prices import Cost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from immunos_mcp.ledger.usage_groups import UsageGroup
    from immunos_mcp.reports.prices import Prices

Key = TypeVar("Key")


class UsageSum(Struct, frozen=True):
    """The tokens of several responses, their number, and what they cost."""

    counts: TokenCounts = TokenCounts()
    usage_records: int = 0
    cost: Cost = Cost()

    def __add__(self, other: UsageSum) -> UsageSum:
        return UsageSum(
            self.counts + other.counts,
            self.usage_records + other.usage_records,
            self.cost + other.cost,
        )


NOTHING = UsageSum()


def priced(groups: Iterable[UsageGroup], prices: Prices) -> list[tuple[UsageGroup, UsageSum]]:
    """Return each group with its sum; only hosted models, Claude's included, cost anything."""
    return [
        (
            group,
            UsageSum(
                group.usage.counts,
                group.usage.usage_records,
                prices.cost_of(group.usage) if group.provider != "ollama" else Cost(),
            ),
        )
        for group in groups
    ]


def sums_by(keyed: Iterable[tuple[Key, UsageSum]]) -> dict[Key, UsageSum]:
    """Return the sum of each key."""
    sums: dict[Key, UsageSum] = {}
    for key, each in keyed:
        sums[key] = sums.get(key, NOTHING) + each
    return sums
