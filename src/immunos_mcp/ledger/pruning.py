"""Retention: compacts rows older than some day into daily totals, so that every total stays exact.

Sessions and records have their own totals and stay, as does the history of the settings.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.answers.pruning import Pruned
from immunos_mcp.ledger import history
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.usage_groups import MEASURED_IN_BATCHES
from immunos_mcp.replay.engine import records_before

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.track_record import Evidence


LONGEST_RESPONSE = timedelta(days=1)
"""How much longer measured usage stays: a response is written over some time, and must still be known
when a later line of it turns up in a copy of its transcript."""

_USAGE_TOTALS = """
    INSERT INTO immunos_mcp_pruned_usage (day, provider, model, source, counted, input_tokens,
        output_tokens, cache_creation_input_tokens, cache_read_input_tokens, usage_records)
    SELECT substr({moment}, 1, 10), provider, model, {source}, {counted}, sum(input_tokens),
        sum(output_tokens), sum(cache_creation_input_tokens), sum(cache_read_input_tokens), {records}
    FROM {table} WHERE {is_old}
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (day, provider, model, source, counted) DO UPDATE SET
        input_tokens = immunos_mcp_pruned_usage.input_tokens + excluded.input_tokens,
        output_tokens = immunos_mcp_pruned_usage.output_tokens + excluded.output_tokens,
        cache_creation_input_tokens = immunos_mcp_pruned_usage.cache_creation_input_tokens
            + excluded.cache_creation_input_tokens,
        cache_read_input_tokens = immunos_mcp_pruned_usage.cache_read_input_tokens
            + excluded.cache_read_input_tokens,
        usage_records = immunos_mcp_pruned_usage.usage_records + excluded.usage_records
"""

_MEASURED = f"CASE WHEN service_tier = 'batch' THEN '{MEASURED_IN_BATCHES}' ELSE 'measured' END"
"""The source of measured usage in totals, which have no other place for what halves its price."""

_OLD_DECISIONS = """
    decision_id < :first
    AND decision_id NOT IN
        (SELECT decision_id FROM immunos_mcp_outcome WHERE after_decision_id >= :first)
    AND decision_id NOT IN
        (SELECT decision_id FROM immunos_mcp_usage WHERE decision_id IS NOT NULL)
