"""A report as an HTML document, rendered from the templates beside this module. Pure.

The page's content policy allows only its own style sheet, so that no content can run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from datetime import UTC
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from immunos_mcp import __version__
from immunos_mcp.domain import Provider
from immunos_mcp.reports import savings
from immunos_mcp.reports.page.figures import sessions_figure, usage_figure
from immunos_mcp.rules.formatting import (
    NOTHING_SINCE,
    NOTHING_YET,
    compact,
    cost,
    grouped,
    minute,
    prices_of,
    printable,
    session_end,
    usd,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from immunos_mcp.answers.report import ReportAnswer, Savings
    from immunos_mcp.answers.status import StatusAnswer

BEGINNING = "<!doctype html>\n<!-- immunos-mcp report -->\n"
"""The beginning of every page, which identifies an earlier report."""

_LINE_BREAKS = re.compile(r"(?<=[>}])\n\s*|\n\s*(?=<|\{[%#])")
_LONGEST_FIGURE = 10**10


class Tile(NamedTuple):
    """One of the figures at the top of the page.

    Attributes:
        kind: the kind of tile, for its colour.
        title: the name of the figure.
        figure: the formatted figure.
        note: what it counts.
    """

    kind: str
    title: str
    figure: str
    note: str


class Live(NamedTuple):
    """What a page has besides that a server keeps up to date with a script of its own.

    Attributes:
        status: the session's status.
        has_login: whether readers log in, and can log out.
    """

    status: StatusAnswer
    has_login: bool


def page(answer: ReportAnswer, live: Live | None = None) -> str:
    """Return a report as an HTML document; ``live=None``: it stays as it is."""
    sources = "" if live is None else " script-src 'self'; connect-src 'self';"
    content = (
        _environment()
        .get_template("report.html")
        .render(
            answer=answer,
            version=__version__,
            live=live,
            policy=(
                f"default-src 'none'; style-src 'sha256-{hash_of_style()}';{sources} base-uri 'none';"
                f" form-action '{'none' if live is None else 'self'}'"
            ),
            style=Markup(style_sheet()),  # noqa: S704  # a file of this package
            nothing=NOTHING_YET if answer.since is None else NOTHING_SINCE,
            tiles=tuple(_tiles(answer)),
            usage=usage_figure(answer) if answer.usage else None,
            sessions=sessions_figure(answer) if answer.sessions else None,
            **({} if answer.savings is None else _savings(answer.savings)),
            most_decisions=max((each.decisions for each in answer.decisions), default=0),
        )
    )
    return f"{BEGINNING}{content}\n"


@cache
def style_sheet() -> str:
    """Return the style sheet byte for byte as in the page, because the policy has its hash."""
    return "\n" + (files("immunos_mcp.reports.page") / "templates" / "style.css").read_text(
        encoding="utf-8"
    )


@cache
def hash_of_style() -> str:
    """Return the hash by which a page's policy allows the style sheet."""
    return base64.b64encode(hashlib.sha256(style_sheet().encode()).digest()).decode()


def _savings(found: Savings) -> dict[str, object]:
    return {
        "savings_headline": savings.headline(found),
        "savings_tasks": savings.tasks(found),
        "savings_parts": savings.parts(found),
        "savings_unit": savings.UNIT,
    }


def _tiles(answer: ReportAnswer) -> Iterator[Tile]:
    prices = answer.prices
    yield Tile(
        "claude", "Budget tokens", _short(answer.budget_tokens), "Claude's tokens, weighted by kind"
    )
    yield Tile(
        "local", "Kept local", _short(answer.kept_local_tokens), "tokens used by local models"
    )
    if prices.claude_cost_usd is None:
        yield Tile("claude", "Claude's cost", "unknown", "no known price for its models")
    else:
        note = "at list prices, all four kinds"
        unpriced = len(prices.models_without_price)
        if unpriced:
            models = "models" if unpriced > 1 else "model"
            note = f"at list prices, excluding {unpriced} {models} without a known price"
        yield Tile(
            "claude",
            "Claude's cost",
            cost(prices.claude_cost_usd, prices.claude_cost_is_at_least),
            note,
        )
    saved = answer.savings
    if saved is not None and saved.net_usd is not None and saved.gross_usd is not None:
        note = f"of {usd(saved.gross_usd)} gross, at {prices.priced_as} list prices"
        yield Tile("local", "Saved, net", usd(saved.net_usd), note)
    elif saved is not None:
        note = f"of {_short(saved.gross_tokens)} gross, {savings.UNIT}"
        yield Tile("local", "Saved, net", _short(saved.net_tokens), note)
    elif prices.kept_local_cost_usd is None:
        yield Tile("local", "Price of kept", "unknown", f"no known price for {prices.model}")
    else:
        avoided = usd(prices.kept_local_cost_usd)
        yield Tile("local", "Price of kept", avoided, f"at {prices.priced_as} list prices")
    decided = sum(each.decisions for each in answer.decisions)
    local = sum(each.decisions for each in answer.decisions if each.provider == Provider.OLLAMA)
    yield Tile("plain", "Decisions", _short(decided), f"{local:,} to local models")


def _short(number: int) -> str:
    return grouped(number) if number < _LONGEST_FIGURE else compact(number)


def _price(amount: float | None) -> str:
    return "no price" if amount is None else f"${amount:g}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _period_start(moment: datetime) -> str:
    return minute(moment) if moment.hour else moment.strftime("%Y-%m-%d")


def _escaped(shown: object) -> Markup:
    """Escape any text as markup; control characters become question marks."""
    if isinstance(shown, Markup):
        return shown
    return Markup(html.escape(printable(str(shown))))  # noqa: S704  # escaped here


class _UnbrokenLines(Extension):
    """Removes line breaks and indentation next to tags from a template."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002  # overrides
        return _LINE_BREAKS.sub("", source)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("immunos_mcp.reports.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escaped,
        extensions=[_UnbrokenLines],
    )
    filters = cast("dict[str, Callable[..., object]]", environment.filters)
    filters |= {
        "cost": cost,
        "grouped": grouped,
        "iso": _iso,
        "minute": minute,
        "period_start": _period_start,
        "price": _price,
        "prices_of": prices_of,
        "session_end": session_end,
        "usd": usd,
    }
    return environment
