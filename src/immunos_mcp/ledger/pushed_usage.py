"""Storing what a developer's own server pushes, as what is read from logs here is stored.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger.ingestion import ingest, ingest_requests
from immunos_mcp.ledger.measured_usage import index_moments
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.ledger.others_usage import (
    without_others_requests,
    without_others_responses,
    without_others_totals,
)
from immunos_mcp.ledger.pushing import note_pushing
from immunos_mcp.ledger.session_start import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.logged_usage import (
        ConversationTotal,
        MeasuredUsage,
        PlanReport,
        RequestUsage,
    )

ACTIVE = timedelta(hours=5)
"""How long ago work of now may have begun."""


class Pushed(NamedTuple):
    """What is pushed at once.

    Attributes:
        measured: responses that assistants logged.
        requests: requests that only telemetry reported.
        totals: conversations' totals.
        reports: what was reported of the subscription's limits.
        is_last: whether no more follows at once.
    """

    measured: Sequence[MeasuredUsage] = ()
    requests: Sequence[RequestUsage] = ()
    totals: Sequence[ConversationTotal] = ()
    reports: Sequence[PlanReport] = ()
    is_last: bool = True


class Stored(NamedTuple):
    """What became of pushed usage.

    Attributes:
        new: how many responses and requests were new or had grown.
        open_until: when the session ends by itself that was to be open; ``None``: none was.
    """

    new: int
    open_until: datetime | None


def store_pushed(
    connection: Connection,
    pushed: Pushed,
    person_id: int,
    assistants: Sequence[str],
    now: datetime,
    session: str | None = None,
) -> Stored:
    """Store what a person pushes, without what another person pushed first.

    From then on, what the assistants report of themselves for the person is not counted. ``session`` is
    opened, unless it is open, once no more follows; it counts what was used in the last hours.
    """
    note_pushing(connection, person_id, assistants, now)
    new = ingest(
        connection,
        without_others_responses(connection, pushed.measured),
        totals=without_others_totals(connection, pushed.totals),
        reports=pushed.reports,
        is_last=pushed.is_last,
    )
    if pushed.requests:
        new += ingest_requests(connection, without_others_requests(connection, pushed.requests))
    if session is None or not pushed.is_last:
        return Stored(new, None)
    return Stored(new, open_session(connection, session, now, _first_of_late(connection, now)))


def _first_of_late(connection: Connection, now: datetime) -> datetime:
    """Return when the first response was written, or request finished, that is of the work of now."""
    index_moments(connection)
    (first,) = connection.execute(
        "SELECT min(at) FROM (SELECT min(measured_at) AS at FROM immunos_mcp_measured_usage"
        "  WHERE measured_at >= :since UNION ALL SELECT min(finished_at)"
        "  FROM immunos_mcp_request_usage WHERE finished_at >= :since) AS late",
        {"since": utc_text(now - ACTIVE)},
    ).fetchone()
    return moment_of(first) or now