"""


def prune(connection: Connection, before: datetime) -> Pruned:
    """Compact rows older than a midnight (UTC) into daily totals.

    The newest decision stays, so that no id is used twice, and so does everything needed to replay the
    remaining decisions: later outcomes, and the records before the first of them.
    """
    moment = utc_text(before)
    first = _first_decision(connection, moment)
    usage_records = _prune_usage(connection, before, first or 0)
    decisions = 0 if first is None else _prune_decisions(connection, first)
    connection.execute(
        "INSERT INTO immunos_mcp_pruning (pruning_id, before, first_decision_id) VALUES (1, ?, ?)"
        " ON CONFLICT (pruning_id) DO UPDATE SET"
        " before = CASE WHEN immunos_mcp_pruning.before > excluded.before"
        "  THEN immunos_mcp_pruning.before ELSE excluded.before END,"
        " first_decision_id = CASE"
        "  WHEN immunos_mcp_pruning.first_decision_id > excluded.first_decision_id"
        "  THEN immunos_mcp_pruning.first_decision_id ELSE excluded.first_decision_id END",
        (moment, first or 0),
    )
    return Pruned(before, decisions, usage_records)


def preview_prune(connection: Connection, before: datetime) -> Pruned:
    """Return what ``prune`` would do, without doing it; needs a transaction that may write."""
    connection.execute("SAVEPOINT preview")
    pruned = prune(connection, before)
    connection.execute("ROLLBACK TO preview")
    return replace(pruned, dry_run=True)


def _first_decision(connection: Connection, moment: str) -> int | None:
    """Return the first decision to keep: the first one recent enough, or the newest.

    It is never before that of an earlier pruning, whose older records are already compacted.
    """
    first, earlier = connection.execute(
        "SELECT coalesce("
        " (SELECT min(decision_id) FROM immunos_mcp_decision WHERE decided_at >= ?),"
        " (SELECT max(decision_id) FROM immunos_mcp_decision)),"
        " (SELECT coalesce(max(first_decision_id), 0) FROM immunos_mcp_pruning)",
        (moment,),
    ).fetchone()
    return None if first is None else max(int(first), int(earlier))


def _prune_usage(connection: Connection, before: datetime, first: int) -> int:
    moment = utc_text(before)
    # A decision that stays keeps its usage.
    of_old_decisions = f"recorded_at < ? AND (decision_id IS NULL OR decision_id < {first:d})"
    (open_since,) = connection.execute(
        "SELECT min(started_at) FROM immunos_mcp_session WHERE ended_at IS NULL"
    ).fetchone()
    measured = utc_text(before - LONGEST_RESPONSE)
    # The status of an open session still shows what only telemetry or a conversation's total reported.
    shown = min(moment, open_since or moment)
    connection.execute(
        "INSERT INTO immunos_mcp_pruned_request (external_id, counted)"  # noqa: S608  # a number
        " SELECT external_id, counted FROM immunos_mcp_usage"
        f" WHERE {of_old_decisions} AND external_id IS NOT NULL ON CONFLICT DO NOTHING",
        (moment,),
    )
    # What is left of these totals cannot be derived again.
    connection.execute(
        "UPDATE immunos_mcp_conversation_total SET is_partial = 2"
        " WHERE coalesce(first_at, total_at) < ?",
        (moment,),
    )
    pruned = 0
    for table, column, source, counted, is_old, oldest in (
        ("immunos_mcp_usage", "recorded_at", "source", "counted", of_old_decisions, moment),
        ("immunos_mcp_measured_usage", "measured_at", _MEASURED, "1", "measured_at < ?", measured),
        ("immunos_mcp_request_usage", "finished_at", "'telemetry'", "1", "finished_at < ?", shown),
        ("immunos_mcp_side_usage", "used_at", "'side'", "1", "used_at < ?", shown),
    ):
        totals = _USAGE_TOTALS.format(
            table=table,
            moment=column,
            source=source,
            counted=counted,
            is_old=is_old,
            # Rows that correct an earlier one are no records of their own.
            records="sum(is_first)" if source == "'side'" else "count(*)",
        )
        connection.execute(totals, (oldest,))
        pruned += connection.execute(
            f"DELETE FROM {table} WHERE {is_old}",  # noqa: S608  # constants and a number
            (oldest,),
        ).rowcount
    return pruned


def _prune_decisions(connection: Connection, first: int) -> int:
    known = records_before(history.history(connection, only=first))
    _keep_records(connection, known)
    connection.execute(
        "INSERT INTO immunos_mcp_pruned_decision"  # noqa: S608  # a constant
        " (day, reason, provider, model, changed_by, decisions, successes, failures)"
        " SELECT substr(decided_at, 1, 10), reason, provider, model, coalesce(changed_by, ''), count(*),"
        " count(*) FILTER (WHERE outcome = 'success'), count(*) FILTER (WHERE outcome = 'failure')"
        f" FROM immunos_mcp_decision WHERE {_OLD_DECISIONS} GROUP BY 1, 2, 3, 4, 5"
        " ON CONFLICT (day, reason, provider, model, changed_by) DO UPDATE SET"
        " decisions = immunos_mcp_pruned_decision.decisions + excluded.decisions,"
        " successes = immunos_mcp_pruned_decision.successes + excluded.successes,"
        " failures = immunos_mcp_pruned_decision.failures + excluded.failures",
        {"first": first},
    )
    # Without this index, every deleted row would cause a scan of all usage for references to it.
    connection.ensure_index("immunos_mcp_pruning_usage")
    pruned = connection.execute(
        f"DELETE FROM immunos_mcp_decision WHERE {_OLD_DECISIONS}",  # noqa: S608  # a constant
        {"first": first},
    ).rowcount
    connection.drop_index("immunos_mcp_pruning_usage")
    connection.execute(
        "DELETE FROM immunos_mcp_delegated_task WHERE decision_id NOT IN"
        " (SELECT decision_id FROM immunos_mcp_decision)"
    )
    connection.execute(
        "DELETE FROM immunos_mcp_outcome WHERE after_decision_id < ?",
        (first,),
    )
    return pruned


def _keep_records(connection: Connection, known: dict[tuple[str, str], Evidence]) -> None:
    connection.execute("DELETE FROM immunos_mcp_pruned_record")
    connection.executemany(
        "INSERT INTO immunos_mcp_pruned_record (task_type, model, faded_successes, faded_failures,"
        " newest_at, newest_succeeded, tried_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                task_type,
                model,
                evidence.successes,
                evidence.failures,
                None if evidence.at is None else utc_text(evidence.at),
                evidence.succeeded,
                None if evidence.tried_at is None else utc_text(evidence.tried_at),
            )
            for (task_type, model), evidence in known.items()
        ],
    )
