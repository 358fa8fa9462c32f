"""The figures of a report, as one operation; SQLite does the adding, however long the log is.

Pruned usage is included: its totals are stored by day, and together with the remaining details they
add up to all usage ever recorded.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.answers.report import DecisionSum
from immunos_mcp.ledger.hand_overs import work_around_hand_overs
from immunos_mcp.ledger.measured_usage import pruned_before
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.overrides import NO_TEXTS, HookTexts, hook_texts
from immunos_mcp.ledger.sessions import newest_sessions
from immunos_mcp.ledger.usage_groups import USAGE, usage_groups, usage_of_sessions
from immunos_mcp.rules.net_savings import Work
from immunos_mcp.rules.track_record import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from immunos_mcp.domain import SessionRecord
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.usage_groups import UsageGroup
    from immunos_mcp.rules.list_prices import PricedUsage
    from immunos_mcp.rules.settings import Settings

REPORTED_SESSIONS = 20
REPORTED_RECORDS = 200
"""The most records in a report; each estimate takes a millisecond."""

_LONGEST_BY_HOURS = timedelta(days=2)
_HOUR_CHARACTERS, _DAY_CHARACTERS = len("2026-11-01T09"), len("2026-11-01")

_DECISIONS = """
    SELECT reason, provider, changed_by, 1 AS decisions,
        CASE WHEN outcome = 'success' THEN 1 ELSE 0 END AS successes,
        CASE WHEN outcome = 'failure' THEN 1 ELSE 0 END AS failures
    FROM immunos_mcp_decision WHERE decided_at >= :since
    UNION ALL
    SELECT reason, provider, nullif(changed_by, ''), decisions, successes, failures
    FROM immunos_mcp_pruned_decision WHERE day >= :day
