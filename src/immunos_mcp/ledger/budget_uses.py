"""How far budgets are used, from the sums of their windows.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

from immunos_mcp.domain import Session, TokenCounts
from immunos_mcp.ledger import spend
from immunos_mcp.ledger.moments import utc_text
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
from immunos_mcp.rules.budgets import PLAN_WINDOWS, Budget, BudgetUse, Unit, Window, parsed
from immunos_mcp.rules.policy import budget_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings


class Caller(NamedTuple):
    """Who asks, since a budget may be for one assistant or project; ``None``: not known."""

    assistant: str | None = None
    folder: str | None = None


ANYBODY = Caller()


class _PlanReport(NamedTuple):
    used_percentage: float
    resets_at: datetime


class _Look(NamedTuple):
    """A budget, and the window that a moment belongs to; ``None``: it is not known.

    Attributes:
        begun: how much of the window's days had begun.
        scope: what is summed up; ``None``: nothing is.
        plan_percent: how much of the plan's own limit is used; ``None``: it was reset since that was reported.
    """

    budget: Budget
    span: Span | None = None
    begun: float = 1.0
    scope: Scope | None = None
    plan_percent: float | None = None


def budget_uses(
    connection: Connection, settings: Settings, session: Session, now: datetime, caller: Caller
) -> tuple[BudgetUse, ...]:
    """Return how far the budgets that concern a caller are used; needs a transaction that may write."""
    revision = refresh(connection)
    looks = _looks(connection, settings, session, now, caller)
    made_from = (revision, settings, looks)
    if connection.last_uses is None or connection.last_uses[0] != made_from:
        connection.last_uses = made_from, _uses(connection, settings, looks, spent_in)
    return cast("tuple[BudgetUse, ...]", connection.last_uses[1])


def look_ahead(connection: Connection) -> None:
    """Announce that ``budget_uses`` is needed, if it was needed before."""
    if connection.last_uses is not None:
        spend.look_ahead(connection)


def keep_up(connection: Connection, settings: Settings, moment: datetime) -> None:
    """Sum up what changed and the windows of a moment, so that who only reads need not.

    Sessions are left to who decides in them.
    """
    looks = _looks(connection, settings, Session(None, ""), moment, ANYBODY)
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
    """Return how far all budgets are used, without writing anything."""
    looks = _looks(connection, settings, session, now, ANYBODY)
    return _uses(connection, settings, looks, read_spent)


def _looks(
    connection: Connection, settings: Settings, session: Session, now: datetime, caller: Caller
) -> list[_Look]:
    # No day, week or month begins within a quarter of an hour.
    quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    found: list[_Look] = []
    for look in _calendar_looks(settings.budgets, settings.time_zone, quarter, caller):
        window = look.budget.window
        if window is Window.SESSION:
            span = Span(session.started_at or now, None)
            scope = scope_of(span, look.budget.assistant, look.budget.folder or session.folder)
            found.append(_Look(look.budget, span, 1.0, scope))
        elif window in PLAN_WINDOWS:
            found.append(_plan_look(connection, look.budget, now))
        else:
            found.append(look)
    return found


@lru_cache(maxsize=64)
def _calendar_looks(
    text: str, time_zone: str, moment: datetime, caller: Caller
) -> tuple[_Look, ...]:
    """Return the budgets that concern a caller, with their windows where the calendar has them."""
    found: list[_Look] = []
    for budget in parsed(text):
        if not budget.concerns(*caller):
            continue
        if budget.window is Window.SESSION or budget.window in PLAN_WINDOWS:
            found.append(_Look(budget))
            continue
        zone = zone_named(time_zone)
        span = calendar_span(budget.window, moment, zone)
        begun = share_begun(budget.window, span, moment, zone)
        found.append(_Look(budget, span, begun, scope_of(span, budget.assistant, budget.folder)))
    return tuple(found)


def _plan_look(connection: Connection, budget: Budget, now: datetime) -> _Look:
    report = _plan_report(connection, budget)
    if report is None:
        return _Look(budget)
    span = plan_span(budget.window, now, report.resets_at)
    begun = share_begun(budget.window, span, now, None)
    if budget.unit is Unit.PERCENT:
        used = report.used_percentage if now < report.resets_at else None
        return _Look(budget, span, begun, None, used)
    return _Look(budget, span, begun, scope_of(span, budget.assistant, budget.folder))


def _plan_report(connection: Connection, budget: Budget) -> _PlanReport | None:
    row = connection.execute(
        "SELECT used_percentage, resets_at FROM immunos_mcp_plan_usage WHERE plan_window = ?",
        (PLAN_WINDOWS[budget.window],),
    ).fetchone()
    return None if row is None else _PlanReport(row[0], datetime.fromisoformat(row[1]))


def _uses(
    connection: Connection,
    settings: Settings,
    looks: Iterable[_Look],
    summed: Callable[[Connection, Collection[Scope]], Mapping[Scope, Spent]],
) -> tuple[BudgetUse, ...]:
    scopes = {look.scope for look in looks if look.scope is not None}
    spent_by: Mapping[Scope, Spent] = summed(connection, scopes) if scopes else {}
    found: list[BudgetUse] = []
    for budget, span, begun, scope, plan_percent in looks:
        if span is None:
            found.append(BudgetUse(budget.name, None))
            continue
        is_at_least = False
        if scope is None:
            used = plan_percent
        elif budget.unit is Unit.TOKENS:
            used = budget_tokens(TokenCounts(*spent_by[scope][:4]), settings)
        else:
            used, is_at_least = spent_by[scope].nanodollars, spent_by[scope].unpriced > 0
        found.append(BudgetUse(budget.name, used, begun, is_at_least, span.start, span.end))
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
