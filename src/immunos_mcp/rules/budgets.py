"""Budgets beside the session's own: what they are, how they are written, and how far they are used. Pure.

A budget is written as ``daily=20 usd/day``; the grammar is in ``EXPECTED``. Several are separated by
semicolons.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import MAXIMUM_TOKENS, MeasuredAssistant, WarningLevel
from immunos_mcp.errors import InvalidInputError, Problem, shown, unknown
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from datetime import datetime

MOST_BUDGETS = 20
LONGEST_FOLDER = 1000
LONGEST_LABEL = 200
NANODOLLARS = 1_000_000_000
"""Sums of dollars are whole numbers of these, so that they are exact."""

EXPECTED = (
    "budgets such as daily=20 usd/day, separated by semicolons: a number of usd, tokens or percent; a"
    " window (session, day, week, month, 5h, 7d); then, where wanted, warn 75, switch 90, spread,"
    " by ASSISTANT, of PERSON or each, in FOLDER; NAME=off removes one"
)
OFF = "off"


class Unit(StrEnum):
    """What a budget limits."""

    TOKENS = "tokens"
    USD = "usd"
    PERCENT = "percent"


class Window(StrEnum):
    """The span that a budget is for; the last two are the subscription's own."""

    SESSION = "session"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    FIVE_HOURS = "5h"
    SEVEN_DAYS = "7d"


PLAN_WINDOWS = {Window.FIVE_HOURS: "five_hour", Window.SEVEN_DAYS: "seven_day"}
"""The subscription's windows by the names that a client reports them under."""

_SPREADABLE = frozenset({Window.WEEK, Window.MONTH, Window.SEVEN_DAYS})


class Budget(Struct, frozen=True):
    """A limit on what is used in a window.

    Attributes:
        name: what decisions and commands call it.
        limit: how much may be used, in ``unit``.
        window: the span that it is for.
        warning_percent: use from which routine tasks stay local.
        switch_percent: use from which every task stays local.
        is_spread: whether each day of the window allows its share only.
        assistant: whose usage alone counts; ``None``: everybody's.
        folder: the project folder, or its label, whose usage alone counts; ``None``: all.
        person: the person whose usage alone counts; ``None``: everybody's.
        is_each: whether every person has this limit for themselves.
    """

    name: str
    limit: float
    unit: Unit
    window: Window
    warning_percent: int = 75
    switch_percent: int = 90
    is_spread: bool = False
    assistant: str | None = None
    folder: str | None = None
    person: str | None = None
    is_each: bool = False

    @property
    def is_of_people(self) -> bool:
        """Whether it is for persons, not for all who share the ledger."""
        return self.is_each or self.person is not None

    @property
    def text(self) -> str:
        """The budget as it is written, without its name."""
        limit = f"{self.limit:.9f}".rstrip("0").rstrip(".")
        words = [f"{limit} {self.unit}/{self.window}"]
        if self.warning_percent != Budget.__struct_defaults__[0]:
            words.append(f"warn {self.warning_percent}")
        if self.switch_percent != Budget.__struct_defaults__[1]:
            words.append(f"switch {self.switch_percent}")
        if self.is_spread:
            words.append("spread")
        if self.assistant is not None:
            words.append(f"by {self.assistant}")
        if self.person is not None:
            words.append(f"of {quoted(self.person)}")
        if self.is_each:
            words.append("each")
        if self.folder is not None:
            words.append(f"in {self.folder}")
        return " ".join(words)

    def concerns(self, assistant: str | None, folder: str | None) -> bool:
        """Return whether work of an assistant in a folder is its business; ``None``: not known."""
        if None not in {self.assistant, assistant} and self.assistant != assistant:
            return False
        return self.folder is None or folder is None or is_inside(folder, self.folder)


def quoted(name: str) -> str:
    """Return a person's name as ``of`` takes it."""
    return f'"{name}"' if " " in name else name


