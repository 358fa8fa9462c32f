"""List prices of Claude models, from the table in the ``genai-prices`` package; no network.

The table is part of the installed package. Its option to download a newer table is never used; a new
version of the package has one.
"""

from __future__ import annotations

import re
from datetime import UTC
from decimal import Decimal
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from genai_prices.types import StartDateConstraint, TieredPrices
from msgspec import Struct

from immunos_mcp.answers.report import PriceTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date, datetime

    from genai_prices.types import ModelPrice, Provider

    from immunos_mcp.domain import TokenCounts

PACKAGE = "genai-prices"
MILLION = 1_000_000

# A type checker would take minutes to infer its literal of thousands of prices.
_providers: list[Provider] = import_module("genai_prices.data").providers
_CLAUDE = next(provider for provider in _providers if provider.id == "anthropic")
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
    """

    model: str
    input_usd: Decimal
    output_usd: Decimal
    cache_creation_usd: Decimal | None
    cache_read_usd: Decimal | None

    def cost(self, counts: TokenCounts) -> Decimal | None:
        """Return the cost of tokens; ``None``: one of their kinds has no price."""
        total = Decimal(0)
        for tokens, price in (
            (counts.input_tokens, self.input_usd),
            (counts.output_tokens, self.output_usd),
            (counts.cache_creation_input_tokens, self.cache_creation_usd),
            (counts.cache_read_input_tokens, self.cache_read_usd),
        ):
            if tokens and price is None:
                return None
            total += tokens * (price or 0)
        return total / MILLION


class Prices(Struct, frozen=True):
    """The price table and a function to look up a model; prices are never guessed."""

    table: PriceTable
    find: Callable[[str], ListPrice | None]


def list_prices(now: datetime) -> Prices:
    """Return the prices at a given time."""
    today = now.astimezone(UTC).date()
    newest = max((day for day in _dates() if day <= today), default=None)
    table = PriceTable(PACKAGE, version(PACKAGE), None if newest is None else newest.isoformat())
    return Prices(table, lambda model: _find(model, now))


def _dates() -> Iterator[date]:
    for provider in _providers:
        for model in provider.models:
            if isinstance(model.prices, list):
                for conditional in model.prices:
                    if isinstance(conditional.constraint, StartDateConstraint):
                        yield conditional.constraint.start_date


def _find(name: str, now: datetime) -> ListPrice | None:
    model = _CLAUDE.find_model(name)
    if model is None or model.name is None or _versions(name) != _versions(model.name):
        return None
    prices = model.get_prices(now)
    input_usd, output_usd = _base(prices, "input_mtok"), _base(prices, "output_mtok")
    if input_usd is None or output_usd is None:
        return None
    return ListPrice(
        model=model.name,
        input_usd=input_usd,
        output_usd=output_usd,
        cache_creation_usd=_base(prices, "cache_write_mtok"),
        cache_read_usd=_base(prices, "cache_read_mtok"),
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


def _base(prices: ModelPrice, kind: str) -> Decimal | None:
    """Return the price in requests of ordinary length, because totals do not have single requests."""
    price: Decimal | TieredPrices | None = getattr(prices, kind)
    return price.base if isinstance(price, TieredPrices) else price
