"""List prices from a small table, which loads in a moment; written from the table that reports use."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import cast

from msgspec import Struct
from msgspec.json import decode

from immunos_mcp.rules.list_prices import (
    LONG_INPUT_UNTIL_2026_04,
    NO_LONG_INPUT_FROM,
    Cost,
    ListPrice,
    PricedUsage,
    cost_of,
    listed_name,
    model_versions,
)

FILE = Path(__file__).with_name("price_table.json")

KINDS = (
    "input_mtok",
    "output_mtok",
    "cache_write_mtok",
    "cache_read_mtok",
    "cache_write_1h_mtok",
    "web_searches_kcount",
)
"""The prices of a model, in the order of ``ListPrice``."""

_COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class _Offer(Struct, frozen=True, array_like=True):
    start: date | None
    input_mtok: str | list[tuple[int, str]] | None
    output_mtok: str | list[tuple[int, str]] | None
    cache_write_mtok: str | list[tuple[int, str]] | None
    cache_read_mtok: str | list[tuple[int, str]] | None
    cache_write_1h_mtok: str | list[tuple[int, str]] | None
    web_searches_kcount: str | list[tuple[int, str]] | None


class _Model(Struct, frozen=True, array_like=True):
    is_claude: bool
    model_id: str
    name: str
    match: list[object]
    offers: list[_Offer]


class _Table(Struct, frozen=True):
    version: str
    released: date
    models: list[_Model]


@lru_cache(maxsize=1)
def _table() -> _Table:
    return decode(FILE.read_bytes(), type=_Table)


def released() -> date:
    """Return the day on which the prices were published."""
    return _table().released


@lru_cache(maxsize=1)
def long_inputs() -> tuple[int, ...]:
    """Return the numbers of input tokens above which a response is dearer, for some models."""
    return tuple(
        sorted(
            {
                start
                for model in _table().models
                for offer in model.offers
                if isinstance(offer.input_mtok, list)
                for start, _ in offer.input_mtok
                if start
            }
        )
    )


def cost(usage: PricedUsage) -> Cost:
    """Return what responses cost, by the prices of their day."""
    return cost_of(usage, find(usage.model, usage.at.astimezone(UTC), usage.input_tokens_over))


def find(name: str, at: datetime, input_tokens_over: int = 0) -> ListPrice | None:
    """Return the price of a model at a time; ``None``: the table has none.

    Args:
        name: by any of its names.
        at: the moment.
        input_tokens_over: one of ``long_inputs`` for responses that had more; else 0.
    """
    return _find(name, at.date(), input_tokens_over)


@lru_cache(maxsize=1024)
def _find(name: str, day: date, input_tokens_over: int) -> ListPrice | None:
    name = listed_name(name)
    model = _first_match(name) or _first_match(_COMPACT_DATE.sub(r"-\2-\3-\4", name))
    if model is None or model_versions(name) != model_versions(model.name):
        return None
    if model.model_id in LONG_INPUT_UNTIL_2026_04 and day >= NO_LONG_INPUT_FROM.date():
        input_tokens_over = 0
    input_usd, output_usd, *others = (
        _price(getattr(_offer(model, day), kind), input_tokens_over) for kind in KINDS
    )
    if input_usd is None or output_usd is None:
        return None
    return ListPrice(
        model.name,
        input_usd,
        output_usd,
        *others,
        model_id=model.model_id,
        is_claude=model.is_claude,
    )


def _first_match(name: str) -> _Model | None:
    return next((model for model in _table().models if _fits(name, model.match)), None)


def _fits(name: str, clause: list[object]) -> bool:
    kind, *values = clause
    if kind in {"or", "and"}:
        found = (_fits(name, cast("list[object]", each)) for each in values)
        return any(found) if kind == "or" else all(found)
    text = str(values[0])
    match kind:
        case "equals":
            return name == text.lower()
        case "starts_with":
            return name.startswith(text.lower())
        case "ends_with":
            return name.endswith(text.lower())
        case "contains":
            return text.lower() in name
        case _:
            return re.search(text, name) is not None


def _offer(model: _Model, day: date) -> _Offer:
    """Return the last price that has begun; the first one where none has."""
    begun = [offer for offer in model.offers if offer.start is None or offer.start <= day]
    return begun[-1] if begun else model.offers[0]


def _price(price: str | list[tuple[int, str]] | None, over: int) -> Decimal | None:
    if isinstance(price, list):
        price = [each for start, each in price if start <= over][-1]
    return None if price is None else Decimal(price)