"""


class StoredRecord(Struct, frozen=True):
    """The outcomes and work of one model at one task type, as stored."""

    task_type: str
    model: str
    successes: int
    failures: int
    tokens: int
    seconds: float
    evidence: Evidence


class ReportFigures(Struct, frozen=True):
    """The figures of a report, all from one snapshot.

    Attributes:
        settings: the current settings.
        is_hourly: whether the periods are hours (UTC); otherwise they are days.
        usage: all usage, in groups that are priced alike.
        decisions: one per reason, most decisions first.
        records: models at task types, most outcomes first.
        records_left_out: how many more records there are.
        priors: the evidence on each model at all task types together.
        sessions: newest first.
        session_usage: what counts towards the budget of each of these, by session id.
        hook_texts: what hooks said to models.
        work: what of Claude's work had to do with this server.
        people: the names of those who share the ledger, by id.
        pruned_before: the moment before which usage is only known by day; ``None``: none was pruned.
    """

    settings: Settings
    is_hourly: bool
    usage: tuple[UsageGroup, ...]
    decisions: tuple[DecisionSum, ...]
    records: tuple[StoredRecord, ...]
    records_left_out: int
    priors: Mapping[str, Evidence]
    sessions: tuple[SessionRecord, ...]
    session_usage: Mapping[int, Sequence[PricedUsage]] = MappingProxyType({})
    pruned_before: datetime | None = None
    hook_texts: HookTexts = NO_TEXTS
    work: Work = Work()
    people: Mapping[int, str] = MappingProxyType({})


def report_figures(
    connection: Connection, since: datetime | None, lengths: Sequence[int] = ()
) -> ReportFigures:
    """Return the figures of a report.

    Args:
        connection: in an open transaction.
        since: count details from this time on, and pruned days from its UTC day on; ``None``: all.
        lengths: more tokens of input than these make a response dearer, for some models.
    """
    text = "" if since is None else utc_text(since)
    span = {"since": text, "day": text[:_DAY_CHARACTERS]}
    is_hourly = _is_hourly(connection, span)
    records, left_out = _records(connection)
    newest = newest_sessions(connection, None, REPORTED_SESSIONS)
    sessions = tuple(
        session
        for session in newest.sessions
        if since is None or session.ended_at is None or session.ended_at >= since
    )
    ids = [record.session.session_id for record in sessions]
    numbers = [number for number in ids if number is not None]
    return ReportFigures(
        settings=newest.settings,
        is_hourly=is_hourly,
        usage=usage_groups(
            connection, span, _HOUR_CHARACTERS if is_hourly else _DAY_CHARACTERS, lengths
        ),
        decisions=_decisions(connection, span),
        records=records,
        records_left_out=left_out,
        priors=_priors(connection, {record.model for record in records}),
        sessions=sessions,
        session_usage=usage_of_sessions(connection, numbers, lengths),
        pruned_before=pruned_before(connection),
        hook_texts=hook_texts(connection, since),
        work=work_around_hand_overs(connection, text),
        people=_people(connection),
    )


class DailyUsage(Struct, frozen=True):
    """All usage, in groups of a day that are priced alike, and the names of people by id."""

    usage: tuple[UsageGroup, ...]
    people: Mapping[int, str]


def daily_usage(
    connection: Connection, since: datetime | None, lengths: Sequence[int] = ()
) -> DailyUsage:
    """Return usage by day; the arguments are those of ``report_figures``."""
    text = "" if since is None else utc_text(since)
    span = {"since": text, "day": text[:_DAY_CHARACTERS]}
    return DailyUsage(usage_groups(connection, span, _DAY_CHARACTERS, lengths), _people(connection))


def _people(connection: Connection) -> dict[int, str]:
    rows = connection.execute("SELECT person_id, name FROM immunos_mcp_person ORDER BY person_id")
    return dict(rows.fetchall())


def _is_hourly(connection: Connection, span: dict[str, str]) -> bool:
    first, last, fewest_characters = connection.execute(
        f"SELECT min(at), max(at), min(length(at)) FROM ({USAGE}) AS used",  # noqa: S608  # a constant
        span,
    ).fetchone()
    # Pruned usage has a day but no hour.
    if first is None or fewest_characters == _DAY_CHARACTERS:
        return False
    return datetime.fromisoformat(last) - datetime.fromisoformat(first) <= _LONGEST_BY_HOURS


def _decisions(connection: Connection, span: dict[str, str]) -> tuple[DecisionSum, ...]:
    rows = connection.execute(
        "SELECT reason, provider, sum(decisions), sum(successes), sum(failures), changed_by"  # noqa: S608  # a constant
        f" FROM ({_DECISIONS}) AS decided GROUP BY reason, provider, changed_by"
        " ORDER BY 3 DESC, reason, provider, coalesce(changed_by, '')",
        span,
    )
    return tuple(DecisionSum(*row) for row in rows)


def _records(connection: Connection) -> tuple[tuple[StoredRecord, ...], int]:
    (known,) = connection.execute(
        "SELECT count(*) FROM immunos_mcp_record WHERE task_type <> ''"
    ).fetchone()
    rows = connection.execute(
        "SELECT task_type, model, successes, failures, tokens, seconds, faded_successes,"
        " faded_failures, newest_at, newest_succeeded, tried_at FROM immunos_mcp_record"
        " WHERE task_type <> '' ORDER BY successes + failures DESC, task_type, model LIMIT ?",
        (REPORTED_RECORDS,),
    )
    records = tuple(
        StoredRecord(task_type, model, good, bad, tokens, seconds, _evidence(*evidence))
        for task_type, model, good, bad, tokens, seconds, *evidence in rows
    )
    return records, known - len(records)


def _priors(connection: Connection, models: set[str]) -> dict[str, Evidence]:
    rows = connection.execute(
        "SELECT model, faded_successes, faded_failures, newest_at, newest_succeeded, tried_at"
        " FROM immunos_mcp_record WHERE task_type = ''"
    )
    return {row[0]: _evidence(*row[1:]) for row in rows if row[0] in models}


def _evidence(
    successes: float,
    failures: float,
    newest_at: str | None,
    newest_succeeded: int,
    tried_at: str | None,
) -> Evidence:
    return Evidence(
        successes,
        failures,
        None if newest_at is None else datetime.fromisoformat(newest_at),
        bool(newest_succeeded),
        None if tried_at is None else datetime.fromisoformat(tried_at),
    )
