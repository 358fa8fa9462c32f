"""Writes the small price table that budgets in dollars use: ``python -m immunos_mcp.reports.price_table DAY``.

Importing the ``genai-prices`` package takes half a second, which a status line or a routed task cannot
wait for. A test compares both. The day is that of the package's release, which it does not contain.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from genai_prices.types import StartDateConstraint, TieredPrices

from immunos_mcp.reports.prices import MAKERS, PACKAGE
from immunos_mcp.rules.derived_prices import FILE, KINDS

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

    from immunos_mcp.answers.encoding import Json


def price_table(released: date) -> str:
    """Return the table of a package that was released on that day, as JSON, one line for each model."""
    lines = [
        json.dumps([number == 0, *_model(model)], separators=(",", ":"))
        for number, maker in enumerate(MAKERS)
        for model in maker.models
        if model.name is not None
    ]
    table = ",\n".join(lines)
    head = f'"version":"{PACKAGE} {version(PACKAGE)}","released":"{released}"'
    return f'{{{head},"models":[\n{table}\n]}}\n'


def _model(model: ModelInfo) -> list[Json]:
    offers = model.prices if isinstance(model.prices, list) else [None]
    dated: list[Json] = []
    for offer in offers:
        if offer is None:
            assert not isinstance(model.prices, list)
            dated.append([None, *_kinds(model.prices)])
            continue
        start = offer.constraint
        assert start is None or isinstance(start, StartDateConstraint)
        dated.append(
            [None if start is None else start.start_date.isoformat(), *_kinds(offer.prices)]
        )
    return [model.id, model.name, _clause(model.match), dated]


def _kinds(prices: ModelPrice) -> list[Json]:
    found: list[Json] = []
    for kind in KINDS:
        price = getattr(prices, kind)
        if isinstance(price, TieredPrices):
            tiers: list[Json] = [[tier.start, str(tier.price)] for tier in price.tiers]
            found.append([[0, str(price.base)], *tiers])
        else:
            found.append(None if price is None else str(price))
    return found


def _clause(match: object) -> list[Json]:
    """Return a condition on a model's name as its kind and text, or its kind and conditions."""
    (kind,) = vars(match)
    value: object = vars(match)[kind]
    if isinstance(value, list):
        return [kind.rstrip("_"), *(_clause(each) for each in cast("list[object]", value))]
    return [kind, str(value)]


if __name__ == "__main__":
    FILE.write_text(price_table(date.fromisoformat(sys.argv[1])), encoding="utf-8")
