"""Advice before the work, from facts alone: one short line where something follows from them. Pure."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING

from immunos_mcp.domain import WarningLevel
from immunos_mcp.rules.formatting import compact, printable
from immunos_mcp.rules.models import availability, local_model
from immunos_mcp.rules.names import canonical_model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from immunos_mcp.answers.status import BudgetStatus, StatusAnswer
    from immunos_mcp.domain import Engine
    from immunos_mcp.rules.settings import Settings

MOST_TOKENS = 40
"""The most that a line may cost."""

LARGE_BYTES = 40_000
"""From about ten thousand tokens on a hand-over pays for its own round trip twice."""

_BYTES_PER_TOKEN = 4
_READING_TASKS = ("file_analysis", "summarize")
_NO_TEXT = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".ipynb"})
"""Files that Claude Code does not read as text."""


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text costs."""
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def on_large_file(path: str, size: int, settings: Settings, engine: Engine | None) -> str | None:
    """Return a line about reading a whole file; ``None``: there is nothing to say.

    Args:
        path: the file.
        size: of the file, in bytes.
        settings: the settings in force.
        engine: the local engine as it lately was; ``None``: nothing is known of it.
    """
    if size < LARGE_BYTES or PurePath(path).suffix.lower() in _NO_TEXT or engine is None:
        return None
    models = dict.fromkeys(local_model(task_type, settings) for task_type in _READING_TASKS)
    model = next((each for each in models if _is_ready(each, engine, settings)), None)
    if model is None:
        return None
    name = printable(PurePath(path).name)
    for shown in (name, "This file"):
        line = (
            f"{shown} is about {compact(size / _BYTES_PER_TOKEN)} tokens. "
            f"If a summary or review of it is enough, delegate_task has {model} read it."
        )
        if estimated_tokens(line) <= MOST_TOKENS:
            return line
    return None


def _is_ready(model: str, engine: Engine, settings: Settings) -> bool:
    installed = engine.models.get(canonical_model(model))
    if installed is None or not installed.is_loaded:
        return False
    return availability(model, engine, settings).can_run is True


def on_short_budget(status: StatusAnswer, settings: Settings, now: datetime) -> str | None:
    """Return a line if the session's budget will not last as long as its window at this pace."""
    left = status.minutes_to_auto_switch
    if not settings.session_window_minutes or status.started_at is None or not left:
        return None
    ends_at = status.started_at + timedelta(minutes=settings.session_window_minutes)
    open_minutes = (ends_at - now).total_seconds() // 60
    if left >= open_minutes:
        return None
    return (
        f"At this pace the token budget is used up in {_minutes(left)}, "
        f"and its window ends in {_minutes(int(open_minutes))}."
    )


def first_gone(budgets: Iterable[BudgetStatus]) -> BudgetStatus | None:
    """Return the budget that is used up first at this rate, before its window ends; ``None``: none is.

    One that has reached its auto-switch threshold is no news.
    """
    short = [
        each
        for each in budgets
        if each.gone_at is not None and each.warning_level is not WarningLevel.CRITICAL
    ]
    return min(short, key=lambda each: str(each.gone_at), default=None)


def on_gone_budget(budget: BudgetStatus) -> str:
    """Return a line that a budget will not last as long as its window at the rate so far."""
    assert budget.gone_at is not None
    assert budget.ends_at is not None
    gone, ends = (f"{each.astimezone():%a %H:%M}" for each in (budget.gone_at, budget.ends_at))
    return f"At this pace the budget {budget.name} is used up {gone}; its window ends {ends}."


def _minutes(minutes: int) -> str:
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
