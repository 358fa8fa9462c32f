"""The subscription's limits as last reported.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from immunos_mcp.domain import PlanUsage
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.ledger.dialect import Connection


_SELECT_CURRENT = (
    "SELECT plan_window, used_percentage, resets_at FROM immunos_mcp_plan_usage"
    " WHERE resets_at > ? ORDER BY plan_window"
)


def record_plan_usage(connection: Connection, plan: Sequence[PlanUsage], now: datetime) -> None:
    """Store the subscription's limits as reported; one that is older or repeated writes nothing."""
    connection.executemany(
        "INSERT INTO immunos_mcp_plan_usage (plan_window, used_percentage, resets_at, reported_at)"
        " VALUES (?, ?, ?, ?) ON CONFLICT (plan_window) DO UPDATE SET"
        " used_percentage = excluded.used_percentage, resets_at = excluded.resets_at,"
        " reported_at = excluded.reported_at"
        " WHERE (immunos_mcp_plan_usage.used_percentage <> excluded.used_percentage"
        "  OR immunos_mcp_plan_usage.resets_at <> excluded.resets_at)"
        "  AND immunos_mcp_plan_usage.reported_at <= excluded.reported_at",
        [
            (usage.window, usage.used_percentage, utc_text(usage.resets_at), utc_text(now))
            for usage in plan
        ],
    )


def look_ahead(connection: Connection, now: datetime) -> None:
    """Announce that ``plan_usage`` is needed."""
    connection.ahead(_SELECT_CURRENT, (utc_text(now),))


def plan_usage(connection: Connection, now: datetime) -> tuple[PlanUsage, ...]:
    """Return the subscription's limits as last reported, without expired windows."""
    rows = connection.execute(_SELECT_CURRENT, (utc_text(now),))
    return tuple(
        PlanUsage(window, used_percentage, datetime.fromisoformat(resets_at))
        for window, used_percentage, resets_at in rows
    )
