"""What of Claude's work had to do with this server: tasks handed over, decisions, responses.

Pruned detail is left out, since which usage belonged to which decision is gone with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.ledger.reported_usage import DELEGATED
from immunos_mcp.rules.net_savings import LOCAL_PROMPT, HandOvers, Work

if TYPE_CHECKING:
    from immunos_mcp.ledger.dialect import Connection

# Of a task that several models tried, only the last one's work is a result. Where that was left to
# Claude, the decision for Claude follows all of them.
_HAND_OVERS = f"""
    SELECT in_file, is_kept, is_checked, is_reported, has_material, count(*), sum(read), sum(written)
    FROM (
        SELECT max(coalesce(used.result_in_file, 0)) AS in_file,
            CASE WHEN decided.outcome = 'failure' THEN 0 ELSE 1 END AS is_kept,
            CASE WHEN decided.outcome_source = 'assistant' THEN 1 ELSE 0 END AS is_checked,
            CASE WHEN min(used.source) = '{DELEGATED}' THEN 0 ELSE 1 END AS is_reported,
            CASE WHEN sum(used.input_tokens) > {2 * LOCAL_PROMPT} THEN 1 ELSE 0 END AS has_material,
            sum(used.input_tokens) AS read, sum(used.output_tokens) AS written
        FROM immunos_mcp_usage AS used JOIN immunos_mcp_decision AS decided USING (decision_id)
        WHERE used.provider = 'ollama' AND decided.decided_at >= :since AND decision_id NOT IN (
            SELECT follows FROM immunos_mcp_decision WHERE follows IS NOT NULL
        )
        GROUP BY decision_id, decided.outcome, decided.outcome_source
    ) AS task GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""  # noqa: S608  # constants

_ONLY_ROUTED = """
    SELECT count(*) FROM immunos_mcp_decision WHERE decided_at >= :since AND decision_id NOT IN (
        SELECT decision_id FROM immunos_mcp_usage
        WHERE provider = 'ollama' AND decision_id IS NOT NULL
    )
"""

_RESPONSES = """
    SELECT count(*) FROM immunos_mcp_measured_usage
    WHERE provider = 'claude' AND measured_at >= :since
        AND measured_at >= (SELECT min(decided_at) FROM immunos_mcp_decision)
"""


def work_around_hand_overs(connection: Connection, since: str) -> Work:
    """Return what the savings from a moment (as text) on are made of."""
    span = {"since": since}
    rows = connection.execute(_HAND_OVERS, span)
    hand_overs = tuple(
        HandOvers(bool(in_file), bool(kept), bool(checked), bool(reported), bool(material), *sums)
        for in_file, kept, checked, reported, material, *sums in rows
    )
    (only_routed,) = connection.execute(_ONLY_ROUTED, span).fetchone()
    (responses,) = connection.execute(_RESPONSES, span).fetchone()
    return Work(hand_overs, only_routed, responses)
