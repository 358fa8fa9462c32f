"""List prices of Claude's models, out of the table that comes with ``genai-prices``; no network.

That table is data of the installed package. Its ability to fetch a newer one is never used: a new
version of the package brings it.
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

# Its literal of some thousand prices takes a type checker minutes to infer.
_providers: list[Provider] = import_module("genai_prices.data").providers
_CLAUDE = next(provider for provider in _providers if provider.id == "anthropic")
_NOT_OF_THE_VERSION = re.compile(r"\[[^]]*\]$|[-@]\d{8}(?!\d)|[-@]\d{4}-\d{2}-\d{2}(?!\d)")
_NUMBER = re.compile(r"\d+")


class ListPrice(Struct, frozen=True):
    """What a provider asks for a million tokens of each kind.

    Attributes:
        model: what the price table calls the model.
        input_usd: for input.
        output_usd: for output.
        cache_creation_usd: for writing to the cache for five minutes; ``None``: the table has none.
        cache_read_usd: for reading from it, likewise.
    """

    model: str
    input_usd: Decimal
    output_usd: Decimal
    cache_creation_usd: Decimal | None
    cache_read_usd: Decimal | None

    def cost(self, counts: TokenCounts) -> Decimal | None:
        """Return what tokens cost; ``None``: there is no price for a kind that they have."""
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
    """List prices: the table and a way to look a model up; no price is ever guessed."""

    table: PriceTable
    find: Callable[[str], ListPrice | None]


def list_prices(now: datetime) -> Prices:
    """Return the prices that hold at a moment."""
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
    """Return the numbers of a model's version, 4 being the same as 4.0.

    The table takes names by their beginning, so that a model that is newer than it, such as a 4.10,
    would get the price of a 4.1.
    """
    numbers = [int(digits) for digits in _NUMBER.findall(_NOT_OF_THE_VERSION.sub("", name))]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _base(prices: ModelPrice, kind: str) -> Decimal | None:
    """Return what a million tokens cost in a request of ordinary length: sums know no requests."""
    price: Decimal | TieredPrices | None = getattr(prices, kind)
    return price.base if isinstance(price, TieredPrices) else price