@lru_cache(maxsize=64)
def assistant_named(client: str) -> str | None:
    """Return the assistant that a client is by its own name; ``None``: none whose usage is measured."""
    return next((name.value for name in MeasuredAssistant if client.startswith(name)), None)


def _is_path(folder: str) -> bool:
    return folder.startswith("/") and len(folder) <= LONGEST_FOLDER


def is_label(text: str) -> bool:
    """Return whether a text may stand for a project whose path is not known here."""
    return 0 < len(text) <= LONGEST_LABEL and not {"/", ";"} & {*text}


def is_inside(folder: str, outer: str) -> bool:
    """Return whether a folder is another one or below it."""
    return f"{folder}/".startswith(f"{outer.rstrip('/')}/")


class BudgetUse(Struct, frozen=True):
    """How much of a budget was used at some moment.

    Attributes:
        name: the budget.
        used: tokens, nanodollars or percent; ``None``: nobody knows.
        begun: how much of the window's days had begun, from 0 to 1.
        is_at_least: whether there is usage without a price.
        starts_at: when its window began; only where somebody looks at it now.
        ends_at: when its window ends; ``None``: that is not fixed.
        wanted: what a task and open reservations want of it, in the unit of ``used``; ``None``: that is
            not asked, or not known.
    """

    name: str
    used: float | None
    begun: float = 1.0
    is_at_least: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    wanted: float | None = None
    person: str | None = None


class BudgetState(Struct, frozen=True):
    """A budget with how far it is used, and the level that means.

    Attributes:
        percent: of what is allowed by now; ``None``: not known.
    """

    budget: Budget
    use: BudgetUse
    percent: float | None
    level: WarningLevel


_ENTRY = (
    r"(?i)(?P<limit>\d{1,15}(?:\.\d{1,9})?)(?P<scale>[kKmM]?)\s*"
    r"(?P<unit>usd|dollars?|\$|tokens?|percent|%)\s*(?:/|per\s|a\s|of\s)\s*"
    r"(?P<window>session|day|week|month|5h|7d)(?P<rest>(?:\s.*)?)"
)
_UNITS = {"usd": Unit.USD, "dollar": Unit.USD, "dollars": Unit.USD, "$": Unit.USD,
          "token": Unit.TOKENS, "tokens": Unit.TOKENS, "percent": Unit.PERCENT, "%": Unit.PERCENT}  # fmt: skip
_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
_OPTION = (
    r"\s+(?:(?P<threshold>warn|switch)\s+(?P<percent>\d{1,3})%?|(?P<spread>spread)"
    r"|by\s+(?P<assistant>[a-z-]+)|of\s+(?:\"(?P<quoted>[^\"]+)\"|(?P<person>[^\s\"]+))|(?P<each>each)"
    r"|in\s+(?P<folder>.+))(?=\s|$)"
)


@lru_cache(maxsize=64)
def parsed(text: str) -> tuple[Budget, ...]:
    """Return the budgets that a stored text means."""
    return tuple(budget for _, budget in changes(text) if budget is not None)


def named(text: str, name: str, field: str = "budget") -> Budget:
    """Return one of the budgets that are set.

    Raises:
        InvalidInputError: there is none of this name.
    """
    found = {budget.name: budget for budget in parsed(text)}
    if name not in found:
        raise InvalidInputError(unknown(field, "budget", name, found))
    return found[name]


def merged(text: str, change: str, field: str = "budgets") -> str:
    """Return budgets with others added, replaced or (``NAME=off``) removed.

    Raises:
        InvalidInputError: the change is no such text, or there would be too many.
    """
    found = {budget.name: budget for budget in parsed(text)}
    for name, budget in changes(change, field):
        if budget is None:
            found.pop(name, None)
        else:
            found[name] = budget
    if len(found) > MOST_BUDGETS:
        message = f"{field}: at most {MOST_BUDGETS} budgets can be set, not {len(found)}"
        raise InvalidInputError(Problem(field, len(found), message=message))
    return "; ".join(f"{name}={found[name].text}" for name in sorted(found))


