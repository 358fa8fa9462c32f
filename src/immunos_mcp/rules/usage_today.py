"""A day's usage by assistant, project, model and agent. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.answers.watch import UsageToday, UsedBy
from immunos_mcp.domain import TokenCounts
from immunos_mcp.rules.budgets import NANODOLLARS
from immunos_mcp.rules.levels import budget_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.rules.settings import Settings


class Portion(NamedTuple):
    """Some of a day's usage.

    Attributes:
        assistant: whose; empty: not known, as with the next.
        project: in which folder.
        model: of which model.
        agent: of which conversation, or which subagent of it; empty: not known.
        counts: its tokens.
        nanodollars: their cost at list price.
        is_at_least: whether there is a part of it that is not known.
    """

    assistant: str
    project: str
    model: str
    agent: str
    counts: TokenCounts
    nanodollars: int
    is_at_least: bool


def usage_today(starts_at: datetime, portions: Sequence[Portion], settings: Settings) -> UsageToday:
    """Sum up a day's usage."""
    return UsageToday(
        starts_at,
        _used_by("", portions, settings),
        _lines([(each.assistant, each) for each in portions], settings),
        _lines([(each.project, each) for each in portions], settings),
        _lines([(each.model, each) for each in portions], settings),
        _lines([(each.agent, each) for each in portions], settings),
    )


def _lines(named: Sequence[tuple[str, Portion]], settings: Settings) -> tuple[UsedBy, ...]:
    by_name: defaultdict[str, list[Portion]] = defaultdict(list)
    for name, portion in named:
        by_name[name].append(portion)
    lines = [_used_by(name, found, settings) for name, found in by_name.items()]
    return tuple(sorted(lines, key=lambda each: (-each.usd, -each.budget_tokens, each.name)))


def _used_by(name: str, portions: Sequence[Portion], settings: Settings) -> UsedBy:
    counts = sum((each.counts for each in portions), TokenCounts())
    return UsedBy(
        name,
        budget_tokens(counts, settings),
        sum(each.nanodollars for each in portions) / NANODOLLARS,
        any(each.is_at_least for each in portions) or None,
    )
