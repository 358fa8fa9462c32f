"""List prices of Claude and of other hosted models, from the table in the ``genai-prices`` package; no network.

The table is part of the installed package. Its option to download a newer table is never used; a new
version of the package has one. What the table lacks, such as the price of fast mode, is stated here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from genai_prices.types import StartDateConstraint, TieredPrices
from msgspec import Struct

from immunos_mcp.answers.report import PriceTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from genai_prices.types import ModelInfo, ModelPrice, Provider

    from immunos_mcp.domain import TokenCounts
    from immunos_mcp.ledger.usage_groups import PricedUsage

PACKAGE = "genai-prices"
MILLION = 1_000_000

# A type checker would take minutes to infer its literal of thousands of prices.
_providers: list[Provider] = import_module("genai_prices.data").providers
_CLAUDE = next(provider for provider in _providers if provider.id == "anthropic")
_MAKERS = [
    _CLAUDE,
    *(each for each in _providers if each.id in {"openai", "google", "x-ai", "zai", "moonshotai"}),
]
_NOT_OF_THE_VERSION = re.compile(r"\[[^]]*\]$|[-@]\d{8}(?!\d)|[-@]\d{4}-\d{2}-\d{2}(?!\d)")
_NUMBER = re.compile(r"\d+")


class ListPrice(Struct, frozen=True):
    """The price of a million tokens of each kind.

    Attributes:
        model: the name of the model in the price table.
        input_usd: for input.
        output_usd: for output.
        cache_creation_usd: for writing to the five-minute cache; ``None``: the table has no price.
        cache_read_usd: for reading from the cache, likewise.
        cache_creation_1h_usd: for writing to the one-hour cache, likewise.
        thousand_searches_usd: for a thousand web searches, likewise.
        model_id: the id of the model in the table.
        is_claude: whether Anthropic's own rules for speeds, tiers and regions apply.
    """

    model: str
    input_usd: Decimal
    output_usd: Decimal
    cache_creation_usd: Decimal | None
    cache_read_usd: Decimal | None
    cache_creation_1h_usd: Decimal | None = None
    thousand_searches_usd: Decimal | None = None
    model_id: str = ""
    is_claude: bool = True

    def cost(self, counts: TokenCounts, cache_1h_input_tokens: int = 0) -> Decimal | None:
        """Return the cost of tokens; ``None``: one of their kinds has no price.

        Args:
            counts: the tokens.
            cache_1h_input_tokens: how many of those written to the cache are kept for an hour.
        """
        short_lived = counts.cache_creation_input_tokens - cache_1h_input_tokens
        total = Decimal(0)
        for tokens, price in (
            (counts.input_tokens, self.input_usd),
            (counts.output_tokens, self.output_usd),
            (short_lived, self.cache_creation_usd),
            (cache_1h_input_tokens, self.cache_creation_1h_usd),
            (counts.cache_read_input_tokens, self.cache_read_usd),
        ):
            if tokens and price is None:
                return None
            total += tokens * (price or 0)
        return total / MILLION


class Cost(Struct, frozen=True):
    """What some responses cost at list price.

    Attributes:
        usd: the part that is known.
        is_at_least: whether there is a part that is not.
    """

    usd: Decimal = Decimal(0)
    is_at_least: bool = False

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.usd + other.usd, self.is_at_least or other.is_at_least)


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
        price = self.find(usage.model, usage.at, usage.input_tokens_over)
        if price is None:
            return Cost(is_at_least=usage.counts.total > 0)
        tokens = price.cost(usage.counts, usage.cache_1h_input_tokens)
        searches = price.thousand_searches_usd
        if tokens is None or (usage.web_searches and searches is None):
            return Cost(is_at_least=True)
        factor, is_known = _factor(price, usage)
        return Cost(
            tokens * factor + usage.web_searches * (searches or Decimal(0)) / 1000,
            not is_known or (price.is_claude and usage.without_lifetimes > 0),
        )


def list_prices(now: datetime) -> Prices:
    """Return the prices that are known at a given time."""
    today = now.astimezone(UTC).date()
    newest = max((day for day in _dates() if day <= today), default=None)
    table = PriceTable(PACKAGE, version(PACKAGE), None if newest is None else newest.isoformat())
    return Prices(table, now, tuple(sorted(set(_long_inputs()))))


# As public price tables of 2026-11 give them for fast mode and for inference in the US alone. All of a
# response's tokens cost so many times as much; searches cost the same.
_FAST = {
    "claude-opus-4-6": Decimal(6),
    "claude-opus-4-7": Decimal(6),
    "claude-opus-4-8": Decimal(2),
    "claude-opus-5": Decimal(2),
    "claude-opus-5-5": Decimal(2),
}
_BATCH = Decimal("0.5")
_US_ONLY = Decimal("1.1")
_SAME_PRICE_IN_THE_US = re.compile(r"claude-(?:[v23]|(?:opus|sonnet|haiku)-4-[015])")
"""Models before Opus 4.6 and Sonnet 4.6: where they run makes no difference."""

_LONG_UNTIL_2026_04 = frozenset({"claude-sonnet-4-0", "claude-sonnet-4-5"})
_NO_LONG_INPUT_FROM = datetime(2026, 4, 30, tzinfo=UTC)
"""When the beta of a million tokens of context ended for these models, and its dearer prices with it,
which the table has without a date; their pages (platform.claude.com/docs/en/models) now list a window
of 200,000 tokens."""

_SPEEDS = frozenset({None, "", "standard"})
_TIERS = frozenset({None, "", "standard", "default"})
_REGIONS = frozenset({None, "", "global", "not_available"})


def _factor(price: ListPrice, usage: PricedUsage) -> tuple[Decimal, bool]:
    """Return how much dearer than usual tokens were, and whether that is all that is to know."""
    factor, is_known = Decimal(1), True
    if usage.speed not in _SPEEDS:
        times = _FAST.get(price.model_id) if usage.speed == "fast" else None
        factor *= times or 1
        is_known &= times is not None
    if usage.service_tier not in _TIERS:
        is_batch = usage.service_tier == "batch" and price.is_claude
        factor *= _BATCH if is_batch else 1
        is_known &= is_batch
    if usage.region not in _REGIONS:
        is_us = usage.region == "us" and price.is_claude
        if is_us and not _SAME_PRICE_IN_THE_US.match(price.model_id):
            factor *= _US_ONLY
        is_known &= is_us
    return factor, is_known


def _long_inputs() -> Iterator[int]:
    for provider in _MAKERS:
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
    for provider in _MAKERS:
        model = provider.find_model(name)
        if model is not None and model.name is not None:
            if model.id in _LONG_UNTIL_2026_04 and at >= _NO_LONG_INPUT_FROM:
                input_tokens_over = 0
            if _versions(name) != _versions(model.name):
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


def _versions(name: str) -> tuple[int, ...]:
    """Return the numbers of a model's version, where 4 equals 4.0.

    The table matches names by prefix, so a model newer than the table, such as a 4.10, would get the
    price of a 4.1.
    """
    numbers = [int(digits) for digits in _NUMBER.findall(_NOT_OF_THE_VERSION.sub("", name))]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _price(prices: ModelPrice, kind: str, over: int) -> Decimal | None:
    """Return the price in requests with more tokens of input than that; it applies to all of them."""
    price: Decimal | TieredPrices | None = getattr(prices, kind)
    if not isinstance(price, TieredPrices):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= over]
    return reached[-1] if reached else price.base
