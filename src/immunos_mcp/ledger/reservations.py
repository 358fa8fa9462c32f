"""Tokens that decisions hold back for work that is under way, so that parallel tasks keep a limit together.

A reservation is made in the transaction of its decision. Its outcome, the usage that is reported for it,
or its expiry release it; other usage does not.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.rules import derived_prices
from immunos_mcp.rules.budgets import NANODOLLARS, Unit, parsed
from immunos_mcp.rules.list_prices import MILLION

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.domain import Decision, Session, Task
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.budgets import BudgetUse
    from immunos_mcp.rules.settings import Settings


def held(
    connection: Connection,
    settings: Settings,
    session: Session,
    task: Task,
    uses: tuple[BudgetUse, ...],
    now: datetime,
) -> tuple[int, tuple[BudgetUse, ...]]:
    """Return what open reservations of a session hold back, and what all of them and a task want of budgets."""
    connection.execute(
        "DELETE FROM immunos_mcp_reservation WHERE expires_at <= ?", (utc_text(now),)
    )
    own, everybody_s = connection.execute(
        "SELECT coalesce(sum(tokens) FILTER (WHERE session_id = ?), 0), coalesce(sum(tokens), 0)"
        " FROM immunos_mcp_reservation",
        (session.session_id,),
    ).fetchone()
    if task.estimated_tokens is None or not uses:
        return own, uses
    tokens = everybody_s + task.estimated_tokens
    units = {budget.name: budget.unit for budget in parsed(settings.budgets)}
    return own, tuple(
        replace(use, wanted=_wanted(units[use.name], tokens, settings, now)) for use in uses
    )


def _wanted(unit: Unit, tokens: int, settings: Settings, now: datetime) -> float | None:
    """Return tokens in a budget's unit; nobody knows how many are a percent of the plan."""
    if unit is Unit.TOKENS:
        return tokens
    price = derived_prices.find(settings.claude_model, now) if unit is Unit.USD else None
    # Output is what is dearest, so the limit holds whatever the tokens turn out to be.
    return None if price is None else round(tokens * price.output_usd * NANODOLLARS / MILLION)


def expiry(settings: Settings, now: datetime) -> str:
    """Return when a reservation that is made now expires, as stored."""
    return utc_text(now + timedelta(minutes=settings.reservation_minutes))


def reserve(
    connection: Connection,
    decision_id: int,
    session: Session,
    decision: Decision,
    now: datetime,
    expires_at: str,
) -> None:
    """Hold back the tokens of a decision."""
    connection.execute(
        "INSERT INTO immunos_mcp_reservation (decision_id, session_id, tokens, reserved_at,"
        " expires_at) VALUES (?, ?, ?, ?, ?)",
        (decision_id, session.session_id, decision.reserved_tokens, utc_text(now), expires_at),
    )


def release(connection: Connection, decision_id: int, tokens: int | None = None) -> None:
    """Release a decision's reservation, or as many of its tokens as were used."""
    if tokens is not None:
        connection.execute(
            "UPDATE immunos_mcp_reservation SET tokens = max(0, tokens - ?) WHERE decision_id = ?",
            (tokens, decision_id),
        )
        return
    connection.execute("DELETE FROM immunos_mcp_reservation WHERE decision_id = ?", (decision_id,))
