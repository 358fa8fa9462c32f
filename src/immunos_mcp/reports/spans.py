"""Usage over time, grouped into few enough spans to show: hours, days, weeks and so on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.report import UsagePeriod


class Span(NamedTuple):
    """The tokens of a span of time, which begins at ``start`` (UTC), and what they cost."""

    start: datetime
    budget_tokens: int = 0
    kept_local_tokens: int = 0
    cost_usd: float = 0.0
    cost_is_at_least: bool = False


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans of one length without gaps, oldest first.

    Attributes:
        unit: the name of a span, such as ``day``.
        spans: all spans from the first to the last with usage.
        label_format: the ``strftime`` format of a span's label.
        short_format: the same where there is little room.
    """

    unit: str
    spans: tuple[Span, ...]
    label_format: str
    short_format: str

    def label(self, span: Span) -> str:
        """Format the start of a span."""
        return span.start.strftime(self.label_format)

    def short_label(self, span: Span) -> str:
        """Format the start of a span where there is little room."""
        return span.start.strftime(self.short_format)


class _Unit(NamedTuple):
    """A length of time, in hours, days or months."""

    name: str
    label_format: str
    short_format: str
    hours: int = 0
    days: int = 0
    months: int = 0


_HOUR, _DAY = "%Y-%m-%d %H:00", "%Y-%m-%d"
_UNITS = (
    _Unit("hour", _HOUR, "%H:00", hours=1),
    _Unit("six hours", _HOUR, "%d, %H:00", hours=6),
    _Unit("day", _DAY, "%m-%d", days=1),
    _Unit("week", _DAY, "%m-%d", days=7),
    _Unit("month", "%Y-%m", "%Y-%m", months=1),
    _Unit("year", "%Y", "%Y", months=12),
)
_FINEST = {"hour": 0, "day": 2}


def _begin(unit: _Unit, moment: datetime) -> datetime:
    if unit.months:
        month = (moment.month - 1) // unit.months * unit.months + 1
        return datetime(moment.year, month, 1, tzinfo=UTC)
    day = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if unit.hours:
        return day + timedelta(hours=moment.hour // unit.hours * unit.hours)
    return day - timedelta(days=moment.weekday() if unit.days == 7 else 0)


def _next(unit: _Unit, start: datetime) -> datetime:
    if unit.months:
        years, month = divmod(start.month - 1 + unit.months, 12)
        return datetime(start.year + years, month + 1, 1, tzinfo=UTC)
    return start + timedelta(hours=unit.hours, days=unit.days)


def grouped_usage(usage: Sequence[UsagePeriod], period: str, most: int) -> Spans:
    """Group usage into the shortest spans that number at most ``most``, or else into years.

    Args:
        usage: in order of time.
        period: the period of each usage: ``hour`` or ``day``.
        most: the maximum number of spans.
    """
    units = _UNITS[_FINEST[period] :]
    for unit in units:
        spans = _in_units(usage, unit, most)
        if spans is not None:
            return Spans(unit.name, spans, unit.label_format, unit.short_format)
    last = units[-1]
    whole = _in_units(usage, last, None)
    assert whole is not None
    return Spans(last.name, whole, last.label_format, last.short_format)


def _in_units(
    usage: Sequence[UsagePeriod], unit: _Unit, most: int | None
) -> tuple[Span, ...] | None:
    totals: dict[datetime, Span] = {}
    for each in usage:
        start = _begin(unit, each.start)
        so_far = totals.get(start, Span(start))
        totals[start] = Span(
            start,
            so_far.budget_tokens + each.budget_tokens,
            so_far.kept_local_tokens + each.kept_local_tokens,
            so_far.cost_usd + each.cost_usd,
            so_far.cost_is_at_least or bool(each.cost_is_at_least),
        )
        if most is not None and len(totals) > most:
            return None
    if not totals:
        return ()
    spans: list[Span] = []
    start, last = min(totals), max(totals)
    while most is None or len(spans) < most:
        spans.append(totals.get(start, Span(start)))
        if start >= last:
            return tuple(spans)
        start = _next(unit, start)
    return None
