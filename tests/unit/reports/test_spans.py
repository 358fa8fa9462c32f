"""Usage over time in few spans: nothing is lost, nothing left out, whatever the calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.answers.report import UsagePeriod
from immunos_mcp.domain import TokenCounts
from immunos_mcp.reports.spans import grouped_usage

LENGTHS = {
    "hour": {timedelta(hours=1)},
    "six hours": {timedelta(hours=6)},
    "day": {timedelta(days=1)},
    "week": {timedelta(days=7)},
    "month": {timedelta(days=days) for days in (28, 29, 30, 31)},
    "year": {timedelta(days=365), timedelta(days=366)},
}

some = st.integers(0, 10**12)
hours = st.datetimes(datetime(2020, 2, 28), datetime(2020, 3, 4))  # noqa: DTZ001  # UTC is set below
days = hours | st.datetimes()


def period(start: datetime, budget_tokens: int, kept_local_tokens: int) -> UsagePeriod:
    nothing = TokenCounts()
    return UsagePeriod(start, budget_tokens, nothing, kept_local_tokens, nothing)


@st.composite
def usages(draw: st.DrawFn) -> tuple[str, list[UsagePeriod]]:
    kind = draw(st.sampled_from(["hour", "day"]))
    starts = {
        moment.replace(
            hour=moment.hour if kind == "hour" else 0,
            minute=0,
            second=0,
            microsecond=0,
            tzinfo=UTC,
        )
        for moment in draw(st.lists(hours if kind == "hour" else days, min_size=1, max_size=20))
    }
    return kind, [period(start, draw(some), draw(some)) for start in sorted(starts)]


@given(usages(), st.integers(1, 100))
def test_spans_follow_each_other_and_hold_all_tokens(
    given_usage: tuple[str, list[UsagePeriod]], most: int
) -> None:
    kind, usage = given_usage
    found = grouped_usage(usage, kind, most)
    assert len(found.spans) <= most or found.unit == "year"
    for tokens in ("budget_tokens", "kept_local_tokens"):
        assert sum(getattr(span, tokens) for span in found.spans) == sum(
            getattr(each, tokens) for each in usage
        )
    lengths = {later.start - span.start for span, later in pairwise(found.spans)}
    assert lengths <= LENGTHS[found.unit]
    assert found.spans[0].start <= usage[0].start
    assert found.spans[-1].start <= usage[-1].start
    for span, later in pairwise(found.spans):
        inside = [each for each in usage if span.start <= each.start < later.start]
        assert span.budget_tokens == sum(each.budget_tokens for each in inside)


@pytest.mark.parametrize(
    ("last", "most", "unit", "first_label"),
    [
        (datetime(2026, 11, 4, 15, tzinfo=UTC), 48, "hour", "2026-11-04 07:00"),
        (datetime(2026, 11, 5, 15, tzinfo=UTC), 10, "six hours", "2026-11-04 06:00"),
        (datetime(2026, 11, 8, tzinfo=UTC), 10, "day", "2026-11-04"),
        (datetime(2026, 12, 8, tzinfo=UTC), 10, "week", "2026-11-02"),
        (datetime(2027, 3, 8, tzinfo=UTC), 10, "month", "2026-11"),
        (datetime(2030, 3, 8, tzinfo=UTC), 10, "year", "2026"),
        (datetime(2050, 3, 8, tzinfo=UTC), 10, "year", "2026"),
    ],
)
def test_the_shortest_spans_that_are_few_enough_are_taken(
    last: datetime, most: int, unit: str, first_label: str
) -> None:
    usage = [period(datetime(2026, 11, 4, 7, tzinfo=UTC), 1, 2), period(last, 3, 4)]
    found = grouped_usage(usage, "hour", most)
    assert (found.unit, found.label(found.spans[0])) == (unit, first_label)
