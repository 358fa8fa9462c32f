"""The charts of the page: usage over time and sessions, each for wide and narrow screens. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from markupsafe import Markup

from immunos_mcp.reports.page.charts import Series, bar_chart
from immunos_mcp.reports.spans import grouped_usage

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
        wide: the chart for wide screens, as SVG.
        narrow: the chart for narrow screens, with fewer bars.
        wide_unit: the time span of a bar, in a chart over time.
        narrow_unit: the same for the narrow chart.
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
    """Return the chart of tokens over time."""
    wide = grouped_usage(answer.usage, answer.period, _MOST_BARS)
    narrow = grouped_usage(answer.usage, answer.period, _MOST_NARROW_BARS)
    warning, auto_switch, _ = _thresholds(answer)
    most = max(wide.spans, key=lambda span: span.budget_tokens)
    most_local = max(wide.spans, key=lambda span: span.kept_local_tokens)
    described = (
        f"Bar chart of tokens by {wide.unit}, UTC. Claude's budget tokens: highest "
        f"{most.budget_tokens:,}, {wide.label(most)}. Kept local: highest "
        f"{most_local.kept_local_tokens:,}, {wide.label(most_local)}. Lines at the warning "
        f"threshold, {warning.tokens:,}, and the auto-switch threshold, {auto_switch.tokens:,}. "
        "The numbers are in the table below."
    )
    figure = _figure(described, _over_time(wide), _over_time(narrow), (warning, auto_switch))
    return figure._replace(wide_unit=wide.unit, narrow_unit=narrow.unit)


def sessions_figure(answer: ReportAnswer) -> Figure:
    """Return the chart of the newest sessions' budget tokens, oldest first."""
    sessions = answer.sessions[::-1]
    thresholds = _thresholds(answer)
    warning, auto_switch, limit = thresholds
    most = max(sessions, key=lambda session: session.session_tokens)
    described = (
        f"Bar chart of the budget tokens of {len(sessions)} sessions, oldest first. Highest: "
        f"{most.session_tokens:,}, session {most.session_id}. Lines at the warning threshold, "
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
    # The chart is serialized XML, so it is already markup.
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
    """Pad few bars with blanks, because a single bar would be as wide as the chart."""
    blanks = max(0, _LEAST_BARS - len(bars))
    before = blanks // 2
    return [*[blank] * before, *bars, *[blank] * (blanks - before)]
