"""How people are shown names, numbers, money and moments, in text and on a page. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC
from typing import TYPE_CHECKING

from immunos_mcp.answers.encoding import OBEYED_BY_TERMINALS
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.answers.report import PricesAnswer, ReportedSession

_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What makes a spreadsheet run a cell."""

_NEGATIVE = r"-[0-9]+(?:\.[0-9]+)?"

NOTHING_YET = (
    "Nothing is recorded yet. Set up your client (immunos-mcp install claude-code)"
    " or import Claude Code's history (immunos-mcp sync --all), then try again."
)
NOTHING_SINCE = "Nothing was recorded since then. Use an earlier --since, or none."


def cells(shown: str) -> int:
    """Return how many columns of a terminal a text fills."""
    if shown.isascii():
        return len(shown)
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in {"W", "F"}
        else 1
        for character in shown
    )


def printable(shown: str) -> str:
    """Return a text with whatever a terminal or a page would act on replaced by a question mark."""
    if is_printable(shown):
        return shown
    return "".join(character if is_printable(character) else "?" for character in shown)


def for_terminal(text: str) -> str:
    """Return a text of any number of lines with whatever a terminal would obey as a question mark.

    Letters of every script stay as they are, including those that are joined by invisible characters.
    """
    if text.isascii() and text.isprintable():
        return text
    return re.sub(OBEYED_BY_TERMINALS, "?", text.replace("\r", ""))


def csv_cell(cell: str) -> str:
    """Return a text as a spreadsheet shows it: neither run as a formula nor obeyed by a terminal."""
    text = for_terminal(cell)
    if re.fullmatch(_NEGATIVE, text):
        return text
    return f"'{text}" if text.lstrip()[:1] in _FORMULA or cell.startswith(("\t", "\r")) else text


def encodable(text: str) -> str:
    """Return a text with each half of a surrogate pair, which has no UTF-8, replaced by a question mark."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def compact(number: float) -> str:
    """Format a number in at most five characters, to three digits: 12.3k."""
    if number < 1000:
        return f"{number:.3g}"
    for exponent, unit in ((3, "k"), (6, "M"), (9, "G"), (12, "T"), (15, "P"), (18, "E")):
        scaled = f"{number / 10**exponent:.3g}"
        if float(scaled) < 1000:
            return f"{scaled}{unit}"
    return f"{number:.0e}".replace("+", "")


def grouped(number: float) -> str:
    """Format a number in full, with thousands separators."""
    return f"{number:,}"


def usd(amount: float) -> str:
    """Format an amount of money; an amount above zero never looks like zero."""
    if amount < 0:
        return f"-{usd(-amount)}"
    if 0 < amount < 0.01:
        return "<$0.01"
    return f"${amount:,.2f}" if amount < 1_000_000 else f"${compact(amount)}"


def cost(amount: float, is_at_least: bool | None) -> str:  # a pair of fields
    """Format what something cost; a plus sign says that it cost at least that."""
    return f"{usd(amount)}+" if is_at_least else usd(amount)


def brief_cost(amount: float, is_at_least: bool | None) -> str:  # a pair of fields
    """Format like ``cost`` in at most eight characters: thousands of dollars to three digits."""
    if amount < 1000:
        return cost(amount, is_at_least)
    return f"${compact(amount)}{'+' if is_at_least else ''}"


def prices_of(prices: PricesAnswer) -> str:
    """Return where prices come from and how old they may be."""
    table = prices.table
    newest = "" if table.newest_price is None else f", newest price of {table.newest_price}"
    return f"{table.source} {table.version}{newest}"


def minute(moment: datetime) -> str:
    """Format a moment in UTC, to the minute."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def second(moment: datetime) -> str:
    """Format a moment in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def session_end(session: ReportedSession) -> str:
    """Format when a session ended in UTC, without the parts that its start shows already."""
    if session.ended_at is None:
        return "open"
    start, end = session.started_at.astimezone(UTC), session.ended_at.astimezone(UTC)
    if start.date() == end.date():
        return end.strftime("%H:%M")
    return end.strftime("%m-%d %H:%M" if start.year == end.year else "%Y-%m-%d")
