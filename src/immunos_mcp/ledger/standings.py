"""A session with all that belongs to it, as a status or a decision sees it.

Each function runs inside a transaction that its caller began, and ends none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.domain import PlanUsage, Reason, Session, Settings, TokenCounts
from immunos_mcp.ledger.measured_usage import side_request_tokens
from immunos_mcp.ledger.plan_limits import plan_usage
from immunos_mcp.ledger.sessions import current_session, decisions_by_reason
from immunos_mcp.ledger.stored_settings import effective_settings

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from immunos_mcp.domain import TaskRecord

_NO_TOKENS = TokenCounts()


class Standing(NamedTuple):
    """What an operation saw: the settings in force and a session, with what belongs to it.

    Attributes:
        plan: the subscription's limits; a decision sees them only where the settings look at them.
        side_requests: tokens of the session that telemetry alone reported; a status alone sees them.
        record: what is known of the models at a task's type, where the settings let a decision ask.
    """

    settings: Settings
    session: Session
    plan: tuple[PlanUsage, ...] = ()
    side_requests: TokenCounts = _NO_TOKENS
    record: TaskRecord | None = None


def standing(
    connection: sqlite3.Connection, name: str, now: datetime
) -> tuple[Standing, dict[Reason, int]]:
    """Return a session as it is, with its decisions by reason; nothing is opened or written."""
    settings = effective_settings(connection)
    session = current_session(connection, name, now, settings)
    plan, side_requests = plan_usage(connection, now), side_request_tokens(connection, session)
    seen = Standing(settings, session, plan, side_requests)
    return seen, decisions_by_reason(connection, session.session_id)
