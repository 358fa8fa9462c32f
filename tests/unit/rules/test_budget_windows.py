"""The windows of budgets: each instant belongs to exactly one, whatever clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.rules.budget_windows import (
    Span,
    calendar_span,
    gone_at,
    plan_span,
    share_begun,
    zone_named,
)
from immunos_mcp.rules.budgets import Window

# They change their clocks at midnight, by half an hour, or skipped a whole day (Apia, 2011-12-30).
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Beirut",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "America/New_York",
)
CALENDAR = (Window.DAY, Window.WEEK, Window.MONTH)
zones = st.sampled_from(ZONES).map(ZoneInfo)
minutes = st.integers(0, 32 * 365 * 24 * 60)
moments = minutes.map(lambda minute: datetime(2008, 1, 1, tzinfo=UTC) + timedelta(minutes=minute))
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2024, 3, 30, 22, tzinfo=UTC)),
    ("America/Havana", datetime(2025, 11, 2, 5, tzinfo=UTC)),
]


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[ZoneInfo, datetime]:
    name, moment = draw(st.sampled_from(CHANGES))
    return ZoneInfo(name), moment + timedelta(minutes=draw(st.integers(-3000, 3000)))


@given(st.one_of(st.tuples(zones, moments), near_changes()), st.sampled_from(CALENDAR))
def test_each_instant_belongs_to_exactly_one_window(
    place: tuple[ZoneInfo, datetime], window: Window
) -> None:
    zone, moment = place
    span = calendar_span(window, moment, zone)
    assert span.end is not None
    assert span.holds(moment)
    last = span.end - timedelta(microseconds=1)
    assert calendar_span(window, span.start, zone) == span
    assert calendar_span(window, last, zone) == span
    assert calendar_span(window, span.end, zone).start == span.end
    before = calendar_span(window, span.start - timedelta(microseconds=1), zone)
    assert before.end == span.start


@given(zones, moments)
def test_a_week_and_a_month_are_made_of_whole_days(zone: ZoneInfo, moment: datetime) -> None:
    day = calendar_span(Window.DAY, moment, zone)
    assert day.end is not None
    for window in (Window.WEEK, Window.MONTH):
        span = calendar_span(window, moment, zone)
        assert span.end is not None
        assert span.start <= day.start
        assert day.end <= span.end


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (Window.DAY, date(2026, 3, 29), date(2026, 3, 30)),
        (Window.WEEK, date(2026, 3, 23), date(2026, 3, 30)),
        (Window.MONTH, date(2026, 3, 1), date(2026, 4, 1)),
    ],
)
def test_windows_begin_at_midnight(window: Window, start: date, end: date) -> None:
    zone = ZoneInfo("Europe/Berlin")
    span = calendar_span(window, datetime(2026, 3, 29, 12, tzinfo=UTC), zone)
    assert span.end is not None
    edges = [each.astimezone(zone) for each in (span.start, span.end)]
    assert [each.date() for each in edges] == [start, end]
    assert {each.time() for each in edges} == {time()}


def test_the_day_of_a_change_has_another_length() -> None:
    zone = ZoneInfo("Europe/Berlin")
    lengths = [
        calendar_span(Window.DAY, datetime(2026, *day, 12, tzinfo=UTC), zone)
        for day in ((3, 29), (10, 25), (6, 1))
    ]
    hours = [(span.end - span.start) / timedelta(hours=1) for span in lengths if span.end]
    assert hours == [23, 25, 24]


@given(moments, moments, st.sampled_from([Window.FIVE_HOURS, Window.SEVEN_DAYS]))
def test_the_windows_of_the_plan_follow_each_other(
    moment: datetime, resets_at: datetime, window: Window
) -> None:
    span = plan_span(window, moment, resets_at)
    assert span.end is not None
    assert span.holds(moment)
    assert plan_span(window, span.end, resets_at).start == span.end
    assert plan_span(window, resets_at, resets_at).start == resets_at


@given(zones, moments, st.sampled_from([*CALENDAR, Window.SEVEN_DAYS]))
def test_the_days_of_a_window_begin_one_by_one(
    zone: ZoneInfo, moment: datetime, window: Window
) -> None:
    span = (
        plan_span(window, moment, moment + timedelta(days=2))
        if window is Window.SEVEN_DAYS
        else calendar_span(window, moment, zone)
    )
    assert span.end is not None
    begun = share_begun(window, span, moment, zone)
    assert 0 < begun <= 1
    assert share_begun(window, span, span.end - timedelta(microseconds=1), zone) == 1
    assert begun <= share_begun(window, span, max(moment, span.end - timedelta(hours=1)), zone)


def test_wednesday_is_the_third_of_seven_days() -> None:
    wednesday = datetime(2026, 11, 25, 12, tzinfo=UTC)
    span = calendar_span(Window.WEEK, wednesday, UTC)
    assert share_begun(Window.WEEK, span, wednesday, UTC) == 3 / 7


def test_a_rate_says_when_a_limit_is_reached() -> None:
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    span = Span(monday, monday + timedelta(days=7))
    wednesday = monday + timedelta(days=2, hours=12)
    assert gone_at(75, 100, span, wednesday) == monday + timedelta(days=3, hours=8)
    assert gone_at(35, 100, span, wednesday) is None  # it lasts
    assert gone_at(100, 100, span, wednesday) is None  # it is gone
    assert gone_at(1, 100, span, monday + timedelta(minutes=1)) is None  # too early to say
    assert gone_at(75, 100, Span(monday, None), wednesday) is None
    assert gone_at(1, 10**12, span, wednesday) is None  # it lasts longer than there are dates


def test_the_machine_has_a_zone() -> None:
    noon = datetime(2026, 11, 25, 12, tzinfo=UTC)
    span = calendar_span(Window.DAY, noon, zone_named("system"))
    assert span.holds(noon)