def changes(text: str, field: str = "budgets") -> list[tuple[str, Budget | None]]:
    """Return the budgets that a text names; ``None``: the one of this name is removed.

    Raises:
        InvalidInputError: it is no such text.
    """
    found: list[tuple[str, Budget | None]] = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, written = entry.partition("=")
        name = name.strip().lower()
        if not equals or not re.fullmatch(_NAME, name) or name == Window.SESSION:
            raise InvalidInputError(Problem(field, entry, EXPECTED))
        written = written.strip()
        found.append((name, None if written == OFF else budget(name, written, field)))
    return found


def budget(name: str, text: str, field: str = "budgets") -> Budget:
    """Return the budget that a text such as ``20 usd/day warn 50`` means.

    Raises:
        InvalidInputError: it is no such text.
    """
    matched = re.fullmatch(_ENTRY, text.strip())
    if matched is None or not is_printable(text):
        raise InvalidInputError(Problem(field, text, EXPECTED))
    limit = float(matched["limit"]) * {"": 1, "k": 1000, "m": 1_000_000}[matched["scale"].lower()]
    unit, window = _UNITS[matched["unit"].lower()], Window(matched["window"].lower())
    made = _with_options(Budget(name, limit, unit, window), matched["rest"], text, field)
    _check(made, field)
    return made


def _with_options(plain: Budget, rest: str, text: str, field: str) -> Budget:
    warning, switch = plain.warning_percent, plain.switch_percent
    is_spread, is_each, assistant, folder, person = False, False, None, None, None
    rest = rest.rstrip()
    while rest:
        option = re.match(_OPTION, rest)
        if option is None:
            raise InvalidInputError(Problem(field, text, EXPECTED))
        rest = rest[option.end() :]
        if option["threshold"] == "warn":
            warning = int(option["percent"])
        elif option["threshold"] is not None:
            switch = int(option["percent"])
        is_spread |= option["spread"] is not None
        is_each |= option["each"] is not None
        person = option["person"] or option["quoted"] or person
        assistant = option["assistant"] or assistant
        folder = option["folder"] or folder
    return Budget(
        plain.name, plain.limit, plain.unit, plain.window, warning, switch, is_spread, assistant, folder,
        person, is_each,
    )  # fmt: skip


def _check(made: Budget, field: str) -> None:
    for wrong, message in (
        (
            not 0 < made.limit <= MAXIMUM_TOKENS,
            f"the limit must be more than 0 and at most {MAXIMUM_TOKENS}",
        ),
        (
            made.unit is Unit.TOKENS and not made.limit.is_integer(),
            "a number of tokens must be whole",
        ),
        (
            made.unit is Unit.PERCENT and made.window not in PLAN_WINDOWS,
            "percent is of the plan's own limit, so its window must be 5h or 7d",
        ),
        (
            made.unit is Unit.PERCENT and (made.assistant or made.folder),
            "the plan's own limit is for everything, so `by` and `in` cannot be used with it",
        ),
        (
            not 0 <= made.warning_percent <= made.switch_percent <= 100 or not made.switch_percent,
            "warn must be at most switch, and both from 0 to 100",
        ),
        (
            made.is_spread and made.window not in _SPREADABLE,
            "only a week, a month or 7d can be spread over its days",
        ),
        (
            made.assistant is not None and made.assistant not in set(MeasuredAssistant),
            f"by takes {', '.join(MeasuredAssistant)}",
        ),
        (
            made.is_each and made.person is not None,
            "each is every person's own limit, so `of` cannot be used with it",
        ),
        (
            made.folder is not None and not _is_path(made.folder) and not is_label(made.folder),
            "in needs an absolute path, or the label of a project, which has no slash",
        ),
    ):
        if wrong:
            said = f"{field}: {made.name}: {message} (got {shown(made.text)})"
            raise InvalidInputError(Problem(field, made.text, message=said))


