"""What usage costs at list price, given the price of its model. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from msgspec import Struct

from immunos_mcp.domain import TokenCounts
from immunos_mcp.rules.names import plain_model

MILLION = 1_000_000

PRUNED, PRUNED_BATCH = "pruned", "pruned batch"
"""The service tiers of usage whose records were pruned: what else its price depends on is not known, so
that its cost is *at least* so much."""

_NOT_OF_THE_VERSION = re.compile(r"\[[^]]*\]$|[-@]\d{8}(?!\d)|[-@]\d{4}-\d{2}-\d{2}(?!\d)")
_NUMBER = re.compile(r"\d+")
_DATE = re.compile(r"@(?=\d{8}$)|@default$")
_REGIONAL = re.compile(r"(?:^|/)(?!global\.)(?:[a-z0-9-]+\.)?anthropic\.claude-", re.IGNORECASE)
"""Models at Bedrock, which may cost more in a region than anywhere."""


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


class PricedUsage(Struct, frozen=True):
    """Responses of one model that are priced alike.

    Attributes:
        model: the model.
        at: a moment in the period that they are of, whose prices apply.
        speed: as recorded; ``None``: not known, as with the next two.
        service_tier: likewise.
        region: likewise.
        input_tokens_over: how many tokens of input each had more than, if it had more than the least
            that makes a response long; else 0.
        counts: their tokens.
        cache_1h_input_tokens: how many of those written to the cache are kept for an hour.
        web_searches: how many searches they made.
        usage_records: how many responses they are.
        without_lifetimes: how many of them wrote to a cache for a time that is not known.
    """

    model: str
    at: datetime
    speed: str | None = None
    service_tier: str | None = None
    region: str | None = None
    input_tokens_over: int = 0
    counts: TokenCounts = TokenCounts()
    usage_records: int = 0
    cache_1h_input_tokens: int = 0
    web_searches: int = 0
    without_lifetimes: int = 0


def cost_of(usage: PricedUsage, price: ListPrice | None) -> Cost:
    """Return what responses cost by the price of their model; ``None``: it has none."""
    if price is None:
        return Cost(is_at_least=usage.counts.total > 0)
    tokens = price.cost(usage.counts, usage.cache_1h_input_tokens)
    searches = price.thousand_searches_usd
    if tokens is None or (usage.web_searches and searches is None):
        return Cost(is_at_least=True)
    factor, is_known = _factor(price, usage)
    is_known &= _REGIONAL.search(usage.model) is None
    return Cost(
        tokens * factor + usage.web_searches * (searches or Decimal(0)) / 1000,
        not is_known or (price.is_claude and usage.without_lifetimes > 0),
    )


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

LONG_INPUT_UNTIL_2026_04 = frozenset({"claude-sonnet-4-0", "claude-sonnet-4-5"})
NO_LONG_INPUT_FROM = datetime(2026, 4, 30, tzinfo=UTC)
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
        is_batch = usage.service_tier in {"batch", PRUNED_BATCH} and price.is_claude
        factor *= _BATCH if is_batch else 1
        is_known &= is_batch and usage.service_tier != PRUNED_BATCH
    if usage.region not in _REGIONS:
        is_us = usage.region == "us" and price.is_claude
        if is_us and not _SAME_PRICE_IN_THE_US.match(price.model_id):
            factor *= _US_ONLY
        is_known &= is_us
    return factor, is_known


def listed_name(name: str) -> str:
    """Return the name that the price table has for a model, however it is spelled elsewhere."""
    return _DATE.sub("-", plain_model(name)).removesuffix("-")


def model_versions(name: str) -> tuple[int, ...]:
    """Return the numbers of a model's version, where 4 equals 4.0.

    The table matches names by prefix, so a model newer than the table, such as a 4.10, would get the
    price of a 4.1.
    """
    numbers = [int(digits) for digits in _NUMBER.findall(_NOT_OF_THE_VERSION.sub("", name))]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
