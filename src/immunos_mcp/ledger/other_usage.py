"""What assistants other than Claude Code used in each hour, so that a status need not add up their responses.

Triggers keep it, whoever stores, changes or removes a response. Each function runs inside its caller's
transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.domain import TokenCounts
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.domain import Session
    from immunos_mcp.ledger.dialect import Connection

TABLE = "immunos_mcp_other_usage"

_KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_SUMMED = (*_KINDS, "responses")


def _by_assistant(condition: str) -> str:
    """Return the statement that sums up by assistant, of places that fulfil a condition."""
    kinds = ", ".join(f"sum({name}) AS {name}" for name in _KINDS)
    # Summed up in two steps, since most rows are of whole hours.
    return f"""
        SELECT assistant, {kinds}, sum(responses) FROM (
            SELECT assistant, {kinds}, sum(responses) AS responses FROM {TABLE}
            WHERE hour_at >= :hour AND {condition} GROUP BY assistant
            UNION ALL
            SELECT assistant, {kinds}, count(*) FROM immunos_mcp_measured_usage
            WHERE assistant <> 'claude-code' AND measured_at >= :since AND measured_at < :hour
                AND {condition} GROUP BY assistant
        ) AS used GROUP BY assistant HAVING sum(responses) > 0 ORDER BY assistant
    """  # noqa: S608  # constants


_EVERYWHERE = _by_assistant("true")
_IN_FOLDER = _by_assistant(
    "(folder = :folder OR substr(folder, 1, length(:folder) + 1) = :folder || '/')"
)


def look_ahead(connection: Connection, session: Session) -> None:
    """Announce that ``tokens_of_others`` is needed."""
    if session.started_at is not None:
        connection.ahead(*_query(session, session.started_at))


def tokens_of_others(connection: Connection, session: Session) -> dict[str, TokenCounts]:
    """Return what assistants other than Claude Code used since a session began, in its folder if it has one."""
    if session.started_at is None:
        return {}
    rows = connection.execute(*_query(session, session.started_at))
    return {assistant: TokenCounts(*kinds) for assistant, *kinds, _ in rows}


def _query(session: Session, started_at: datetime) -> tuple[str, dict[str, str]]:
    span = {"since": utc_text(started_at), "hour": utc_text(_next_hour(started_at))}
    if session.folder is None:
        return _EVERYWHERE, span
    return _IN_FOLDER, {**span, "folder": session.folder}


def _next_hour(moment: datetime) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if hour == moment else hour + timedelta(hours=1)


class RowTrigger(Struct, frozen=True):
    """What happens after each row of measured usage that is another assistant's.

    Attributes:
        event: insert, update or delete.
        row: the row that tells whose it is.
        statements: what is run.
    """

    event: str
    row: str
    statements: tuple[str, ...]


def triggers(key: str) -> Iterator[RowTrigger]:
    """Return the triggers that keep the sums; ``key`` is what a sum is unique by."""
    yield RowTrigger("insert", "new", (_addition("new", "", key),))
    yield RowTrigger("update", "new", (_addition("old", "-", key), _addition("new", "", key)))
    yield RowTrigger("delete", "old", (_addition("old", "-", key),))


def making() -> tuple[str, ...]:
    """Return the statements that make the sums in a file, as a step of the schema: they must not change."""
    return (
        """
    CREATE TABLE immunos_mcp_other_usage (
        -- What assistants other than Claude Code used in each hour; triggers keep it.
        hour_at TEXT NOT NULL,        -- UTC, ISO 8601
        assistant TEXT NOT NULL,
        folder TEXT NOT NULL,         -- project folder; empty: not known
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cache_creation_input_tokens INTEGER NOT NULL,
        cache_read_input_tokens INTEGER NOT NULL,
        responses INTEGER NOT NULL,
        PRIMARY KEY (hour_at, assistant, folder)
    ) STRICT, WITHOUT ROWID
    """,
        filling(),
        *(
            f"CREATE TRIGGER {TABLE}_{each.event} AFTER {each.event} ON immunos_mcp_measured_usage"
            f" WHEN {each.row}.assistant <> 'claude-code' BEGIN {'; '.join(each.statements)}; END"
            for each in triggers("hour_at, assistant, folder")
        ),
    )


def _addition(row: str, sign: str, key: str) -> str:
    amounts = ", ".join(f"{sign}{row}.{name}" for name in _KINDS)
    growth = ", ".join(f"{name} = {TABLE}.{name} + excluded.{name}" for name in _SUMMED)
    return (
        f"INSERT INTO {TABLE} (hour_at, assistant, folder, {', '.join(_SUMMED)})"  # noqa: S608  # constants
        f" VALUES ({hour_of(f'{row}.measured_at')}, {row}.assistant, coalesce({row}.folder, ''),"
        f" {amounts}, {sign}1) ON CONFLICT ({key}) DO UPDATE SET {growth}"
    )


def hour_of(moment: str) -> str:
    """Return the expression of the hour that a stored time belongs to."""
    return f"substr({moment}, 1, 13) || ':00:00.000Z'"


def filling(team: str = "") -> str:
    """Return the statement that sums up what is stored; ``team`` is a column before the others, with a comma."""
    kinds, sums = ", ".join(_KINDS), ", ".join(f"sum({name})" for name in _KINDS)
    return (
        f"INSERT INTO {TABLE} ({team}hour_at, assistant, folder, {kinds}, responses)"  # noqa: S608  # constants
        f" SELECT {team}{hour_of('measured_at')}, assistant, coalesce(folder, ''), {sums}, count(*)"
        " FROM immunos_mcp_measured_usage WHERE assistant <> 'claude-code'"
        f" GROUP BY {team}{hour_of('measured_at')}, assistant, coalesce(folder, '')"
    )
