"""The subscription's limits as last reported.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import PlanUsage
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.ledger.dialect import Connection


def record_plan_usage(connection: Connection, plan: Sequence[PlanUsage], now: datetime) -> None:
    """Store the subscription's limits as reported; one that is older or repeated writes nothing.

    Each person who shares the ledger has a subscription of their own.
    """
    person_id = connection.person_id
    table = _ONE if person_id is None else _BY_PERSON
    key, values = table.key, () if person_id is None else (person_id,)
    connection.executemany(
        f"INSERT INTO {table.name} ({', '.join(key)}, used_percentage, resets_at, reported_at)"  # noqa: S608  # constants
        f" VALUES ({', '.join('?' * len(key))}, ?, ?, ?) ON CONFLICT ({', '.join(key)}) DO UPDATE SET"
        " used_percentage = excluded.used_percentage, resets_at = excluded.resets_at,"
        " reported_at = excluded.reported_at"
        f" WHERE ({table.name}.used_percentage <> excluded.used_percentage"
        f"  OR {table.name}.resets_at <> excluded.resets_at)"
        f"  AND {table.name}.reported_at <= excluded.reported_at",
        [
            (*values, usage.window, usage.used_percentage, utc_text(usage.resets_at), utc_text(now))
            for usage in plan
        ],
    )


class _Table(Struct, frozen=True):
    """Where reports are stored, and by what."""

    name: str
    key: tuple[str, ...]


_ONE = _Table("immunos_mcp_plan_usage", ("plan_window",))
_BY_PERSON = _Table("immunos_mcp_person_plan_usage", ("person_id", "plan_window"))


_SELECT_ONE = (
    "SELECT plan_window, used_percentage, resets_at FROM immunos_mcp_plan_usage"
    " ORDER BY plan_window"
)
_SELECT_PERSON_S = (
    "SELECT plan_window, used_percentage, resets_at FROM immunos_mcp_person_plan_usage"
    " WHERE person_id = ? ORDER BY plan_window"
)


def look_ahead(connection: Connection) -> None:
    """Announce that ``plan_usage`` is needed."""
    if connection.person_id is None:
        connection.ahead(_SELECT_ONE)
    else:
        connection.ahead(_SELECT_PERSON_S, (connection.person_id,))


def last_reported(connection: Connection, person_id: int | None) -> list[PlanUsage]:
    """Return what was last reported of a person's plan, or (``None``) of the one of nobody in particular."""
    if person_id is None:
        rows = connection.execute(_SELECT_ONE)
    else:
        rows = connection.execute(_SELECT_PERSON_S, (person_id,))
    return [PlanUsage(window, used, datetime.fromisoformat(at)) for window, used, at in rows]


def plan_usage(connection: Connection, now: datetime) -> tuple[PlanUsage, ...]:
    """Return the limits of who acts as last reported, without expired windows."""
    reported = last_reported(connection, connection.person_id)
    return tuple(each for each in reported if each.resets_at > now)
