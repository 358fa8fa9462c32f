"""Budget sessions: open, close, list them and bind them to folders.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from immunos_mcp.domain import Pace, Reason, Session, SessionRecord, TokenCounts
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.ledger.moments import CLOCK_TOLERANCE, moment_of, utc_text
from immunos_mcp.ledger.stored_settings import effective_settings

if TYPE_CHECKING:
    from immunos_mcp.answers.sessions import BindAnswer
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.settings import Settings


WINDOW_REASON = "session window"
"""Why a session was closed whose window had passed."""

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

_SELECT_REASONS = "SELECT reason, decisions FROM immunos_mcp_session_reason WHERE session_id = ?"


class Reset(Struct, frozen=True):
    """The closed session, if one was open, its number of decisions, and the id of the new session."""

    settings: Settings
    closed: Session | None
    closed_decisions: int
    session_id: int


def bind_session(connection: Connection, name: str, folder: str) -> None:
    """Make a session name count measured usage of one project folder only.

    This applies from the next session of that name, so that a total always means one thing.
    """
    connection.execute(
        "INSERT INTO immunos_mcp_binding (session_name, folder) VALUES (?, ?)"
        " ON CONFLICT (session_name) DO UPDATE SET folder = excluded.folder",
        (name, folder),
    )


def list_bindings(connection: Connection) -> tuple[BindAnswer, ...]:
    """Return which session names count one project folder only, by name."""
    from immunos_mcp.answers.sessions import BindAnswer

    rows = connection.execute(
        "SELECT session_name, folder FROM immunos_mcp_binding ORDER BY session_name"
    )
    return tuple(BindAnswer(name, folder) for name, folder in rows)


def remove_bindings(connection: Connection, name: str | None) -> tuple[BindAnswer, ...]:
    """Let a session name, or (``None``) each, count all projects from its next session on.

    Returns:
        The bindings that were removed.

    Raises:
        InvalidInputError: no session of this name is bound.
    """
    bound = list_bindings(connection)
    removed = tuple(each for each in bound if name is None or each.session == name)
    if name is not None and not removed:
        others = ", ".join(each.session for each in bound) or "none"
        message = f"session {name} is not bound to a project folder (bound: {others})"
        raise InvalidInputError(Problem("session", name, message=message))
    connection.execute(
        "DELETE FROM immunos_mcp_binding WHERE CAST(:name AS TEXT) IS NULL OR session_name = :name",
        {"name": name},
    )
    return removed


def reset_session(connection: Connection, name: str, now: datetime, reason: str | None) -> Reset:
    """Close the open session of a name, if there is one, and open a new one."""
    settings = effective_settings(connection)
    session = find_open(connection, name)
    closed_decisions = 0
    if session is not None:
        now = _not_before(session, now)
        closed_decisions = sum(decisions_by_reason(connection, session.session_id).values())
        close_session(connection, session, now, reason)
    return Reset(settings, session, closed_decisions, begin_session(connection, name, now))


class NewestSessions(Struct, frozen=True):
    """The newest sessions, newest first, and the current settings."""

    settings: Settings
    sessions: tuple[SessionRecord, ...]


def newest_sessions(connection: Connection, name: str | None, limit: int) -> NewestSessions:
    """Return the current settings and the newest sessions, of one name or all, newest first."""
    settings = effective_settings(connection)
    rows = connection.execute(
        f"SELECT {SESSION_COLUMNS}, ended_at, end_reason,"  # noqa: S608  # two constants
        " (SELECT coalesce(sum(decisions), 0) FROM immunos_mcp_session_reason AS reason"
        "  WHERE reason.session_id = immunos_mcp_session.session_id)"
        " FROM immunos_mcp_session WHERE CAST(:name AS TEXT) IS NULL OR name = :name"
        " ORDER BY session_id DESC LIMIT :most",
        {"name": name, "most": limit},
    )
    return NewestSessions(
        settings,
        tuple(
            SessionRecord(session_of(row[:-3]), row[-1], moment_of(row[-3]), row[-2])
            for row in rows
        ),
    )


class Revisions(Struct, frozen=True):
    """Figures to compare, to detect a change of a status or the settings.

    Attributes:
        settings: the current settings.
        sessions: by name of each open session, figures that change with its status.
    """

    settings: Settings
    sessions: dict[str, tuple[int, ...]]


def session_revisions(connection: Connection) -> Revisions:
    """Return the current settings and, for each open session, figures that change with its status."""
    settings = effective_settings(connection)
    rows = connection.execute(
        "SELECT name, session_id, usage_records, coalesce((SELECT sum(decisions)"
        "  FROM immunos_mcp_session_reason WHERE session_id = session.session_id), 0),"
        " claude_input_tokens, claude_output_tokens, claude_cache_creation_input_tokens,"
        " claude_cache_read_input_tokens, local_input_tokens + local_output_tokens"
        " FROM immunos_mcp_session AS session WHERE ended_at IS NULL ORDER BY session_id"
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


def look_ahead(connection: Connection, name: str) -> None:
    """Announce that the open session of a name is needed."""
    connection.ahead(_SELECT_OPEN_SESSION, (name,))


def find_open(connection: Connection, name: str) -> Session | None:
    """Return the open session of a name, however old it is."""
    row = connection.execute(_SELECT_OPEN_SESSION, (name,)).fetchone()
    return None if row is None else session_of(row)


def _is_past_window(session: Session, settings: Settings, now: datetime) -> bool:
    if not settings.session_window_minutes or session.started_at is None:
        return False
    return now - session.started_at >= timedelta(minutes=settings.session_window_minutes)


def begin_session(connection: Connection, name: str, started_at: datetime) -> int:
    """Add the open session of a name that has none; return its id."""
    return connection.added_id(
        "session_id",
        "INSERT INTO immunos_mcp_session (name, started_at, folder) VALUES (?, ?,"
        " (SELECT folder FROM immunos_mcp_binding WHERE session_name = ?))",
        (name, utc_text(started_at), name),
    )


def close_session(
    connection: Connection, session: Session, ended_at: datetime, reason: str | None
) -> None:
    """End an open session."""
    connection.execute(
        "UPDATE immunos_mcp_session SET ended_at = ?, end_reason = ? WHERE session_id = ?",
        (utc_text(ended_at), reason, session.session_id),
    )


def _not_before(session: Session, now: datetime) -> datetime:
    """Return when a session ends that is ended now: no response may fall in two sessions.

    Who waited for others, or has a clock that is a little late, may end one that began after ``now``.
    """
    began = session.started_at
    if began is not None and now < began <= now + CLOCK_TOLERANCE:
        return began
    return now


def current_session(
    connection: Connection, name: str, now: datetime, settings: Settings
) -> Session:
    """Return the current session of a name, without opening one."""
    session = find_open(connection, name)
    if session is None or _is_past_window(session, settings, now):
        return Session(None, name)
    return session


def opened_session(connection: Connection, name: str, now: datetime, settings: Settings) -> Session:
    """Return the open session of a name; open one if there is none or its window has passed."""
    session = find_open(connection, name)
    if session is not None and _is_past_window(session, settings, now):
        close_session(connection, session, now, WINDOW_REASON)
        session = None
    if session is None:
        begin_session(connection, name, now)
        session = find_open(connection, name)
        assert session is not None
    return session


def look_ahead_at_reasons(connection: Connection, session: Session) -> None:
    """Announce that ``decisions_by_reason`` is needed."""
    connection.ahead(_SELECT_REASONS, (session.session_id,))


def decisions_by_reason(connection: Connection, session_id: int | None) -> dict[Reason, int]:
    """Return the number of a session's decisions for each reason."""
    rows = connection.execute(_SELECT_REASONS, (session_id,))
    return {Reason(reason): count for reason, count in rows}
