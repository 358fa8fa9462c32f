"""Usage in groups of responses that are priced alike; SQLite does the adding, however long the log is.

Pruned usage is included: its totals are stored by day, without what prices depend on beside the tokens.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from immunos_mcp.domain import Provider, TokenCounts
from immunos_mcp.ledger.dialect import IN_NUMBERS, list_parameter
from immunos_mcp.rules.list_prices import PRUNED, PRUNED_BATCH, PricedUsage

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from immunos_mcp.ledger.dialect import Connection

_KINDS = "input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens"

MEASURED_IN_BATCHES = "measured, batch"
"""The source of measured usage in totals of pruned usage, if its service tier was ``batch``."""

USAGE = f"""
    SELECT recorded_at AS at, provider, model, source, {_KINDS}, 1 AS usage_records,
        NULL AS assistant, NULL AS folder, NULL AS speed, NULL AS service_tier, NULL AS region,
        NULL AS web_searches, NULL AS cache_1h_input_tokens, person_id
    FROM immunos_mcp_usage WHERE recorded_at >= :since AND (counted = 1 OR provider = 'ollama')
    UNION ALL
    SELECT measured_at, provider, model, 'measured', {_KINDS}, 1,
        assistant, folder, speed, service_tier, region, web_searches, cache_1h_input_tokens,
        person_id
    FROM immunos_mcp_measured_usage WHERE measured_at >= :since
    UNION ALL
    SELECT finished_at, provider, model, 'telemetry', {_KINDS}, 1,
        'claude-code', NULL, NULL, NULL, NULL, NULL, NULL, person_id
    FROM immunos_mcp_request_usage WHERE finished_at >= :since
    UNION ALL
    SELECT used_at, provider, model, 'side', {_KINDS}, is_first,
        'claude-code', folder, NULL, NULL, NULL, web_searches, cache_1h_input_tokens, person_id
    FROM immunos_mcp_side_usage WHERE used_at >= :since
    UNION ALL
    SELECT day, provider, model,
        CASE WHEN source = '{MEASURED_IN_BATCHES}' THEN 'measured' ELSE source END,
        {_KINDS}, usage_records, NULL, NULL, NULL,
        CASE WHEN source = '{MEASURED_IN_BATCHES}' THEN '{PRUNED_BATCH}' ELSE '{PRUNED}' END,
        NULL, NULL, NULL, NULL
    FROM immunos_mcp_pruned_usage WHERE day >= :day AND (counted = 1 OR provider = 'ollama')
"""  # noqa: S608  # constants
"""All usage from a moment (``:since``) on, and all that was pruned from its day (``:day``) on."""

_SUMS = f"""
    speed, service_tier, region, CASE WHEN service_tier IN ('{PRUNED}', '{PRUNED_BATCH}') THEN 0 ELSE {{length}} END AS length,
    sum(input_tokens), sum(output_tokens), sum(cache_creation_input_tokens),
    sum(cache_read_input_tokens), sum(usage_records),
    coalesce(sum(cache_1h_input_tokens), 0), coalesce(sum(web_searches), 0),
    coalesce(sum(CASE WHEN cache_1h_input_tokens IS NULL AND cache_creation_input_tokens > 0
        THEN usage_records END), 0)
