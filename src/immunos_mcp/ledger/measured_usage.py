"""Usage that the client itself recorded, in transcripts and telemetry.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import (
    Provider,
    Session,
    TokenCounts,
)
from immunos_mcp.ledger.moments import CLOCK_TOLERANCE, moment_of, utc_text
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.totals import Addition

_POSITION_COLUMNS = ", ".join(TranscriptPosition._fields)


class ReadingState(Struct, frozen=True):
    """From when usage matters, and how far each transcript has been read.

    Attributes:
        since: usage before this time belongs to no session; ``None``: there is no session yet.
        positions: how far each transcript has been read without leaving out anything since then, by path.
        is_ahead: whether an open session begins in the future, its pace does or the plan's limits were
            reported there, as after the clock was ahead.
    """

    since: datetime | None
    positions: dict[str, TranscriptPosition]
    is_ahead: bool = False


def reading_state(connection: Connection, now: datetime) -> ReadingState:
    """Return how far transcripts have been read, and back to when they matter: the oldest session that may grow.

    A closed session may still grow for a day, because responses can be written late.
    """
    (since,) = connection.execute(
        "SELECT min(started_at) FROM immunos_mcp_session WHERE ended_at IS NULL OR ended_at > ?",
        (utc_text(now - timedelta(days=1)),),
    ).fetchone()
    oldest = moment_of(since)
    # A reading that left out what a session opened later counts from earlier on starts again.
    rows = connection.execute(
        f"SELECT {_POSITION_COLUMNS} FROM immunos_mcp_transcript"  # noqa: S608  # a constant
        " WHERE CAST(:oldest AS TEXT) IS NULL OR left_out_before <= :oldest",
        {"oldest": None if oldest is None else oldest.isoformat()},
    )
    positions = {row[0]: TranscriptPosition._make(row) for row in rows}
    (is_ahead,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM immunos_mcp_session WHERE ended_at IS NULL"
        " AND (started_at > :ahead OR pace_at > :ahead))"
        " OR EXISTS (SELECT 1 FROM immunos_mcp_plan_usage WHERE reported_at > :ahead)"
        " OR EXISTS (SELECT 1 FROM immunos_mcp_person_plan_usage WHERE reported_at > :ahead)",
        {"ahead": utc_text(now + CLOCK_TOLERANCE)},
    ).fetchone()
    return ReadingState(oldest, positions, bool(is_ahead))


def forget_future(connection: Connection, now: datetime) -> None:
    """Let open sessions that begin in the future begin now, since the clock was ahead when they began.

    What was left out because of such a session is read again. What a plan reported then is unknown, since no
    later report would be newer.
    """
    ahead = utc_text(now + CLOCK_TOLERANCE)
    connection.execute(
        "UPDATE immunos_mcp_session SET started_at = ? WHERE ended_at IS NULL AND started_at > ?",
        (utc_text(now), ahead),
    )
    connection.execute(
        "UPDATE immunos_mcp_session SET pace_tokens = 0, pace_at = NULL"
        " WHERE ended_at IS NULL AND pace_at > ?",
        (ahead,),
    )
    for table in ("immunos_mcp_plan_usage", "immunos_mcp_person_plan_usage"):
        connection.execute(f"DELETE FROM {table} WHERE reported_at > ?", (ahead,))  # noqa: S608  # constants
    connection.execute("DELETE FROM immunos_mcp_transcript WHERE left_out_before > ?", (ahead,))


def pruned_before(connection: Connection) -> datetime | None:
    """Return the time before which usage is ignored because it was pruned into totals."""
    row = connection.execute("SELECT before FROM immunos_mcp_pruning").fetchone()
    return None if row is None else datetime.fromisoformat(row[0])


def index_moments(connection: Connection) -> None:
    """Make measured usage findable by time, where that is looked for at each end of a session's window."""
    connection.ensure_index("immunos_mcp_measured_usage_moment")


def measured_since(connection: Connection, since: datetime) -> Iterator[Addition]:
    """Return the stored usage from a time on that sessions have a total of."""
    from immunos_mcp.ledger.totals import Addition  # once in a session

    rows = connection.execute(
        "SELECT measured_at, provider, folder, 1, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens"
        " FROM immunos_mcp_measured_usage WHERE measured_at >= :since"
        "  AND (provider = 'claude' OR provider = 'ollama' AND assistant = 'claude-code')"
        " UNION ALL SELECT finished_at, provider, NULL, 1, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens"
        " FROM immunos_mcp_request_usage WHERE finished_at >= :since AND provider <> 'hosted'"
        " UNION ALL SELECT used_at, provider, folder, is_first, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens"
        " FROM immunos_mcp_side_usage WHERE used_at >= :since AND provider <> 'hosted'",
        {"since": utc_text(since)},
    )
    for at, provider, folder, records, *kinds in rows:
        moment = datetime.fromisoformat(at)
        counts = TokenCounts(*kinds)
        yield Addition(
            counts, Provider(provider), moment, folder, is_measured=True, records=records
        )


_SELECT_SIDE_TOKENS = """
    SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
        coalesce(sum(cache_creation_input_tokens), 0), coalesce(sum(cache_read_input_tokens), 0)
    FROM (SELECT input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens
            FROM immunos_mcp_request_usage
            WHERE finished_at >= :since AND provider = 'claude' AND CAST(:folder AS TEXT) IS NULL
        UNION ALL
        SELECT input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens
            FROM immunos_mcp_side_usage
            WHERE used_at >= :since AND provider = 'claude'
                AND (CAST(:folder AS TEXT) IS NULL OR folder = :folder
                    OR substr(folder, 1, length(:folder) + 1) = :folder || '/')) AS side
"""


def _in_session(session: Session) -> dict[str, str | None]:
    assert session.started_at is not None
    return {"since": utc_text(session.started_at), "folder": session.folder}


def look_ahead(connection: Connection, session: Session) -> None:
    """Announce that ``side_request_tokens`` is needed."""
    if session.started_at is not None:
        connection.ahead(_SELECT_SIDE_TOKENS, _in_session(session))


def side_request_tokens(connection: Connection, session: Session) -> TokenCounts:
    """Return the tokens of a session that no response has: from telemetry and conversations' totals."""
    if session.started_at is None:
        return TokenCounts()
    row = connection.execute(_SELECT_SIDE_TOKENS, _in_session(session)).fetchone()
    return TokenCounts(*row)


def unread_lines(connection: Connection) -> int:
    """Return the number of transcript lines with usage that could not be read."""
    (lines,) = connection.execute(
        "SELECT coalesce(sum(unread_lines), 0) FROM immunos_mcp_transcript WHERE unread_lines > 0"
    ).fetchone()
    return int(lines)
