"""Reads the log for a replay: every statement streams, so that a long log needs no memory."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from immunos_mcp.domain import Provider, TokenCounts
from immunos_mcp.ledger import engines, records, stored_settings
from immunos_mcp.ledger.decisions import newest_decisions
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.replay.history import (
    History,
    PastDecision,
    PastOutcome,
    PastSession,
    PastUsage,
    PastWork,
)
from immunos_mcp.rules import setting_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.track_record import Evidence


Result = TypeVar("Result")

BEYOND_ALL = 2**63 - 1
"""Larger than any decision id."""

_DECISION_COLUMNS = """
    decision_id, session_id, policy_id, engine_id, decided_at, task_type, classification,
    estimated_tokens, session_tokens, plan_used_percent, model, provider, changed_by, table_model,
    claude_input_tokens, claude_output_tokens, claude_cache_creation_input_tokens,
    claude_cache_read_input_tokens, budget_uses, held_tokens,
    follows, tried, folder, setting_folders
"""

_REPLAYED = (
    # What a team's server decided, it decided by what only that has.
    "team_decision_id IS NULL AND decision_id >= :from_decision AND decided_at >= :since"
    " AND (CAST(:only AS BIGINT) IS NULL OR decision_id = :only)"
    " AND (CAST(:name AS TEXT) IS NULL OR session_id IN"
    " (SELECT session_id FROM immunos_mcp_session WHERE name = :name))"
)


def replay(
    connection: Connection,
    work: Callable[[History], Result],
    name: str | None = None,
    since: datetime | None = None,
    newest: int | None = None,
    only: int | None = None,
) -> Result:
    """Run a pure function over the history; the other arguments are those of ``history``."""
    return work(history(connection, name, since, newest, only))


def history(
    connection: Connection,
    name: str | None = None,
    since: datetime | None = None,
    newest: int | None = None,
    only: int | None = None,
) -> History:
    """Return the history of one session name, or of all, to be read within the open transaction.

    Args:
        connection: in a transaction that stays open while the history is read.
        name: replay only decisions of this session name; outcomes of all sessions still count.
        since: replay only decisions from this time on.
        newest: replay at most this many decisions.
        only: replay only this decision.

    Raises:
        InvalidStoredSettingsError: the ledger holds settings that cannot be used.
    """
    wanted = _wanted(connection, name, since, newest, only)
    return History(
        current=stored_settings.effective_settings(connection),
        policies={
            policy_id: setting_changes.from_canonical(text)
            for policy_id, text in connection.execute(
                "SELECT policy_id, settings FROM immunos_mcp_policy"
            )
        },
        engines={
            engine_id: engines.engine_of(text)
            for engine_id, text in connection.execute(
                "SELECT engine_id, engine FROM immunos_mcp_engine"
            )
        },
        records=_pruned_records(connection),
        decisions=lambda: _decisions(connection, wanted),
        outcomes=lambda: _outcomes(connection),
        work=lambda: _work(connection),
        sessions=lambda: _sessions(connection, name, wanted.since),
        usage=lambda: _usage(connection),
        pruned_before=_pruned_before(connection),
    )


class _Wanted(NamedTuple):
    """Which decisions are replayed, as the parameters of ``_REPLAYED``.

    Attributes:
        first: the first decision whose details are complete (nothing was pruned).
        from_decision: the first decision to replay.
        since: the earliest time to replay from, as stored; empty: any.
        name: the session name; ``None``: all.
        only: the only decision to replay; ``None``: all.
    """

    first: int
    from_decision: int
    since: str
    name: str | None
    only: int | None


def _wanted(
    connection: Connection,
    name: str | None,
    since: datetime | None,
    newest: int | None,
    only: int | None,
) -> _Wanted:
    (first,) = connection.execute(
        "SELECT coalesce(max(first_decision_id), 0) FROM immunos_mcp_pruning"
    ).fetchone()
    from_decision = first
    if newest is not None:
        found = newest_decisions(connection, name, newest)
        from_decision = max(first, found[-1].decision_id) if found else BEYOND_ALL
    return _Wanted(first, from_decision, "" if since is None else utc_text(since), name, only)


def _decisions(connection: Connection, wanted: _Wanted) -> Iterable[PastDecision]:
    """Return the decisions to replay, and other trials in between, since each used up a turn."""
    rows = connection.stream(
        f"SELECT 1, {_DECISION_COLUMNS} FROM immunos_mcp_decision"  # noqa: S608  # constants
        f" WHERE {_REPLAYED}"
        f" UNION ALL SELECT 0, {_DECISION_COLUMNS} FROM immunos_mcp_decision"
        " WHERE team_decision_id IS NULL AND decision_id >= :first AND trial = 1"
        f" AND NOT ({_REPLAYED}) ORDER BY decision_id",
        wanted._asdict(),
    )
    return map(PastDecision._make, rows)


def _outcomes(connection: Connection) -> Iterable[PastOutcome]:
    rows = connection.stream(
        "SELECT after_decision_id, outcome.policy_id, outcome.model, task_type, decision.model,"
        " coalesce(outcome.outcome, decision.outcome), coalesce(known_at, closed_at), corrected_at"
        " FROM immunos_mcp_outcome AS outcome"
        " JOIN immunos_mcp_decision AS decision USING (decision_id) ORDER BY outcome_id"
    )
    return map(PastOutcome._make, rows)


def _pruned_before(connection: Connection) -> str | None:
    row = connection.execute("SELECT before FROM immunos_mcp_pruning").fetchone()
    return None if row is None else row[0]


def _pruned_records(connection: Connection) -> dict[tuple[str, str], Evidence]:
    rows = connection.execute(
        f"SELECT task_type, model, {records.EVIDENCE_COLUMNS} FROM immunos_mcp_pruned_record"  # noqa: S608  # a constant
    )
    return {(task_type, model): records.evidence(columns) for task_type, model, *columns in rows}


def _work(connection: Connection) -> Iterator[PastWork]:
    rows = connection.stream(
        "SELECT decision_id, provider, sum(input_tokens), sum(output_tokens),"
        " sum(cache_creation_input_tokens), sum(cache_read_input_tokens) FROM immunos_mcp_usage"
        " WHERE decision_id IS NOT NULL GROUP BY decision_id, provider ORDER BY decision_id"
    )
    for decision_id, parts in groupby(rows, itemgetter(0)):
        counts = {provider: TokenCounts(*kinds) for _, provider, *kinds in parts}
        yield PastWork(
            decision_id,
            counts.get(Provider.CLAUDE, TokenCounts()),
            counts.get(Provider.OLLAMA, TokenCounts()),
        )


def _sessions(connection: Connection, name: str | None, since: str) -> tuple[PastSession, ...]:
    rows = connection.execute(
        "SELECT session_id, name, started_at, ended_at, folder, claude_input_tokens,"
        " claude_output_tokens, claude_cache_creation_input_tokens, claude_cache_read_input_tokens"
        " FROM immunos_mcp_session WHERE (CAST(:name AS TEXT) IS NULL OR name = :name)"
        " AND (ended_at IS NULL OR ended_at >= :since) ORDER BY started_at, session_id",
        {"name": name, "since": since},
    )
    return tuple(
        PastSession(session_id, name, started_at, ended_at, folder, TokenCounts(*kinds))
        for session_id, name, started_at, ended_at, folder, *kinds in rows
    )


def _usage(connection: Connection) -> Iterable[PastUsage]:
    rows = connection.stream(
        "SELECT recorded_at AS at, session_id, NULL, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_usage"
        "  WHERE provider = 'claude' AND counted = 1"
        " UNION ALL SELECT measured_at, NULL, folder, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_measured_usage"
        "  WHERE provider = 'claude'"
        " UNION ALL SELECT finished_at, NULL, NULL, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_request_usage"
        "  WHERE provider = 'claude'"
        " UNION ALL SELECT used_at, NULL, folder, input_tokens, output_tokens,"
        " cache_creation_input_tokens, cache_read_input_tokens FROM immunos_mcp_side_usage"
        "  WHERE provider = 'claude'"
        " ORDER BY at"
    )
    return map(PastUsage._make, rows)
