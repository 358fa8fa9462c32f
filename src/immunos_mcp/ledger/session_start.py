"""Opens a session that counts from an earlier moment on.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from immunos_mcp.ledger.measured_usage import index_moments, measured_since, pruned_before
from immunos_mcp.ledger.moments import as_stored, moment_of
from immunos_mcp.ledger.sessions import (
    WINDOW_REASON,
    begin_session,
    close_session,
    current_session,
    find_open,
)
from immunos_mcp.ledger.stored_settings import effective_settings

if TYPE_CHECKING:
    from immunos_mcp.domain import Session
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings

_MOMENT = timedelta(milliseconds=1)
"""The precision of stored times."""


NEVER = datetime.min.replace(tzinfo=UTC)
_ALWAYS = datetime.max.replace(tzinfo=UTC)


def open_until(connection: Connection, name: str, now: datetime) -> datetime:
    """Return when the open session of a name ends by itself; ``NEVER``: none is open."""
    settings = effective_settings(connection)
    return _end(current_session(connection, name, now, settings), settings)


def _end(session: Session, settings: Settings) -> datetime:
    if session.started_at is None:
        return NEVER
    if not settings.session_window_minutes:
        return _ALWAYS
    return session.started_at + timedelta(minutes=settings.session_window_minutes)


def open_session(
    connection: Connection, name: str, now: datetime, since: datetime | None = None
) -> datetime:
    """Open a session unless one is open; return when it ends by itself.

    Args:
        connection: in a transaction.
        name: the session name.
        now: when it begins, unless it begins earlier.
        since: begin at this earlier time and count what was measured since, but nothing that an earlier
            session of the name may have counted. One whose window has passed ends where this begins. With
            a window, this is the newest of the windows since then.
    """
    settings = effective_settings(connection)
    current = current_session(connection, name, now, settings)
    if current.session_id is not None:
        return _end(current, settings)
    previous = find_open(connection, name)
    begins = now
    if since is not None:
        earliest = max([since, *_limits(connection, name, previous, settings)])
        begins = as_stored(min(now, _newest_window(earliest, now, settings)))
    if previous is not None:
        close_session(connection, previous, begins, WINDOW_REASON)
    begin_session(connection, name, begins)
    session = find_open(connection, name)
    assert session is not None
    if since is not None:
        _count_measured(connection, session, begins, settings)
    return _end(session, settings)


def _newest_window(earliest: datetime, now: datetime, settings: Settings) -> datetime:
    """Return when the current one of the windows that follow each other from a time on began."""
    if not settings.session_window_minutes:
        return earliest
    window = timedelta(minutes=settings.session_window_minutes)
    return earliest + max(0, (now - earliest) // window) * window


def _limits(
    connection: Connection, name: str, previous: Session | None, settings: Settings
) -> list[datetime]:
    """Return the times before which a new session of a name must not begin."""
    (ended_at,) = connection.execute(
        "SELECT max(ended_at) FROM immunos_mcp_session WHERE name = ?", (name,)
    ).fetchone()
    limits = [each for each in (moment_of(ended_at), pruned_before(connection)) if each is not None]
    if previous is not None and previous.started_at is not None:
        limits.append(previous.started_at + timedelta(minutes=settings.session_window_minutes))
        index_moments(connection)
        counted = [addition.at for addition in measured_since(connection, previous.started_at)]
        if counted:
            limits.append(max(counted) + _MOMENT)
    return limits


def _count_measured(
    connection: Connection, session: Session, begins: datetime, settings: Settings
) -> None:
    from immunos_mcp.ledger.totals import add_to_totals, counts_in  # once in a session

    additions = [
        addition
        for addition in measured_since(connection, begins)
        if counts_in(addition, session, None)
    ]
    if additions:
        add_to_totals(connection, session, additions, settings)
