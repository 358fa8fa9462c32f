"""List prices of Claude and of other hosted models, from the table in the ``genai-prices`` package; no network.

The table is part of the installed package. Its option to download a newer table is never used; a new
version of the package has one. What the table lacks, such as the price of fast mode, is stated here.
"""

from __future__ import annotations

from datetime import UTC
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from genai_prices.types import StartDateConstraint, TieredPrices
from msgspec import Struct

from immunos_mcp.answers.report import PriceTable
from immunos_mcp.rules.list_prices import (
    LONG_INPUT_UNTIL_2026_04,
    NO_LONG_INPUT_FROM,
    Cost,
    ListPrice,
    cost_of,
    listed_name,
    model_versions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime
    from decimal import Decimal

    from genai_prices.types import ModelInfo, ModelPrice, Provider

    from immunos_mcp.rules.list_prices import PricedUsage

PACKAGE = "genai-prices"

# A type checker would take minutes to infer its literal of thousands of prices.
_providers: list[Provider] = import_module("genai_prices.data").providers
_CLAUDE = next(provider for provider in _providers if provider.id == "anthropic")
MAKERS = [
    _CLAUDE,
    *(each for each in _providers if each.id in {"openai", "google", "x-ai", "zai", "moonshotai"}),
]


class Prices(Struct, frozen=True):
    """The price table; prices are never guessed.

    Attributes:
        table: where the prices come from.
        now: the moment that prices are looked up at where no other is given.
        long_inputs: more tokens of input than these make a response dearer, for some models.
    """

    table: PriceTable
    now: datetime
    long_inputs: tuple[int, ...]

    def find(
        self, model: str, at: datetime | None = None, input_tokens_over: int = 0
    ) -> ListPrice | None:
        """Return the price of a model at a time; ``None``: the table has none.

        Args:
            model: by any of its names.
            at: the moment; ``None``: now.
            input_tokens_over: one of ``long_inputs`` for responses that had more; else 0.
        """
        return _find(model, at or self.now, input_tokens_over)

    def cost_of(self, usage: PricedUsage) -> Cost:
        """Return what responses cost, by the prices of their time."""
        return cost_of(usage, self.find(usage.model, usage.at, usage.input_tokens_over))


def list_prices(now: datetime) -> Prices:
    """Return the prices that are known at a given time."""
    today = now.astimezone(UTC).date()
    newest = max((day for day in _dates() if day <= today), default=None)
    table = PriceTable(PACKAGE, version(PACKAGE), None if newest is None else newest.isoformat())
    return Prices(table, now, tuple(sorted(set(_long_inputs()))))


def _long_inputs() -> Iterator[int]:
    for provider in MAKERS:
        for model in provider.models:
            offers = model.prices if isinstance(model.prices, list) else [model]
            for offer in offers:
                prices = offer.prices
                if not isinstance(prices, list) and isinstance(prices.input_mtok, TieredPrices):
                    yield from (tier.start for tier in prices.input_mtok.tiers)


def _dates() -> Iterator[date]:
    for provider in _providers:
        for model in provider.models:
            if isinstance(model.prices, list):
                for conditional in model.prices:
                    if isinstance(conditional.constraint, StartDateConstraint):
                        yield conditional.constraint.start_date


@lru_cache(maxsize=4096)
def _find(name: str, at: datetime, input_tokens_over: int) -> ListPrice | None:
    name = listed_name(name)
    for provider in MAKERS:
        model = provider.find_model(name)
        if model is not None and model.name is not None:
            if model.id in LONG_INPUT_UNTIL_2026_04 and at >= NO_LONG_INPUT_FROM:
                input_tokens_over = 0
            if model_versions(name) != model_versions(model.name):
                return None
            prices = model.get_prices(at)
            return _list_price(model, prices, input_tokens_over, is_claude=provider is _CLAUDE)
    return None


def _list_price(
    model: ModelInfo, prices: ModelPrice, over: int, *, is_claude: bool
) -> ListPrice | None:
    input_usd = _price(prices, "input_mtok", over)
    output_usd = _price(prices, "output_mtok", over)
    if input_usd is None or output_usd is None:
        return None
    return ListPrice(
        model=model.name or model.id,
        input_usd=input_usd,
        output_usd=output_usd,
        cache_creation_usd=_price(prices, "cache_write_mtok", over),
        cache_read_usd=_price(prices, "cache_read_mtok", over),
        cache_creation_1h_usd=_price(prices, "cache_write_1h_mtok", over),
        thousand_searches_usd=_price(prices, "web_searches_kcount", over),
        model_id=model.id,
        is_claude=is_claude,
    )


def _price(prices: ModelPrice, kind: str, over: int) -> Decimal | None:
    """Return the price in requests with more tokens of input than that; it applies to all of them."""
    price: Decimal | TieredPrices | None = getattr(prices, kind)
    if not isinstance(price, TieredPrices):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= over]
    return reached[-1] if reached else price.base
