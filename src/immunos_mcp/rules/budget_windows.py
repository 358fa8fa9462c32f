"""The windows of budgets: each instant belongs to exactly one of each kind. Pure.

Calendar windows begin at midnight in a time zone. Where a change of clocks skips midnight or repeats it,
they begin at the moment that the clock would have shown it before the change.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.rules.budgets import Window

if TYPE_CHECKING:
    from collections.abc import Callable

_DAY = timedelta(days=1)
_LENGTHS = {Window.FIVE_HOURS: timedelta(hours=5), Window.SEVEN_DAYS: timedelta(days=7)}


class Span(Struct, frozen=True):
    """A window: from its start up to, and without, its end; ``None``: its end is not fixed."""

    start: datetime
    end: datetime | None

    def holds(self, moment: datetime) -> bool:
        """Return whether a moment belongs to it."""
        return self.start <= moment and (self.end is None or moment < self.end)


@lru_cache(maxsize=8)
def zone_named(name: str) -> tzinfo | None:
    """Return a time zone by its name; ``None`` stands for the machine's own, which ``system`` means."""
    if name == "system":
        return None
    from zoneinfo import ZoneInfo  # few people name a zone

    return ZoneInfo(name)


def calendar_span(window: Window, moment: datetime, zone: tzinfo | None) -> Span:
    """Return the day, week (from Monday) or month that a moment belongs to.

    Args:
        window: which of them.
        moment: aware.
        zone: the time zone; ``None``: the machine's own.
    """
    next_first = _NEXT[window]
    # The clock may have been set across midnight, so the date that it shows is where to begin looking.
    first = next_first(_FIRST[window](moment.astimezone(zone).date()))
    while (start := _midnight(first, zone)) > moment:
        first = _FIRST[window](first - _DAY)
    return Span(start, _midnight(next_first(first), zone))


def _midnight(day: date, zone: tzinfo | None) -> datetime:
    naive = datetime.combine(day, time())
    return (naive if zone is None else naive.replace(tzinfo=zone)).astimezone(UTC)


def _first_of_week(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _first_of_month(day: date) -> date:
    return day.replace(day=1)


_FIRST: dict[Window, Callable[[date], date]] = {
    Window.DAY: lambda day: day,
    Window.WEEK: _first_of_week,
    Window.MONTH: _first_of_month,
}
_NEXT: dict[Window, Callable[[date], date]] = {
    Window.DAY: lambda first: first + _DAY,
    Window.WEEK: lambda first: first + 7 * _DAY,
    Window.MONTH: lambda first: _first_of_month(first + 31 * _DAY),
}


def plan_span(window: Window, moment: datetime, resets_at: datetime) -> Span:
    """Return the window of the plan that a moment belongs to, given the end of any of them."""
    length = _LENGTHS[window]
    start = resets_at + (moment - resets_at) // length * length
    return Span(start, start + length)


def share_begun(window: Window, span: Span, moment: datetime, zone: tzinfo | None) -> float:
    """Return how much of a window's days have begun, from 0 to 1; 1 for windows without days."""
    if window not in {Window.WEEK, Window.MONTH, Window.SEVEN_DAYS} or span.end is None:
        return 1.0
    if window is Window.SEVEN_DAYS:
        return ((moment - span.start) // _DAY + 1) / 7
    first = span.start.astimezone(zone).date()
    today = calendar_span(Window.DAY, moment, zone).start.astimezone(zone).date()
    days = (_NEXT[window](_FIRST[window](first)) - _FIRST[window](first)).days
    return min(1.0, ((today - _FIRST[window](first)).days + 1) / days)


def gone_at(used: float, limit: float, span: Span, now: datetime) -> datetime | None:
    """Return when a limit will be reached at the window's rate so far; ``None``: not in the window.

    A window in its first hundredth has no rate: one response would stand for all of it.
    """
    if span.end is None or used <= 0 or used >= limit:
        return None
    passed, length = now - span.start, span.end - span.start
    # What lasts is found first: little of a large limit lasts longer than there are dates.
    if passed < length / 100 or passed / length * limit >= used:
        return None
    return span.start + passed * (limit / used)
