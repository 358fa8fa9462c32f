"""List prices: of models that the table knows, of no others, and without the network."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from strategies import counts

from immunos_mcp.domain import TokenCounts
from immunos_mcp.reports import prices
from immunos_mcp.reports.prices import ListPrice

NOW = datetime(2026, 11, 23, tzinfo=UTC)
PRICES = prices.list_prices(NOW)
SONNET = ListPrice("Claude Sonnet 4.5", Decimal(3), Decimal(15), Decimal("3.75"), Decimal("0.3"))


@pytest.mark.parametrize(
    "name",
    [
        "claude-sonnet-4.5",
        "claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
        "Claude-Sonnet-4-5",
        "claude-sonnet-4-5[1m]",
        "claude-sonnet-4-5@20250929",
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
        "gpt-5",
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
