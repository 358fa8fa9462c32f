"""What handing over saves, net of calls, verification, tools and advice."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.rules.list_prices import ListPrice
from immunos_mcp.rules.net_savings import (
    Conversation,
    HandOvers,
    Rates,
    Task,
    Work,
    alone,
    handed_over,
    rates_of,
    savings,
    verification,
)

AROUND = Conversation()
PRICE = ListPrice("m", Decimal(2), Decimal(10), Decimal("2.5"), Decimal("0.2"))
GOOD = HandOvers(
    in_file=False,
    is_kept=True,
    is_checked=False,
    is_reported=False,
    has_material=True,
    tasks=1,
    input_tokens=50_200,
    output_tokens=300,
)

flags = st.booleans()
prices = st.sampled_from((PRICE, None))
hand_overs = st.builds(
    HandOvers,
    *(flags, flags, flags, flags, flags),
    tasks=st.integers(1, 9),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**5),
)


def test_a_long_log_is_read_by_claude_for_ten_times_what_a_hand_over_costs() -> None:
    task = Task(50_000, 300)
    # Reading costs two requests with 50,000 tokens of context, and stays in it for twenty more.
    assert alone(task, AROUND) == pytest.approx(
        0.1 * 100_000 + 1.25 * 50_120 + 5 * 420 + 0.1 * 20 * 50_420
    )
    assert handed_over(task, AROUND) == pytest.approx(
        0.1 * 100_000 + 1.25 * 510 + 5 * 420 + 0.1 * 20 * 810
    )
    assert verification(task, AROUND) == pytest.approx(
        0.1 * 100_000 + 1.25 * 1_500 + 5 * 180 + 0.1 * 20 * 1_680
    )


def test_a_result_in_a_file_is_neither_read_nor_repeated() -> None:
    returned, in_file = Task(0, 3_000), Task(0, 3_000, in_file=True)
    assert handed_over(in_file, AROUND) < handed_over(returned, AROUND) / 2


def test_a_task_that_failed_saves_nothing_and_costs_its_call() -> None:
    found = savings(Work((replace(GOOD, is_kept=False),)), 0, PRICE)
    assert found is not None
    assert (found.undone, found.gross_tokens) == (1, 0)
    assert found.net_tokens == -found.hand_over_tokens < 0


def test_tools_advice_and_calls_that_move_nothing_are_subtracted() -> None:
    alone_ = savings(Work((GOOD,)), 0, PRICE)
    with_all = savings(Work((GOOD,), only_routed=2, responses=600), 1_000, PRICE)
    assert alone_ is not None
    assert with_all is not None
    # 600 responses are ten conversations: each writes the listing once and reads it 60 times.
    assert with_all.tools_tokens == 10 * 1_200 * 1.25 + 600 * 1_200 * 0.1
    assert with_all.advice_tokens == 1_000 * 1.25 + 1_000 * 0.1 * 20
    assert with_all.routing_tokens == 2 * (5_000 + 75 + 300)
    spent = with_all.tools_tokens + with_all.advice_tokens + with_all.routing_tokens
    assert with_all.net_tokens == alone_.net_tokens - spent
    assert with_all.net_usd == pytest.approx(with_all.net_tokens * 2 / 10**6)


def test_without_hand_overs_there_is_only_cost_and_without_anything_no_answer() -> None:
    assert savings(Work(responses=600), 0, PRICE) is None
    advised = savings(Work(responses=600), 10, None)
    assert advised is not None
    assert advised.net_tokens < 0
    assert (advised.net_usd, advised.gross_usd) == (None, None)


@given(st.lists(hand_overs, max_size=4), st.integers(0, 50), st.integers(0, 10**4), prices)
def test_the_net_is_the_gross_without_all_costs_however_tasks_are_grouped(
    groups: list[HandOvers], only_routed: int, tokens: int, price: ListPrice | None
) -> None:
    found = savings(Work(tuple(groups), only_routed), tokens, price)
    if found is None:
        assert (groups, only_routed, tokens) == ([], 0, 0)
        return
    costs = (
        found.hand_over_tokens,
        found.verification_tokens,
        found.routing_tokens,
        found.tools_tokens,
        found.advice_tokens,
    )
    assert min(costs) >= 0
    assert found.net_tokens == found.gross_tokens - sum(costs)
    twice = savings(Work((*groups, *groups), only_routed), tokens, price)
    assert twice is not None
    assert twice.gross_tokens == pytest.approx(2 * found.gross_tokens, abs=2)
    assert twice.hand_over_tokens == pytest.approx(2 * found.hand_over_tokens, abs=2)


def test_rates_are_those_of_the_price_and_else_the_usual_ones() -> None:
    assert rates_of(PRICE) == rates_of(None) == Rates()
    dear = replace(PRICE, output_usd=Decimal(20), cache_creation_usd=None)
    assert rates_of(dear) == Rates(10.0, 1.25, 0.1)
