"""The pace of spending: what it is, and that order does not matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import Pace
from immunos_mcp.pace import add, minutes_until, tokens_per_minute

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
