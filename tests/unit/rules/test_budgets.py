"""Budgets as text, their levels, and which of several decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.domain import Classification, Reason, Task, WarningLevel
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.rules import budgets
from immunos_mcp.rules.budgets import Budget, BudgetUse, Unit, Window
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.policy import decide
from immunos_mcp.rules.setting_changes import apply
from immunos_mcp.rules.settings import Settings

thresholds = st.lists(st.integers(1, 100), min_size=2, max_size=2).map(sorted)


@st.composite
def any_budget(draw: st.DrawFn) -> Budget:
    unit = draw(st.sampled_from(Unit))
    of_plan = [Window.FIVE_HOURS, Window.SEVEN_DAYS]
    window = draw(st.sampled_from(of_plan if unit is Unit.PERCENT else list(Window)))
    warning, switch = draw(thresholds)
    limit = draw(st.integers(1, 10**12))
    spreads = {Window.WEEK, Window.MONTH, Window.SEVEN_DAYS}
    is_scoped = unit is not Unit.PERCENT
    return Budget(
        draw(st.sampled_from(["a", "daily", "plan-7d", "my_app", "0"])),
        limit / draw(st.sampled_from([1, 100, 10**9])) if unit is Unit.USD else float(limit),
        unit,
        window,
        warning,
        switch,
        window in spreads and draw(st.booleans()),
        draw(st.sampled_from([None, "codex", "claude-code"])) if is_scoped else None,
        draw(st.sampled_from([None, "/home/me/a", "/srv/two words"])) if is_scoped else None,
    )


@given(st.lists(any_budget(), max_size=3, unique_by=lambda each: each.name))
def test_what_is_written_is_what_is_read(some: list[Budget]) -> None:
    text = "; ".join(f"{each.name}={each.text}" for each in some)
    merged = budgets.merged("", text)
    assert budgets.parsed(merged) == tuple(sorted(some, key=lambda each: each.name))
    assert budgets.merged(merged, "") == merged
    removed = "; ".join(f"{each.name}=off" for each in some)
    assert budgets.merged(merged, removed) == ""


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("20 usd/day", "20 usd/day"),
        ("$=", None),
        ("20 dollars a day", "20 usd/day"),
        ("2M tokens per week spread", "2000000 tokens/week spread"),
        ("80%/7d warn 50%", "80 percent/7d warn 50"),
        ("500k tokens/session", "500000 tokens/session"),
        ("1.50 usd/month in /a b by codex", "1.5 usd/month in /a b by codex"),
        ("1.50 usd/month by codex in /home/me/a b", "1.5 usd/month by codex in /home/me/a b"),
        ("0.0000001 usd/day", "0.0000001 usd/day"),
        ("123456789.123456789 usd/day", "123456789.123456791 usd/day"),
        ("0 usd/day", None),
        ("999999999999999 tokens/day", None),
        ("0.5 tokens/day", None),
        ("50 percent/day", None),
        ("50 percent/5h by codex", None),
        ("5 usd/day spread", None),
        ("5 usd/day warn 95", None),
        ("5 usd/day switch 0", None),
        ("5 usd/day by nobody", None),
        ("5 usd/day in web shop", "5 usd/day in web shop"),
        ("5 usd/day each warn 50", "5 usd/day warn 50 each"),
        ("80 percent of 5h each", "80 percent/5h each"),
        ('5 usd/day of "Ada L" by codex in /a', '5 usd/day by codex of "Ada L" in /a'),
        ("5 usd/day of ada", "5 usd/day of ada"),
        ("5 usd/day of ada each", None),
        ("5 usd/day of", None),
        ("5 usd/day in relative/path", None),
        ("5 usd/fortnight", None),
        ("5 usd/day\x1b[2J", None),
        ("many usd/day", None),
    ],
)
def test_budgets_are_written_in_one_way(written: str, canonical: str | None) -> None:
    if canonical is not None:
        assert budgets.budget("x", written).text == canonical
        return
    with pytest.raises(InvalidInputError, match="budgets"):
        budgets.budget("x", written)


def test_too_many_budgets_are_refused() -> None:
    many = "; ".join(f"b{number}=1 usd/day" for number in range(21))
    with pytest.raises(InvalidInputError, match="at most 20"):
        apply(Settings(), {"budgets": many})


def reason(text: str, classification: Classification, *uses: BudgetUse) -> tuple[str, str | None]:
    settings = apply(Settings(), {"budgets": text})
    decision = decide(settings, Circumstances(0, budgets=uses), Task("essay", classification))
    return decision.reason, decision.budget


def test_the_rows_for_spend_are_like_those_for_tokens() -> None:
    text, creative, routine = "d=100 tokens/day", Classification.CREATIVE, Classification.ROUTINE
    for used, expected in ((74, None), (75, None), (89, None), (90, "spend_limit_exceeded")):
        assert reason(text, creative, BudgetUse("d", used)) == (expected or "default_complex", "d")
    assert reason(text, routine, BudgetUse("d", 75)) == (Reason.SPEND_LIMIT_WARNING, "d")
    assert reason(text, routine, BudgetUse("d", None)) == (Reason.DEFAULT_COMPLEX, None)
    assert reason("", routine) == (Reason.DEFAULT_COMPLEX, None)


def test_the_tightest_of_several_decides() -> None:
    text = "a=100 tokens/day; b=1 usd/week; c=100 percent/5h"
    uses = (BudgetUse("a", 80), BudgetUse("b", 0.95e9), BudgetUse("c", 85))
    assert reason(text, Classification.CRITICAL, *uses) == (Reason.SPEND_LIMIT_EXCEEDED, "b")
    assert reason(text, Classification.ROUTINE, *uses[::2]) == (Reason.SPEND_LIMIT_WARNING, "c")


def test_a_spread_budget_allows_each_day_its_share() -> None:
    use = BudgetUse("w", 60, begun=3 / 7)
    spread, whole = (budgets.budget("w", f"140 tokens/week{more}") for more in (" spread", ""))
    assert budgets.state(spread, use).level is WarningLevel.CRITICAL
    assert budgets.state(spread, use).percent == 100
    assert budgets.state(whole, use).level is WarningLevel.NORMAL


@given(
    st.sampled_from([Unit.TOKENS, Unit.USD]),
    st.integers(1, 10**6),
    st.sampled_from([7, 28, 30, 31]).flatmap(
        lambda days: st.tuples(st.integers(1, days), st.just(days))
    ),
)
def test_a_share_that_is_whole_is_used_up_by_exactly_that(
    unit: Unit, share: int, part: tuple[int, int]
) -> None:
    begun, days = part
    scale = 10**7 if unit is Unit.USD else 1
    limit = share * days / (10**9 // scale if unit is Unit.USD else 1)
    of = Budget("w", limit, unit, Window.MONTH, 100, 100, is_spread=True)
    whole, use = share * begun * scale, BudgetUse("w", 0, begun / days, wanted=0)
    levels = [budgets.state(of, replace(use, used=used)).level for used in (whole - 1, whole)]
    assert levels == [WarningLevel.NORMAL, WarningLevel.CRITICAL]
    states = [budgets.state(of, replace(use, used=used)) for used in (whole, whole + 1)]
    assert [budgets.without_room((each,)) is None for each in states] == [True, False]


def test_of_percentages_that_look_the_same_the_fuller_is_the_tightest() -> None:
    uses = (BudgetUse("a", 9501), BudgetUse("b", 9504))
    found = budgets.tightest(budgets.states("a=10000 tokens/day; b=10000 tokens/day", uses))
    assert found is not None
    assert (found.budget.name, found.percent) == ("b", 95.0)


def test_a_budget_is_the_business_of_its_assistant_and_project() -> None:
    budget = budgets.budget("x", "1 usd/day by codex in /home/me/app")
    assert budget.concerns("codex", "/home/me/app/src")
    assert budget.concerns(None, None)
    assert not budget.concerns("claude-code", "/home/me/app")
    assert not budget.concerns("codex", "/home/me/apple")
