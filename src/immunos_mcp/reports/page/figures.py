"""The figures of the page: usage over time and sessions, each drawn for wide and narrow screens. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from markupsafe import Markup

from immunos_mcp.reports.page.charts import Series, bar_chart
from immunos_mcp.reports.spans import gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.report import ReportAnswer, ReportedSession
    from immunos_mcp.reports.spans import Spans

Bar = TypeVar("Bar", str, int)

_WIDE, _NARROW = (920, 320), (340, 260)
_MOST_BARS, _MOST_NARROW_BARS = 62, 31
_LEAST_BARS = 7


class Threshold(NamedTuple):
    """A line across a chart."""

    name: str
    tokens: int


class Figure(NamedTuple):
    """A chart with its legend.

    Attributes:
        series: the titles of its bars.
        thresholds: its lines.
        wide: the chart for a wide screen, as SVG.
        narrow: the same for a narrow one, with fewer bars.
        wide_unit: the span of time of a bar, where the chart is over time.
        narrow_unit: likewise.
    """

    series: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    wide: Markup
    narrow: Markup
    wide_unit: str = ""
    narrow_unit: str = ""


class _Bars(NamedTuple):
    labels: list[str]
    series: list[Series]


def usage_figure(answer: ReportAnswer) -> Figure:
    """Return tokens over time, in spans that are few enough to be looked at."""
    wide = gathered(answer.usage, answer.period, _MOST_BARS)
    narrow = gathered(answer.usage, answer.period, _MOST_NARROW_BARS)
    warning, auto_switch, _ = _thresholds(answer)
    most = max(wide.spans, key=lambda span: span.budget_tokens)
    most_local = max(wide.spans, key=lambda span: span.kept_local_tokens)
    described = (
        f"Bar chart of tokens by {wide.unit}, UTC. Claude's budget tokens: at most "
        f"{most.budget_tokens:,}, from {wide.label(most)}. Kept local: at most "
        f"{most_local.kept_local_tokens:,}, from {wide.label(most_local)}. Lines at the warning "
        f"threshold, {warning.tokens:,}, and the auto-switch threshold, {auto_switch.tokens:,}. "
        "The numbers are in the table below."
    )
    figure = _figure(described, _over_time(wide), _over_time(narrow), (warning, auto_switch))
    return figure._replace(wide_unit=wide.unit, narrow_unit=narrow.unit)


def sessions_figure(answer: ReportAnswer) -> Figure:
    """Return the budget tokens of the newest sessions, oldest first."""
    sessions = answer.sessions[::-1]
    thresholds = _thresholds(answer)
    warning, auto_switch, limit = thresholds
    most = max(sessions, key=lambda session: session.session_tokens)
    described = (
        f"Bar chart of the budget tokens of {len(sessions)} sessions, oldest first. The most are "
        f"{most.session_tokens:,}, of session {most.session_id}. Lines at the warning threshold, "
        f"{warning.tokens:,}, the auto-switch threshold, {auto_switch.tokens:,}, and the limit, "
        f"{limit.tokens:,}. The numbers are in the table below."
    )
    narrow = sessions[-_MOST_NARROW_BARS:]
    return _figure(described, _bars_of(sessions), _bars_of(narrow), thresholds)


def _thresholds(answer: ReportAnswer) -> tuple[Threshold, Threshold, Threshold]:
    return (
        Threshold("warning", answer.token_warning_threshold),
        Threshold("auto-switch", answer.token_auto_switch_threshold),
        Threshold("limit", answer.session_limit),
    )


def _figure(
    described: str, wide: _Bars, narrow: _Bars, thresholds: tuple[Threshold, ...]
) -> Figure:
    lines = [each.tokens for each in thresholds]
    # The chart is XML that was written by a serializer, so it is markup already.
    drawn = [
        Markup(bar_chart(described, *bars, lines, size))  # noqa: S704
        for bars, size in ((wide, _WIDE), (narrow, _NARROW))
    ]
    return Figure(tuple(each.title for each in wide.series), thresholds, *drawn)


def _over_time(spans: Spans) -> _Bars:
    labels = [spans.short_label(span) for span in spans.spans]
    budget = [span.budget_tokens for span in spans.spans]
    local = [span.kept_local_tokens for span in spans.spans]
    return _Bars(
        _centred(labels, ""),
        [
            Series("Claude, budget tokens", _centred(budget, 0)),
            Series("kept local", _centred(local, 0)),
        ],
    )


def _bars_of(sessions: Sequence[ReportedSession]) -> _Bars:
    labels = [f"#{each.session_id}" for each in sessions]
    tokens = [each.session_tokens for each in sessions]
    return _Bars(_centred(labels, ""), [Series("Claude, budget tokens", _centred(tokens, 0))])


def _centred(bars: list[Bar], blank: Bar) -> list[Bar]:
    """Add blanks around few bars: one alone would be as wide as the chart."""
    blanks = max(0, _LEAST_BARS - len(bars))
    before = blanks // 2
    return [*[blank] * before, *bars, *[blank] * (blanks - before)]