"""

_OF_SESSIONS = f"""
    WITH chosen AS MATERIALIZED (
        SELECT session_id, started_at, ended_at, folder AS bound FROM immunos_mcp_session
        WHERE session_id {IN_NUMBERS}
    ), used AS (
        SELECT session_id, recorded_at AS at, model, {_KINDS}, 1 AS usage_records, NULL AS speed,
            NULL AS service_tier, NULL AS region, NULL AS web_searches,
            NULL AS cache_1h_input_tokens
        FROM immunos_mcp_usage JOIN chosen USING (session_id)
        WHERE counted = 1 AND provider = 'claude'
        UNION ALL
        SELECT session_id, measured_at, model, {_KINDS}, 1, speed, service_tier, region,
            web_searches, cache_1h_input_tokens
        FROM immunos_mcp_measured_usage JOIN chosen
        ON measured_at >= started_at AND (ended_at IS NULL OR measured_at < ended_at)
            AND (bound IS NULL OR folder = bound
                OR substr(folder, 1, length(bound) + 1) = bound || '/')
        WHERE provider = 'claude' AND measured_at >= (SELECT min(started_at) FROM chosen)
        UNION ALL
        SELECT session_id, finished_at, model, {_KINDS}, 1, NULL, NULL, NULL, NULL, NULL
        FROM immunos_mcp_request_usage JOIN chosen
        ON finished_at >= started_at AND (ended_at IS NULL OR finished_at < ended_at)
            AND bound IS NULL
        WHERE provider = 'claude'
        UNION ALL
        SELECT session_id, used_at, model, {_KINDS}, is_first, NULL, NULL, NULL,
            web_searches, cache_1h_input_tokens
        FROM immunos_mcp_side_usage JOIN chosen
        ON used_at >= started_at AND (ended_at IS NULL OR used_at < ended_at)
            AND (bound IS NULL OR folder = bound
                OR substr(folder, 1, length(bound) + 1) = bound || '/')
        WHERE provider = 'claude'
    )
"""  # noqa: S608  # constants


class UsageGroup(NamedTuple):
    """Responses priced alike, with everything a report sums them up by.

    Attributes:
        start: the hour or the day.
        assistant: who wrote them down; ``None``: they were reported, delegated or pruned.
        project: the project folder; ``None``: not known.
        person_id: whose it is; ``None``: not known, or pruned.
    """

    start: datetime
    provider: Provider
    source: str
    assistant: str | None
    project: str | None
    person_id: int | None
    usage: PricedUsage


def usage_groups(
    connection: Connection, span: dict[str, str], characters: int, lengths: Sequence[int]
) -> tuple[UsageGroup, ...]:
    """Return all usage of a span of time.

    Args:
        connection: in an open transaction.
        span: the parameters of ``USAGE``.
        characters: how much of a moment names its period.
        lengths: more tokens of input than these make a response dearer, for some models.
    """
    rows = connection.execute(
        "SELECT substr(at, 1, :characters), provider, source, assistant, folder, person_id, model,"  # noqa: S608  # constants
        f" {sums(lengths)} FROM ({USAGE}) AS used GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
        {**span, "characters": characters},
    )
    return tuple(
        UsageGroup(
            moment := datetime.fromisoformat(start).replace(tzinfo=UTC),
            Provider(provider),
            source,
            assistant,
            project,
            person_id,
            priced(model, moment, lengths, *measures),
        )
        for start, provider, source, assistant, project, person_id, model, *measures in rows
    )


def usage_of_sessions(
    connection: Connection, session_ids: Collection[int], lengths: Sequence[int]
) -> dict[int, list[PricedUsage]]:
    """Return Claude's usage that counts in some sessions and was not pruned, by session."""
    found: dict[int, list[PricedUsage]] = {}
    for session_id, day, model, *measures in connection.execute(
        f"{_OF_SESSIONS} SELECT session_id, substr(at, 1, 10), model, {sums(lengths)} FROM used"  # noqa: S608  # constants and numbers
        " GROUP BY 1, 2, 3, 4, 5, 6, 7",
        (list_parameter(session_ids),),
    ):
        at = datetime.fromisoformat(day).replace(tzinfo=UTC)
        found.setdefault(session_id, []).append(priced(model, at, lengths, *measures))
    return found


def sums(lengths: Sequence[int]) -> str:
    """Return the columns that ``priced`` takes, of responses that are grouped by the first four."""
    given = "input_tokens + cache_creation_input_tokens + cache_read_input_tokens"
    longer = (f"CASE WHEN {given} > {least:d} THEN 1 ELSE 0 END" for least in lengths)
    return _SUMS.format(length=" + ".join(["0", *longer]))


def priced(
    model: str,
    at: datetime,
    lengths: Sequence[int],
    speed: str | None,
    service_tier: str | None,
    region: str | None,
    length: int,
    *summed: Any,
) -> PricedUsage:
    """Return responses from a row of ``sums``."""
    over = sorted(lengths)[length - 1] if length else 0
    counts, others = TokenCounts(*summed[:4]), summed[4:]
    return PricedUsage(model, at, speed, service_tier, region, over, counts, *others)
