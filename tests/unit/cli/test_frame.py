"""Frames of the live screen fit any terminal, whatever is in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.answers.status import BudgetStatus, StatusAnswer
from immunos_mcp.answers.watch import UsageToday, UsedBy, WatchAnswer
from immunos_mcp.cli.frame import Painter
from immunos_mcp.domain import (
    Classification,
    Decision,
    PlanUsage,
    Provider,
    Reason,
    Task,
    TokenCounts,
    WarningLevel,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAINTER = Painter(has_colours=True)
texts = st.text(max_size=30)
amounts = st.floats(0, 1e15) | st.just(0.0)
levels = st.sampled_from(WarningLevel)
moments = st.none() | st.just(NOW - timedelta(days=2)) | st.just(NOW + timedelta(days=2))
lines = st.builds(UsedBy, texts, st.integers(0, 10**15), amounts, st.sampled_from([None, True]))
groups = st.lists(lines, max_size=7).map(tuple)
budgets = st.builds(
    BudgetStatus,
    texts,
    st.sampled_from(["20 usd/day", "5000000 tokens/week spread in /home/me", "80 percent/7d"]),
    levels,
    st.none() | amounts,
    st.none() | amounts,
    st.none() | st.just(True),
    moments,
    moments,
    moments,
)
plans = st.builds(
    PlanUsage,
    st.sampled_from(["five_hour", "seven_day", "codex-five-hour"]),
    st.floats(0, 200),
    st.just(NOW),
)
statuses = st.builds(
    StatusAnswer,
    session=texts,
    session_tokens=st.integers(0, 10**15),
    session_limit=st.just(200_000),
    percent_used=amounts,
    warning_level=levels,
    token_warning_threshold=st.just(1),
    token_auto_switch_threshold=st.just(2),
    recommended_model=texts,
    message=texts,
    kept_local_tokens=st.integers(0, 10**15),
    claude_tokens=st.just(TokenCounts()),
    ollama_tokens=st.just(TokenCounts()),
    decisions=st.just({}),
    reported_tokens=st.just(0),
    started_at=moments,
    tokens_per_minute=st.none() | st.integers(0, 10**9),
    minutes_to_warning=st.none() | st.integers(1, 10**9),
    plan=st.none() | st.lists(plans, max_size=3).map(tuple),
    budgets=st.none() | st.lists(budgets, max_size=20).map(tuple),
    not_counting=st.none() | texts,
    uncounted_tokens=st.none() | st.integers(0, 10**9),
)
decisions = st.builds(
    LoggedDecision,
    st.integers(1, 10**9),
    texts,
    st.just(NOW),
    st.builds(Task, texts, st.just(Classification.CREATIVE)),
    st.builds(
        Decision,
        texts,
        st.sampled_from(Provider),
        st.sampled_from(Reason),
        levels,
        st.just(0),
    ),
    st.none(),
)
seen = st.builds(
    WatchAnswer,
    st.just(NOW),
    statuses,
    st.builds(UsageToday, st.just(NOW), lines, groups, groups, groups, groups),
    st.lists(decisions, max_size=30).map(tuple),
    st.none() | amounts,
)


@settings(max_examples=15)
@given(st.none() | seen, st.none() | texts, st.integers(1, 130), st.integers(1, 50))
def test_every_line_is_as_wide_as_the_screen(
    shown: WatchAnswer | None, trouble: str | None, width: int, height: int
) -> None:
    plain = PAINTER.plain(shown, trouble, width, height)
    assert [cell_len(line) for line in plain] == [width] * height
    painted = PAINTER.lines(shown, trouble, width, height)
    assert len(painted) == height
    assert not any(ord(character) < 32 for line in plain for character in line)
