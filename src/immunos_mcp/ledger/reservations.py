"""Tokens that decisions hold back for work that is under way, so that parallel tasks keep a limit together.

A reservation is made in the transaction of its decision. Its outcome, the usage that is reported for it, the
usage that its conversation or subagent logs after it, or its expiry release it; other usage does not.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from immunos_mcp.domain import Provider
from immunos_mcp.ledger.engines import providers_of_usage
from immunos_mcp.ledger.moments import CLOCK_TOLERANCE, utc_text
from immunos_mcp.rules import derived_prices
from immunos_mcp.rules.budgets import NANODOLLARS, Unit, parsed
from immunos_mcp.rules.levels import budget_tokens
from immunos_mcp.rules.list_prices import MILLION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from immunos_mcp.domain import Decision, JoinKey, Session, Task
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.identities import Identified
    from immunos_mcp.logged_usage import MeasuredUsage
    from immunos_mcp.rules.budgets import BudgetUse
    from immunos_mcp.rules.settings import Settings

LONGEST_CALL = timedelta(hours=1)
"""How long a call that was read in a log may wait for its decision."""


def held(
    connection: Connection,
    settings: Settings,
    session: Session,
    task: Task,
    uses: tuple[BudgetUse, ...],
    now: datetime,
) -> tuple[int, tuple[BudgetUse, ...]]:
    """Return what open reservations of a session hold back, and what all of them and a task want of budgets.

    Budgets of a person are wanted of by that person's reservations alone.
    """
    whose = (session.session_id, connection.person_id)
    own, everybody_s, person_s = connection.execute(_SELECT_HELD, whose).fetchone()
    if task.estimated_tokens is None or not uses:
        return own, uses
    everybody_s, person_s = (held + task.estimated_tokens for held in (everybody_s, person_s))
    known = {budget.name: budget for budget in parsed(settings.budgets)}
    return own, tuple(
        replace(
            use,
            wanted=_wanted(
                known[use.name].unit,
                person_s if known[use.name].is_of_people else everybody_s,
                settings,
                now,
            ),
        )
        for use in uses
    )


_SELECT_HELD = (
    "SELECT coalesce(sum(tokens) FILTER (WHERE session_id = ?), 0), coalesce(sum(tokens), 0),"
    " coalesce(sum(tokens) FILTER (WHERE person_id = ?), 0) FROM immunos_mcp_reservation"
)


def end_expired(
    connection: Connection, settings: Settings, session: Session, now: datetime
) -> None:
    """Release what has expired, and announce that the rest is needed for a session."""
    connection.execute(
        "DELETE FROM immunos_mcp_reservation WHERE expires_at <= ?", (utc_text(now),)
    )
    # What was made by a clock that was ahead is held no longer than what is made now.
    connection.execute(
        "UPDATE immunos_mcp_reservation SET reserved_at = ?, expires_at = ? WHERE reserved_at > ?",
        (utc_text(now), expiry(settings, now), utc_text(now + CLOCK_TOLERANCE)),
    )
    connection.ahead(_SELECT_HELD, (session.session_id, connection.person_id))


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
    key: JoinKey,
) -> None:
    """Hold back the tokens of a decision."""
    connection.execute(
        "INSERT INTO immunos_mcp_reservation (decision_id, session_id, tokens, reserved_at,"
        " expires_at, person_id, call, thread) VALUES (?, ?, ?, ?, ?, ?, ?, coalesce(CAST(? AS TEXT),"
        " (SELECT thread FROM immunos_mcp_routing_call WHERE call = ?)))",
        (
            decision_id,
            session.session_id,
            decision.reserved_tokens,
            utc_text(now),
            expires_at,
            connection.person_id,
            key.call,
            key.thread,
            key.call,
        ),
    )


def release(connection: Connection, decision_id: int) -> None:
    """Release a decision's reservation."""
    connection.execute("DELETE FROM immunos_mcp_reservation WHERE decision_id = ?", (decision_id,))


def release_reported(
    connection: Connection, decision_id: int, tokens: int, *, is_measured: bool
) -> None:
    """Release as many tokens as were reported for a decision, unless they will be measured as well."""
    connection.execute(
        "UPDATE immunos_mcp_reservation SET"
        " tokens = CASE WHEN tokens > :used THEN tokens - :used ELSE 0 END"
        " WHERE decision_id = :decision_id AND (:is_reported = 1 OR coalesce(call, thread) IS NULL)",
        {"used": tokens, "decision_id": decision_id, "is_reported": not is_measured},
    )


def release_used(
    connection: Connection,
    found: Identified,
    new: Collection[MeasuredUsage],
    settings: Settings,
) -> None:
    """Join reservations with the calls in responses, and release what new usage used of them."""
    providers = providers_of_usage(connection, {usage.model for usage in new}, settings)
    calling = [_measured(usage, 0) for usage in found.measured if usage.calls]
    for usage in new:
        if providers[usage.model] is not Provider.OLLAMA:
            before = found.known.get(usage.message_id)
            growth = usage.counts if before is None else usage.counts - before.counts
            calling.append(_measured(usage, budget_tokens(growth, settings)))
    _release_measured(connection, calling)


class _Measured(NamedTuple):
    """What a conversation or subagent used at a moment, as its client logged it.

    Attributes:
        thread: which one; ``None``: not known.
        tokens: budget tokens.
        calls: the calls of ``route_task`` that the response made.
    """

    thread: str | None
    at: datetime
    tokens: int
    calls: tuple[str, ...] = ()


def _measured(usage: MeasuredUsage, tokens: int) -> _Measured:
    return _Measured(usage.agent or usage.conversation, usage.at, tokens, usage.calls)


def _release_measured(connection: Connection, measured: Iterable[_Measured]) -> None:
    """Join reservations with whom they were made for, and release what these have used since.

    A response that asks for a decision is not part of the work that is decided on.
    """
    for each in sorted(measured, key=lambda each: each.at):
        if each.thread is None:
            continue
        for call in each.calls:
            _join(connection, call, each.thread, each.at)
        if each.tokens > 0 and not each.calls:
            _release_oldest(connection, each.thread, each.at, each.tokens)


def _join(connection: Connection, call: str, thread: str, at: datetime) -> None:
    joined = connection.execute(
        "UPDATE immunos_mcp_reservation SET thread = ? WHERE call = ?", (thread, call)
    )
    if joined.rowcount:
        return
    # The response may be read before its call is answered. A call that waits longer is not joined.
    connection.execute(
        "DELETE FROM immunos_mcp_routing_call WHERE seen_at < ?", (utc_text(at - LONGEST_CALL),)
    )
    connection.execute(
        "INSERT INTO immunos_mcp_routing_call (call, thread, seen_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (call, thread, utc_text(at)),
    )


def _release_oldest(connection: Connection, thread: str, at: datetime, tokens: int) -> None:
    rows = connection.execute(
        "SELECT decision_id, tokens FROM immunos_mcp_reservation"
        " WHERE thread = :thread AND reserved_at < :at AND expires_at > :at AND tokens > 0"
        " ORDER BY decision_id",
        {"thread": thread, "at": utc_text(at)},
    ).fetchall()
    for decision_id, held_tokens in rows:
        released = min(tokens, held_tokens)
        connection.execute(
            "UPDATE immunos_mcp_reservation SET tokens = tokens - ? WHERE decision_id = ?",
            (released, decision_id),
        )
        tokens -= released
        if not tokens:
            return
