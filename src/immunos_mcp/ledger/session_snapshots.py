"""A session with everything that a status shows.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.ledger import (
    measured_usage,
    other_usage,
    overrides,
    plan_limits,
    sessions,
    stored_settings,
)
from immunos_mcp.ledger.measured_usage import side_request_tokens
from immunos_mcp.ledger.other_usage import tokens_of_others
from immunos_mcp.ledger.overrides import read_overrides
from immunos_mcp.ledger.plan_limits import plan_usage
from immunos_mcp.ledger.sessions import current_session, decisions_by_reason
from immunos_mcp.ledger.stored_settings import settings_in_force
from immunos_mcp.rules.circumstances import SessionSnapshot

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.domain import Session
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.budgets import BudgetUse
    from immunos_mcp.rules.settings import Settings


def session_snapshot(
    connection: Connection, name: str, now: datetime, places: tuple[str, ...] = ()
) -> SessionSnapshot:
    """Return a snapshot of a session without opening or writing anything.

    ``places`` are the folders that it is looked at from, whose settings hold.
    """
    standing = standing_snapshot(connection, name, now, places)
    session = standing.session
    if connection.is_remote:
        measured_usage.look_ahead(connection, session)
        other_usage.look_ahead(connection, session)
        sessions.look_ahead_at_reasons(connection, session)
    return replace(
        standing,
        side_requests=side_request_tokens(connection, session),
        others=tokens_of_others(connection, session),
        decisions=decisions_by_reason(connection, session.session_id),
    )


def standing_snapshot(
    connection: Connection, name: str, now: datetime, places: tuple[str, ...] = ()
) -> SessionSnapshot:
    """Return the part of a snapshot that levels follow from, which takes the same time in any history."""
    if connection.is_remote:
        stored_settings.look_ahead(connection)
        sessions.look_ahead(connection, name)
        plan_limits.look_ahead(connection)
        overrides.look_ahead(connection, now)
    everywhere = settings_in_force(connection)
    session = current_session(connection, name, now, everywhere.settings)
    in_force = everywhere.at(*places, session.folder)
    settings = in_force.settings
    return SessionSnapshot(
        settings,
        session,
        plan=plan_usage(connection, now),
        budgets=_budget_uses(connection, settings, session, now) if settings.budgets else (),
        overrides=read_overrides(connection, now),
        origins=in_force.origins,
    )


def _budget_uses(
    connection: Connection, settings: Settings, session: Session, now: datetime
) -> tuple[BudgetUse, ...]:
    from immunos_mcp.ledger.budget_uses import read_budget_uses  # most sessions have no budgets

    return read_budget_uses(connection, settings, session, now)
