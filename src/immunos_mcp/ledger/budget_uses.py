"""How far budgets are used, from the sums of their windows.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.domain import TokenCounts
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.spend import Scope, Spent, read_spent, refresh, scope_of, spent_in
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
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from immunos_mcp.domain import Session
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
    """A budget, and the window that a moment belongs to; ``None``: it is not known."""

    budget: Budget
    span: Span | None
    scope: Scope | None


def budget_uses(
    connection: Connection, settings: Settings, session: Session, now: datetime, caller: Caller
) -> tuple[BudgetUse, ...]:
    """Return how far the budgets that concern a caller are used; needs a transaction that may write."""
    looks = list(_looks(connection, settings, session, now, caller))
    refresh(connection)
    return _uses(connection, settings, now, looks, lambda scope: spent_in(connection, scope))


def read_budget_uses(
    connection: Connection, settings: Settings, session: Session, now: datetime
) -> tuple[BudgetUse, ...]:
    """Return how far all budgets are used, without writing anything."""
    looks = list(_looks(connection, settings, session, now, ANYBODY))
    found = read_spent(connection, {look.scope for look in looks if look.scope is not None})
    return _uses(connection, settings, now, looks, found.__getitem__)


def _looks(
    connection: Connection, settings: Settings, session: Session, now: datetime, caller: Caller
) -> Iterator[_Look]:
    reports: Mapping[str, _PlanReport] | None = None
    for budget in parsed(settings.budgets):
        if not budget.concerns(*caller):
            continue
        span, folder = None, budget.folder
        if budget.window is Window.SESSION:
            span = Span(session.started_at or now, None)
            folder = folder or session.folder
        elif budget.window in PLAN_WINDOWS:
            reports = _plan_reports(connection) if reports is None else reports
            report = reports.get(PLAN_WINDOWS[budget.window])
            if report is not None:
                span = plan_span(budget.window, now, report.resets_at)
        else:
            span = calendar_span(budget.window, now, zone_named(settings.time_zone))
        needs_sum = span is not None and budget.unit is not Unit.PERCENT
        scope = scope_of(span, budget.assistant, folder) if span and needs_sum else None
        yield _Look(budget, span, scope)


def _plan_reports(connection: Connection) -> dict[str, _PlanReport]:
    rows = connection.execute(
        "SELECT plan_window, used_percentage, resets_at FROM immunos_mcp_plan_usage"
    )
    return {
        window: _PlanReport(used, datetime.fromisoformat(resets_at))
        for window, used, resets_at in rows
    }


def _uses(
    connection: Connection,
    settings: Settings,
    now: datetime,
    looks: Iterable[_Look],
    spent_by: Callable[[Scope], Spent],
) -> tuple[BudgetUse, ...]:
    found: list[BudgetUse] = []
    for budget, span, scope in looks:
        if span is None:
            found.append(BudgetUse(budget.name, None))
            continue
        begun = share_begun(budget.window, span, now, zone_named(settings.time_zone))
        is_at_least = False
        if scope is None:
            used = _plan_percent(connection, budget, now)
        else:
            spent = spent_by(scope)
            is_tokens = budget.unit is Unit.TOKENS
            counts = TokenCounts(*spent[:4])
            used = budget_tokens(counts, settings) if is_tokens else spent.nanodollars
            is_at_least = not is_tokens and spent.unpriced > 0
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


def _plan_percent(connection: Connection, budget: Budget, now: datetime) -> float | None:
    """Return how much of the plan's own limit is used; ``None``: it was reset since it was reported."""
    report = _plan_reports(connection)[PLAN_WINDOWS[budget.window]]
    return report.used_percentage if now < report.resets_at else None
