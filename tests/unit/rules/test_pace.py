"""The pace of spending: what it is, and that order does not matter."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import Pace
from immunos_mcp.rules.pace import add, minutes_until, tokens_per_minute

START = datetime(2026, 1, 15, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@given(
    st.lists(st.tuples(st.integers(-10_000, 10_000), st.floats(0, 60)), min_size=1, max_size=8),
    st.randoms(),
)
def test_records_may_arrive_in_any_order(spent: list[tuple[int, float]], random: object) -> None:
    shuffled = sorted(spent, key=lambda _: random.random())  # type: ignore[attr-defined]
    first = second = Pace()
    for tokens, minutes in spent:
        first = add(first, tokens, at(minutes))
    for tokens, minutes in shuffled:
        second = add(second, tokens, at(minutes))
    assert first.at == second.at
    assert first.tokens == pytest.approx(second.tokens, abs=1e-3)


def test_steady_spending_has_its_own_pace() -> None:
    pace = Pace()
    for minute in range(1, 61):
        pace = add(pace, 1000, at(minute))
    assert tokens_per_minute(pace, START, at(60)) == pytest.approx(1000, rel=0.06)


def test_a_pause_lets_the_pace_decay() -> None:
    pace = add(Pace(), 60_000, at(60))
    early, late = tokens_per_minute(pace, START, at(61)), tokens_per_minute(pace, START, at(100))
    assert early is not None
    assert late is not None
    assert late < early / 40


def test_a_session_younger_than_a_minute_has_no_pace() -> None:
    pace = add(Pace(), 1000, at(0.5))
    assert tokens_per_minute(pace, START, at(0.99)) is None
    assert tokens_per_minute(pace, START, at(1)) is not None


def test_nothing_spent_has_no_pace() -> None:
    assert tokens_per_minute(Pace(), START, at(30)) is None


@pytest.mark.parametrize(
    ("threshold", "tokens", "per_minute", "minutes"),
    [
        (100, 100, 10.0, None),
        (100, 101, 10.0, None),
        (100, 0, 0.9, None),
        (100, 0, 10.0, 10),
        (101, 0, 10.0, 11),
    ],
)
def test_a_threshold_is_reached_after_what_is_left_at_the_pace_rounded_up(
    threshold: int, tokens: int, per_minute: float, minutes: int | None
) -> None:
    assert minutes_until(threshold, tokens, per_minute) == minutes


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 600)), max_size=6),
    st.integers(0, 10**9),
    st.floats(0, 600),
)
def test_a_correction_takes_back_what_was_added_at_its_moment(
    spent: list[tuple[int, float]], tokens: int, minutes: float
) -> None:
    without = Pace()
    for count, moment in [*spent, (0, minutes)]:
        without = add(without, count, at(moment))
    corrected = add(add(without, tokens, at(minutes)), -tokens, at(minutes))
    assert corrected.at == without.at
    assert corrected.tokens == pytest.approx(without.tokens, rel=1e-9, abs=1e-3)


def test_the_first_tokens_weigh_whole_at_their_moment() -> None:
    assert add(Pace(), 1000, at(3)) == Pace(1000.0, at(3))


def test_after_ten_minutes_a_token_weighs_one_over_e() -> None:
    later = add(add(Pace(), 1000, at(0)), 0, at(10))
    assert later.at == at(10)
    assert later.tokens == pytest.approx(1000 / math.e)


def test_tokens_that_arrive_late_weigh_by_their_age_and_leave_the_moment() -> None:
    late = add(add(Pace(), 0, at(10)), 1000, at(0))
    assert late.at == at(10)
    assert late.tokens == pytest.approx(1000 / math.e)


def test_more_taken_back_than_added_is_a_pace_of_nothing() -> None:
    assert tokens_per_minute(add(Pace(), -1000, at(5)), START, at(6)) == 0.0


@given(st.floats(1, 600), st.integers(1, 10**6))
def test_steady_spending_has_its_own_pace_in_a_session_of_any_age(
    age: float, per_step: int
) -> None:
    steps = 400
    pace = Pace()
    for step in range(steps):
        pace = add(pace, per_step, at(age * (step + 0.5) / steps))
    assert tokens_per_minute(pace, START, at(age)) == pytest.approx(
        per_step * steps / age, rel=0.05
    )


def test_a_moment_before_the_last_token_sees_it_whole() -> None:
    pace = add(Pace(), 1000, at(30))
    before, then = tokens_per_minute(pace, START, at(29)), tokens_per_minute(pace, START, at(30))
    assert before is not None
    assert then is not None
    assert before == pytest.approx(1000 / 10 / (1 - math.exp(-2.9)))
    assert then == pytest.approx(1000 / 10 / (1 - math.exp(-3)))


@given(st.integers(1, 10**12), st.integers(0, 10**12), st.integers(1, 10**6))
def test_the_minutes_are_the_fewest_whole_ones_that_reach_the_threshold(
    threshold: int, tokens: int, per_minute: int
) -> None:
    minutes = minutes_until(threshold, tokens, per_minute)
    if tokens >= threshold:
        assert minutes is None
    else:
        assert minutes is not None
        assert tokens + (minutes - 1) * per_minute < threshold <= tokens + minutes * per_minute


def test_a_pace_of_one_token_a_minute_still_says_when() -> None:
    assert (minutes_until(100, 0, 1), minutes_until(100, 0, 0.999)) == (100, None)