def state(of: Budget, use: BudgetUse) -> BudgetState:
    """Return how far a budget is used."""
    if use.used is None:
        return BudgetState(of, use, None, WarningLevel.NORMAL)
    allowed = allowance(of, use)
    level = WarningLevel.NORMAL
    if use.used * 100 >= allowed * of.switch_percent:
        level = WarningLevel.CRITICAL
    elif of.warning_percent and use.used * 100 >= allowed * of.warning_percent:
        level = WarningLevel.WARNING
    percent = round(100 * use.used / allowed, 1) if allowed else 100.0
    return BudgetState(of, use, percent, level)


def allowance(of: Budget, use: BudgetUse) -> float:
    """Return how much may be used by now, in the unit of ``used``.

    A share of days is of whole tokens and nanodollars, so that it is the same however it was divided.
    """
    if not of.is_spread:
        return full_limit(of)
    share = full_limit(of) * use.begun
    return max(round(share, 6), 1e-6) if of.unit is Unit.PERCENT else max(round(share), 1)


def full_limit(of: Budget) -> float:
    """Return a budget's limit in the unit of ``used``."""
    return round(of.limit * NANODOLLARS) if of.unit is Unit.USD else of.limit


def in_unit(of: Budget, used: float) -> float:
    """Return a use in the unit that a budget is written in, dollars to four decimals."""
    return round(used / NANODOLLARS, 4) if of.unit is Unit.USD else used


def amount(of: Budget, used: float) -> str:
    """Return a use for people: ``$3.20``, ``12,000 tokens`` or ``78%``."""
    match of.unit:
        case Unit.USD:
            return f"${used / NANODOLLARS:,.2f}"
        case Unit.TOKENS:
            return f"{used:,.0f} tokens"
        case Unit.PERCENT:
            return f"{used:g}%"


def without_room(found: tuple[BudgetState, ...]) -> BudgetState | None:
    """Return the first budget that a task does not fit in beside open reservations."""
    for each in found:
        use = each.use
        if use.wanted is None or use.used is None:
            continue
        if use.used + use.wanted > allowance(each.budget, use):
            return each
    return None


_RANK = {WarningLevel.NORMAL: 0, WarningLevel.WARNING: 1, WarningLevel.CRITICAL: 2}


@lru_cache(maxsize=64)
def states(text: str, uses: tuple[BudgetUse, ...]) -> tuple[BudgetState, ...]:
    """Return the state of each budget whose use was looked at."""
    by_name = {each.name: each for each in parsed(text)}
    return tuple(state(by_name[use.name], use) for use in uses if use.name in by_name)


@lru_cache(maxsize=64)
def are_of_people(text: str) -> bool:
    """Return whether any of these budgets is for persons."""
    return any(each.is_of_people for each in parsed(text))


@lru_cache(maxsize=64)
def tightest(found: tuple[BudgetState, ...]) -> BudgetState | None:
    """Return the budget with the worst level, of several the fullest; ``None``: there is none."""
    known = (each for each in found if each.percent is not None)
    return max(known, key=lambda each: (_RANK[each.level], _share(each)), default=None)


def _share(of: BudgetState) -> float:
    """Return how much is used of what is allowed, where the percentages of two may look the same."""
    return (of.use.used or 0) / (allowance(of.budget, of.use) or 1)


@lru_cache(maxsize=64)
def uses_text(uses: tuple[BudgetUse, ...]) -> str | None:
    """Encode the use of budgets as a decision stores it; ``None``: there are none."""
    import json

    found = {
        use.name: [use.used, use.begun, *([] if use.wanted is None else [use.wanted])]
        for use in uses
    }
    return json.dumps(found, separators=(",", ":")) if found else None


@lru_cache(maxsize=64)
def uses_of(text: str | None) -> tuple[BudgetUse, ...]:
    """Decode the use of budgets that a decision was made at."""
    import json

    if text is None:
        return ()
    return tuple(
        BudgetUse(name, used, begun, wanted=wanted[0] if wanted else None)
        for name, (used, begun, *wanted) in json.loads(text).items()
    )
