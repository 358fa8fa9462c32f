"""List prices: of models that the table knows, of no others, and without the network."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import counts

from immunos_mcp.domain import TokenCounts
from immunos_mcp.reports import prices
from immunos_mcp.rules.list_prices import Cost, ListPrice, PricedUsage

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PRICES = prices.list_prices(NOW)
AT = datetime(2026, 11, 20, tzinfo=UTC)
SONNET = ListPrice(
    "Claude Sonnet 4.5",
    Decimal(3),
    Decimal(15),
    Decimal("3.75"),
    Decimal("0.3"),
    Decimal(6),
    Decimal(10),
    "claude-sonnet-4-5",
)
OPUS = PricedUsage("claude-opus-4-6", AT, counts=TokenCounts(output_tokens=10**6), usage_records=1)


@pytest.mark.parametrize(
    "name",
    [
        "claude-sonnet-4.5",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "Claude-Sonnet-4-5",
        "claude-sonnet-4-5[1m]",
        "claude-sonnet-4-5@20250929",
        "claude-sonnet-4-5@default",
        "anthropic/claude-sonnet-4.5",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ],
)
def test_every_spelling_of_a_model_has_its_price(name: str) -> None:
    assert PRICES.find(name) == SONNET


@pytest.mark.parametrize(
    "name",
    [
        "claude",
        "opus",
        "claude-opus-4-10",
        "claude-sonnet-4-55",
        "claude-sonnet-99",
        "anthropic/claude-opus-4-10",
        "notanthropic.claude-sonnet-4-5",
        "qwen2.5-coder:7b",
        "",
        "<synthetic>",
    ],
)
def test_no_price_is_guessed(name: str) -> None:
    assert PRICES.find(name) is None


@given(counts)
def test_a_cost_is_the_sum_of_the_kinds_at_their_price(tokens: TokenCounts) -> None:
    assert SONNET.cost(tokens) == (
        Decimal(3) * tokens.input_tokens
        + Decimal(15) * tokens.output_tokens
        + Decimal("3.75") * tokens.cache_creation_input_tokens
        + Decimal("0.3") * tokens.cache_read_input_tokens
    ) / Decimal(10**6)


def test_a_kind_without_a_price_leaves_no_cost_unless_there_is_nothing_of_it() -> None:
    plain = ListPrice("x", Decimal(1), Decimal(2), None, None)
    assert plain.cost(TokenCounts(10**6, 10**6)) == 3
    assert plain.cost(TokenCounts(1, 1, 1)) is None


def test_the_table_says_how_old_it_may_be() -> None:
    table = PRICES.table
    assert (table.source, table.version[:3]) == ("genai-prices", "0.2")
    assert table.newest_price is not None
    assert "2025-01-01" < table.newest_price <= "2026-11-23"
    long_ago = prices.list_prices(datetime(2001, 1, 1, tzinfo=UTC)).table
    assert long_ago.newest_price is None


@pytest.mark.parametrize(
    ("terms", "cost"),
    [
        ({}, Cost(Decimal(25))),
        ({"speed": "standard", "service_tier": "standard", "region": "global"}, Cost(Decimal(25))),
        ({"speed": "fast"}, Cost(Decimal(150))),
        ({"service_tier": "batch"}, Cost(Decimal("12.5"))),
        ({"region": "us"}, Cost(Decimal("27.5"))),
        ({"web_searches": 3, "speed": "fast"}, Cost(Decimal("150.03"))),
        ({"speed": "fast", "region": "us"}, Cost(Decimal(165))),
        ({"model": "claude-opus-4-8", "speed": "fast"}, Cost(Decimal(50))),
        ({"model": "claude-opus-4-5", "region": "us"}, Cost(Decimal(25))),
        ({"service_tier": "priority"}, Cost(Decimal(25), is_at_least=True)),
        ({"region": "moon"}, Cost(Decimal(25), is_at_least=True)),
        ({"model": "claude-opus-4-5", "speed": "fast"}, Cost(Decimal(25), is_at_least=True)),
        ({"model": "claude-sonnet-99"}, Cost(is_at_least=True)),
        ({"model": "claude-opus-4-6[1m]"}, Cost(Decimal(25))),
        ({"model": "anthropic/claude-opus-4.6"}, Cost(Decimal(25))),
        ({"model": "global.anthropic.claude-opus-4-6-v1"}, Cost(Decimal(25))),
        ({"model": "us.anthropic.claude-opus-4-6-v1"}, Cost(Decimal(25), is_at_least=True)),
        ({"model": "anthropic.claude-opus-4-6-v1"}, Cost(Decimal(25), is_at_least=True)),
        ({"without_lifetimes": 1}, Cost(Decimal(25), is_at_least=True)),
    ],
)
def test_what_a_price_depends_on_is_in_it_and_what_is_unknown_makes_it_at_least_so_much(
    terms: dict[str, object], cost: Cost
) -> None:
    assert PRICES.cost_of(replace(OPUS, **terms)) == cost


def test_prices_are_those_of_the_time_and_of_the_length_of_the_input() -> None:
    long = replace(OPUS, input_tokens_over=200_000)
    assert PRICES.cost_of(long).usd == 25
    assert PRICES.cost_of(replace(long, at=datetime(2026, 3, 1, tzinfo=UTC))).usd == Decimal("37.5")
    sonnet = replace(long, model="claude-sonnet-4-5")
    assert PRICES.cost_of(sonnet).usd == 15
    assert PRICES.cost_of(replace(sonnet, at=datetime(2026, 1, 1, tzinfo=UTC))).usd == Decimal(
        "22.5"
    )
    assert 200_000 in PRICES.long_inputs


@given(counts, counts, st.integers(0, 10**6), st.sampled_from([None, "fast"]))
def test_the_cost_of_the_parts_is_the_cost_of_the_whole(
    one: TokenCounts, other: TokenCounts, searches: int, speed: str | None
) -> None:
    usage = replace(OPUS, speed=speed, counts=one, web_searches=searches)
    rest = replace(OPUS, speed=speed, counts=other)
    whole = replace(usage, counts=one + other)
    assert PRICES.cost_of(usage) + PRICES.cost_of(rest) == PRICES.cost_of(whole)
