"""The five-hour blocks of a plan, worked out from usage as people know them. Pure.

A block begins with the hour of the first response after the previous block, and lasts five hours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from immunos_mcp.answers.budgets import Block
from immunos_mcp.domain import TokenCounts
from immunos_mcp.rules.budgets import NANODOLLARS
from immunos_mcp.rules.levels import budget_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from immunos_mcp.rules.settings import Settings

LENGTH = timedelta(hours=5)

Portion = tuple[datetime, TokenCounts, int, bool]
"""Usage of a quarter of an hour: when, tokens, nanodollars, and whether some of it has no price."""


def blocks(portions: Iterable[Portion], settings: Settings, now: datetime) -> Iterator[Block]:
    """Yield the blocks that usage falls in, oldest first.

    Args:
        portions: the usage, by time.
        settings: what tokens weigh.
        now: the current block has not ended.
    """
    found: list[Portion] = []
    start = datetime.min.replace(tzinfo=UTC)
    for portion in portions:
        at = portion[0]
        if found and at >= start + LENGTH:
            yield _block(start, found, settings, now)
            found = []
        if not found:
            start = at.replace(minute=0, second=0, microsecond=0)
        found.append(portion)
    if found:
        yield _block(start, found, settings, now)


def _block(start: datetime, portions: list[Portion], settings: Settings, now: datetime) -> Block:
    counts = sum((portion[1] for portion in portions), TokenCounts())
    tokens, end = budget_tokens(counts, settings), start + LENGTH
    is_current = start <= now < end
    passed = (now - start) / LENGTH
    return Block(
        starts_at=start,
        ends_at=end,
        tokens=counts,
        budget_tokens=tokens,
        usd=round(sum(portion[2] for portion in portions) / NANODOLLARS, 4),
        at_least=any(portion[3] for portion in portions) or None,
        current=is_current or None,
        projected_budget_tokens=round(tokens / passed) if is_current and passed > 0 else None,
    )
