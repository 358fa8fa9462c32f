"""Budget sessions: opened, closed, bound to folders, listed.

Each function runs inside a transaction that its caller began, and ends none.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from immunos_mcp.domain import Pace, Reason, Session, SessionRecord, TokenCounts
from immunos_mcp.ledger.moments import moment_of, utc_text
from immunos_mcp.ledger.stored_settings import effective_settings

if TYPE_CHECKING:
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings


WINDOW_REASON = "session window"
"""What a session that outlived its window was closed for."""

SESSION_COLUMNS = """
    session_id, name, started_at,
    claude_input_tokens, claude_output_tokens,
    claude_cache_creation_input_tokens, claude_cache_read_input_tokens,
    local_input_tokens, local_output_tokens,
    local_cache_creation_input_tokens, local_cache_read_input_tokens,
    measured_input_tokens, measured_output_tokens,
    measured_cache_creation_input_tokens, measured_cache_read_input_tokens,
    usage_records, pace_tokens, pace_at, folder
"""

_SELECT_OPEN_SESSION = (
    f"SELECT {SESSION_COLUMNS} FROM immunos_mcp_session WHERE name = ? AND ended_at IS NULL"  # noqa: S608  # two constants
)


class Reset(Struct, frozen=True):
    """The session that was closed, if one was open, with its decisions, and the next one's id."""

    settings: Settings
    closed: Session | None
    closed_decisions: int
    session_id: int


def open_session(connection: Connection, name: str, now: datetime) -> None:
    """Open a session under a name unless one is open."""
    opened_session(connection, name, now, effective_settings(connection))


def bind_session(connection: Connection, name: str, folder: str | None) -> None:
    """Let a session name count one project folder's measured usage alone, or (``None``) all again.

    It holds from the name's next session on, so that every session's total means one thing.
    """
    if folder is None:
        connection.execute("DELETE FROM immunos_mcp_binding WHERE session_name = ?", (name,))
    else:
        connection.execute(
            "INSERT INTO immunos_mcp_binding (session_name, folder) VALUES (?, ?)"
            " ON CONFLICT (session_name) DO UPDATE SET folder = excluded.folder",
            (name, folder),
        )


def reset_session(connection: Connection, name: str, now: datetime, reason: str | None) -> Reset:
    """Close the open session of a name, if there is one, and open the next."""
    settings = effective_settings(connection)
    session = find_open(connection, name)
    closed_decisions = 0
    if session is not None:
        closed_decisions = sum(decisions_by_reason(connection, session.session_id).values())
        _close(connection, session, now, reason)
    return Reset(settings, session, closed_decisions, _begin(connection, name, now))


class NewestSessions(Struct, frozen=True):
    """The newest sessions, newest first, and the settings in force."""

    settings: Settings
    sessions: tuple[SessionRecord, ...]


def newest_sessions(connection: Connection, name: str | None, limit: int) -> NewestSessions:
    """Return the settings in force and the newest sessions of a name, or of all, newest first."""
    settings = effective_settings(connection)
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS}, ended_at, end_reason,"  # noqa: S608  # two constants
        " (SELECT coalesce(sum(decisions), 0) FROM immunos_mcp_session_reason AS reason"
        "  WHERE reason.session_id = immunos_mcp_session.session_id)"
        " FROM immunos_mcp_session WHERE ?1 IS NULL OR name = ?1"
        " ORDER BY session_id DESC LIMIT ?2",
        (name, limit),
    )
    return NewestSessions(
        settings,
        tuple(
            SessionRecord(session_of(row[:-3]), row[-1], moment_of(row[-3]), row[-2])
            for row in rows
        ),
    )


class Revisions(Struct, frozen=True):
    """What tells whether a status or the settings changed.

    Attributes:
        settings: those in force.
        sessions: for each open session's name, figures that change with its status.
    """

    settings: Settings
    sessions: dict[str, tuple[int, ...]]


def session_revisions(connection: Connection) -> Revisions:
    """Return the settings and, for each open session, figures that change with its status."""
    settings = effective_settings(connection)
    rows = connection.execute(
        "SELECT name, session.session_id, usage_records, coalesce(sum(decisions), 0),"
        " claude_input_tokens, claude_output_tokens, claude_cache_creation_input_tokens,"
        " claude_cache_read_input_tokens, local_input_tokens + local_output_tokens"
        " FROM immunos_mcp_session AS session"
        " LEFT JOIN immunos_mcp_session_reason USING (session_id)"
        " WHERE ended_at IS NULL GROUP BY session.session_id"
    )
    return Revisions(settings, {name: tuple(figures) for name, *figures in rows})


def session_of(row: tuple[Any, ...]) -> Session:
    """Build a session from a row of ``SESSION_COLUMNS``."""
    (session_id, name, started_at, *counts, usage_records, pace_tokens, pace_at, folder) = row
    return Session(
        session_id,
        name,
        datetime.fromisoformat(started_at),
        TokenCounts(*counts[:4]),
        TokenCounts(*counts[4:8]),
        Pace(pace_tokens, moment_of(pace_at)),
        usage_records,
        TokenCounts(*counts[8:]),
        folder,
    )


def find_open(connection: Connection, name: str) -> Session | None:
    """Return the open session of a name, however old it is."""
    row = connection.execute(_SELECT_OPEN_SESSION, (name,)).fetchone()
    return None if row is None else session_of(row)


def _outlived(session: Session, settings: Settings, now: datetime) -> bool:
    if not settings.session_window_minutes or session.started_at is None:
        return False
    return now - session.started_at >= timedelta(minutes=settings.session_window_minutes)


def _begin(connection: Connection, name: str, now: datetime) -> int:
    session_id = connection.execute(
        "INSERT INTO immunos_mcp_session (name, started_at, folder) VALUES (?1, ?2,"
        " (SELECT folder FROM immunos_mcp_binding WHERE session_name = ?1))",
        (name, utc_text(now)),
    ).lastrowid
    assert session_id is not None
    return session_id


def _close(connection: Connection, session: Session, now: datetime, reason: str | None) -> None:
    connection.execute(
        "UPDATE immunos_mcp_session SET ended_at = ?, end_reason = ? WHERE session_id = ?",
        (utc_text(now), reason, session.session_id),
    )


def current_session(
    connection: Connection, name: str, now: datetime, settings: Settings
) -> Session:
    """Return the session of a name as it stands, without opening one."""
    session = find_open(connection, name)
    if session is None or _outlived(session, settings, now):
        return Session(None, name)
    return session


def opened_session(connection: Connection, name: str, now: datetime, settings: Settings) -> Session:
    """Return the session of a name, opened now if none is or the last one has outlived its window."""
    session = find_open(connection, name)
    if session is not None and _outlived(session, settings, now):
        _close(connection, session, now, WINDOW_REASON)
        session = None
    if session is None:
        _begin(connection, name, now)
        session = find_open(connection, name)
        assert session is not None
    return session


def decisions_by_reason(connection: Connection, session_id: int | None) -> dict[Reason, int]:
    """Return how many decisions of a session each reason accounts for."""
    rows = connection.execute(
        "SELECT reason, decisions FROM immunos_mcp_session_reason WHERE session_id = ?",
        (session_id,),
    )
    return {Reason(reason): count for reason, count in rows}
