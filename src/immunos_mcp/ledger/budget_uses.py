"""How far budgets are used, from the sums of their windows.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

from msgspec.structs import replace

from immunos_mcp.domain import PlanUsage, Session, TokenCounts
from immunos_mcp.ledger import spend
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.plan_limits import last_reported
from immunos_mcp.ledger.spend import (
    Scope,
    Spent,
    has_totals,
    read_spent,
    refresh,
    scope_of,
    spent_in,
)
from immunos_mcp.rules.budget_windows import (
    Span,
    calendar_span,
    plan_span,
    share_begun,
    zone_named,
)
from immunos_mcp.rules.budgets import (
    PLAN_WINDOWS,
    Budget,
    BudgetUse,
    Unit,
    Window,
    are_of_people,
    parsed,
)
from immunos_mcp.rules.levels import budget_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings


class Caller(NamedTuple):
    """From where somebody asks, since a budget may be for one assistant or project; ``None``: not known."""

    assistant: str | None = None
    folder: str | None = None


ANYBODY = Caller()


class _People(NamedTuple):
    """Whose budgets are looked at beside those that are for all.

    Attributes:
        known: the ids and names of those who share the ledger.
        acting: who looks; ``None``: nobody in particular.
        are_all_seen: whether nobody in particular sees everybody's.
    """

    known: tuple[tuple[int, str], ...] = ()
    acting: int | None = None
    are_all_seen: bool = False

    def concerned_by(self, budget: Budget) -> Iterator[_Member]:
        """Return for whom a budget is looked at."""
        if not budget.is_of_people:
            yield _EVERYBODY
            return
        for person_id, name in self.known:
            if budget.person not in {None, name}:
                continue
            if self.acting == person_id:
                yield _Member(person_id)
            elif self.acting is None and self.are_all_seen:
                yield _Member(person_id, name)


class _Member(NamedTuple):
    """A person; 0: everybody.

    Attributes:
        name: where it is another one who looks.
    """

    person_id: int = 0
    name: str | None = None


_EVERYBODY = _Member()


class _Look(NamedTuple):
    """A budget, and the window that a moment belongs to; ``None``: it is not known.

    Attributes:
        begun: how much of the window's days had begun.
        scope: what is summed up; ``None``: nothing is.
        plan_percent: how much of the plan's own limit is used; ``None``: it was reset since that was reported.
        whose: whose usage counts.
    """

    budget: Budget
    span: Span | None = None
    begun: float = 1.0
    scope: Scope | None = None
    plan_percent: float | None = None
    whose: _Member = _EVERYBODY

    def scope_in(self, span: Span, folder: str | None) -> Scope:
        """Return what of a window counts."""
        return scope_of(span, self.budget.assistant, folder, self.whose.person_id)


def budget_uses(
    connection: Connection, settings: Settings, session: Session, now: datetime, caller: Caller
) -> tuple[BudgetUse, ...]:
    """Return how far the budgets that concern a caller are used; needs a transaction that may write.

    They are those of all, and those of the person who acts.
    """
    people = _people(connection, settings, are_all_seen=False)
    revision = refresh(connection)
    looks = _looks(connection, settings, session, now, caller, people)
    made_from = (revision, settings, looks)
    if connection.last_uses is None or connection.last_uses[0] != made_from:
        connection.last_uses = made_from, _uses(connection, settings, looks, spent_in)
    return cast("tuple[BudgetUse, ...]", connection.last_uses[1])


def look_ahead(connection: Connection) -> None:
    """Announce that ``budget_uses`` is needed, if it was needed before."""
    if connection.last_uses is not None:
        _, settings, _ = cast("tuple[int, Settings, object]", connection.last_uses[0])
        if are_of_people(settings.budgets):
            connection.ahead(_SELECT_PEOPLE)
        spend.look_ahead(connection)


def keep_up(connection: Connection, settings: Settings, moment: datetime) -> None:
    """Sum up what changed and the windows of a moment, so that who only reads need not.

    Sessions are left to who decides in them.
    """
    people = _people(connection, settings, are_all_seen=True)
    looks = _looks(connection, settings, Session(None, ""), moment, ANYBODY, people)
    windows = {look.scope for look in looks if look.budget.window is not Window.SESSION}
    scopes = {scope for scope in windows if scope is not None}
    spend.look_ahead(connection, scopes)
    are_known = has_totals(connection, scopes)
    refresh(connection)
    # Those that are known follow, or are summed up when somebody decides next.
    if not are_known:
        spent_in(connection, scopes)


def read_budget_uses(
    connection: Connection, settings: Settings, session: Session, now: datetime
) -> tuple[BudgetUse, ...]:
    """Return how far all budgets are used, without writing anything.

    A person sees those of all and their own; nobody in particular, as at the ledger itself, sees everybody's.
    """
    people = _people(connection, settings, are_all_seen=True)
    looks = _looks(connection, settings, session, now, ANYBODY, people)
    return _uses(connection, settings, looks, read_spent)


_SELECT_PEOPLE = "SELECT person_id, name FROM immunos_mcp_person ORDER BY name"


def _people(connection: Connection, settings: Settings, *, are_all_seen: bool) -> _People:
    if not are_of_people(settings.budgets):
        return _People()
    rows = connection.execute(_SELECT_PEOPLE)
    known = tuple((person_id, name) for person_id, name in rows)
    return _People(known, connection.person_id, are_all_seen)


def _looks(
    connection: Connection,
    settings: Settings,
    session: Session,
    now: datetime,
    caller: Caller,
    people: _People,
) -> list[_Look]:
    # No day, week or month begins within a quarter of an hour.
    quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    found: list[_Look] = []
    for look in _calendar_looks(settings.budgets, settings.time_zone, quarter, caller, people):
        window = look.budget.window
        if window is Window.SESSION:
            span = Span(session.started_at or now, None)
            scope = look.scope_in(span, look.budget.folder or session.folder)
            found.append(look._replace(span=span, scope=scope))
        elif window in PLAN_WINDOWS:
            found.append(_plan_look(connection, look, now))
        else:
            found.append(look)
    return found


@lru_cache(maxsize=64)
def _calendar_looks(
    text: str, time_zone: str, moment: datetime, caller: Caller, people: _People
) -> tuple[_Look, ...]:
    """Return the budgets that concern a caller, with their windows where the calendar has them."""
    return tuple(
        _calendar_look(_Look(budget, whose=whose), time_zone, moment)
        for budget in parsed(text)
        if budget.concerns(*caller)
        for whose in people.concerned_by(budget)
    )


def _calendar_look(look: _Look, time_zone: str, moment: datetime) -> _Look:
    window = look.budget.window
    if window is Window.SESSION or window in PLAN_WINDOWS:
        return look
    zone = zone_named(time_zone)
    span = calendar_span(window, moment, zone)
    begun = share_begun(window, span, moment, zone)
    return look._replace(span=span, begun=begun, scope=look.scope_in(span, look.budget.folder))


def _plan_look(connection: Connection, look: _Look, now: datetime) -> _Look:
    budget = look.budget
    report = _plan_report(connection, look)
    if report is None:
        return look
    span = plan_span(budget.window, now, report.resets_at)
    begun = share_begun(budget.window, span, now, None)
    if budget.unit is Unit.PERCENT:
        used = report.used_percentage if now < report.resets_at else None
        return look._replace(span=span, begun=begun, plan_percent=used)
    return look._replace(span=span, begun=begun, scope=look.scope_in(span, budget.folder))


def _plan_report(connection: Connection, look: _Look) -> PlanUsage | None:
    # A plan is a person's own, even where the budget is for all.
    reported = last_reported(connection, look.whose.person_id or connection.person_id)
    window = PLAN_WINDOWS[look.budget.window]
    return next((each for each in reported if each.window == window), None)


def _uses(
    connection: Connection,
    settings: Settings,
    looks: Iterable[_Look],
    summed: Callable[[Connection, Collection[Scope]], Mapping[Scope, Spent]],
) -> tuple[BudgetUse, ...]:
    scopes = {look.scope for look in looks if look.scope is not None}
    spent_by: Mapping[Scope, Spent] = summed(connection, scopes) if scopes else {}
    found: list[BudgetUse] = []
    for budget, span, begun, scope, plan_percent, whose in looks:
        if span is None:
            found.append(BudgetUse(budget.name, None, person=whose.name))
            continue
        is_at_least = False
        if scope is None:
            used = plan_percent
        elif budget.unit is Unit.TOKENS:
            used = budget_tokens(TokenCounts(*spent_by[scope][:4]), settings)
        else:
            used, is_at_least = spent_by[scope].nanodollars, spent_by[scope].unpriced > 0
        use = BudgetUse(budget.name, used, begun, is_at_least, span.start, span.end)
        found.append(use if whose.name is None else replace(use, person=whose.name))
    return tuple(found)


def first_told(
    connection: Connection, budget: str, starts_at: datetime, level: str, now: datetime
) -> bool:
    """Store that somebody is told of a crossing; return whether nobody was told of it before."""
    added = connection.execute(
        "INSERT INTO immunos_mcp_budget_crossing (budget, starts_at, warning_level, told_at)"
        " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (budget, utc_text(starts_at), level, utc_text(now)),
    )
    return added.rowcount > 0


def forget_told(connection: Connection, budget: str, starts_at: datetime, level: str) -> None:
    """Let a crossing be told again, since telling it failed."""
    connection.execute(
        "DELETE FROM immunos_mcp_budget_crossing"
        " WHERE budget = ? AND starts_at = ? AND warning_level = ?",
        (budget, utc_text(starts_at), level),
    )
