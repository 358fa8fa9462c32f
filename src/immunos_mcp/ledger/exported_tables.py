"""What an export shows of each table, under public names.

The public names are a contract; the internal table names may change between ledger versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

_KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


@dataclass(frozen=True, slots=True)
class ExportedTable:
    """How a table is exported.

    Attributes:
        stored: the internal table name.
        columns: public names; (public, expression) where the column has another name in the table.
        order: the columns to sort by, which identify a row.
        since: the condition for a start time; empty: all rows are exported whatever the time.
        has_session: whether to join each row with its session, for the session name.
    """

    stored: str
    columns: tuple[str | tuple[str, str], ...]
    order: str
    since: str = ""
    has_session: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The public names of the columns."""
        return tuple(name if isinstance(name, str) else name[0] for name in self.columns)

    def query(self, *, is_limited: bool) -> str:
        """Return the statement for its rows, from a start time on where ``is_limited``."""
        chosen = ", ".join(
            f"exported.{column}" if isinstance(column, str) else column[1]
            for column in self.columns
        )
        # A left join, so that no row is lost even if another program deleted its session.
        join = " LEFT JOIN immunos_mcp_session AS session USING (session_id)"
        where = f" WHERE {self.since}" if is_limited and self.since else ""
        return (
            f"SELECT {chosen} FROM {self.stored} AS exported{join if self.has_session else ''}"  # noqa: S608  # constants of this file
            f"{where} ORDER BY {self.order}"
        )


_SESSION = ("session", "session.name")
_CLAUDE_KINDS = tuple(f"claude_{kind}" for kind in _KINDS)
_SESSION_SINCE = "session.ended_at IS NULL OR session.ended_at >= :since"

TABLES = MappingProxyType(
    {
        "session": ExportedTable(
            "immunos_mcp_session",
            (
                "session_id",
                ("session", "exported.name"),
                "started_at",
                "ended_at",
                "end_reason",
                *_CLAUDE_KINDS,
                *(f"local_{kind}" for kind in _KINDS),
                *(f"measured_{kind}" for kind in _KINDS),
                "usage_records",
                "pace_tokens",
                "pace_at",
                "folder",
            ),
            "session_id",
            "ended_at IS NULL OR ended_at >= :since",
        ),
        "session_reason": ExportedTable(
            "immunos_mcp_session_reason",
            ("session_id", _SESSION, "reason", "decisions"),
            "exported.session_id, reason",
            _SESSION_SINCE,
            has_session=True,
        ),
        "decision": ExportedTable(
            "immunos_mcp_decision",
            (
                "decision_id",
                "session_id",
                _SESSION,
                "policy_id",
                "engine_id",
                "decided_at",
                "task_type",
                "classification",
                "estimated_tokens",
                "session_tokens",
                *_CLAUDE_KINDS,
                "model",
                "provider",
                "reason",
                "warning_level",
                "plan_used_percent",
                "available",
                "table_model",
                "changed_by",
                "trial",
                "advised_model",
                "budget",
                "budget_used_percent",
                "budget_uses",
                "held_tokens",
                "reserved_tokens",
                "reserved_until",
                "join_key",
                "outcome",
                "closed_at",
                "is_provisional",
                "outcome_source",
                "given_task_type",
                "follows",
                "tried",
                "folder",
                "setting_folders",
                "team_decision_id",
                "person_id",
            ),
            "decision_id",
            "decided_at >= :since",
            has_session=True,
        ),
        "outcome": ExportedTable(
            "immunos_mcp_outcome",
            (
                "outcome_id",
                "decision_id",
                "after_decision_id",
                "policy_id",
                "model",
                "outcome",
                "known_at",
                "corrected_at",
            ),
            "outcome_id",
        ),
        "delegated_task": ExportedTable(
            "immunos_mcp_delegated_task",
            ("decision_id", "model", "state", "begun_at", "seen_at", "tokens"),
            "decision_id",
            "begun_at >= :since",
        ),
        "policy": ExportedTable(
            "immunos_mcp_policy", ("policy_id", "settings", "first_used_at"), "policy_id"
        ),
        "engine": ExportedTable("immunos_mcp_engine", ("engine_id", "engine"), "engine_id"),
        "usage": ExportedTable(
            "immunos_mcp_usage",
            (
                "usage_id",
                "session_id",
                _SESSION,
                "decision_id",
                "recorded_at",
                "model",
                "provider",
                "source",
                "counted",
                "result_in_file",
                ("request_id", "exported.external_id"),
                *_KINDS,
                "person_id",
            ),
            "usage_id",
            "recorded_at >= :since",
            has_session=True,
        ),
        "measured_usage": ExportedTable(
            "immunos_mcp_measured_usage",
            (
                "message_id",
                "request_id",
                "measured_at",
                "assistant",
                "conversation",
                "agent",
                "model",
                "provider",
                "folder",
                *_KINDS,
                "cache_1h_input_tokens",
                "speed",
                "service_tier",
                "region",
                "web_searches",
                "is_sidechain",
                "person_id",
            ),
            "message_id",
            "measured_at >= :since",
        ),
        "request_usage": ExportedTable(
            "immunos_mcp_request_usage",
            (
                "request_id",
                "finished_at",
                "conversation",
                "model",
                "provider",
                *_KINDS,
                "person_id",
            ),
            "request_id",
            "finished_at >= :since",
        ),
        "side_usage": ExportedTable(
            "immunos_mcp_side_usage",
            (
                "side_id",
                "used_at",
                "conversation",
                "start_ms",
                "model",
                "provider",
                "folder",
                "is_first",
                *_KINDS,
                "cache_1h_input_tokens",
                "web_searches",
                "person_id",
            ),
            "side_id",
            "used_at >= :since",
        ),
        "conversation_total": ExportedTable(
            "immunos_mcp_conversation_total",
            (
                "conversation",
                "start_ms",
                "total_at",
                "model",
                *_KINDS,
                "cache_1h_input_tokens",
                "web_searches",
                "first_at",
                "next_at",
                "folder",
                "is_partial",
                "is_settled",
                "person_id",
            ),
            "total_at, conversation, start_ms, model",
            "total_at >= :since",
        ),
        "copied_response": ExportedTable(
            "immunos_mcp_copied_response",
            ("conversation", "message_id"),
            "conversation, message_id",
        ),
        "record": ExportedTable(
            "immunos_mcp_record",
            (
                "task_type",
                "model",
                "successes",
                "failures",
                "tokens",
                "seconds",
                "faded_successes",
                "faded_failures",
                "newest_at",
                "newest_succeeded",
                "tried_at",
            ),
            "task_type, model",
        ),
        "setting": ExportedTable(
            "settings", (("setting", "exported.key"), "value", "updated_at"), "exported.key"
        ),
        "setting_change": ExportedTable(
            "immunos_mcp_setting_change",
            (
                "change_id",
                "changed_at",
                "client",
                "setting",
                "value_before",
                "value_after",
                "folder",
            ),
            "change_id",
            "changed_at >= :since",
        ),
        "project_setting": ExportedTable(
            "immunos_mcp_project_setting",
            ("folder", "setting", "value", "updated_at"),
            "folder, setting",
        ),
        "binding": ExportedTable(
            "immunos_mcp_binding", (("session", "exported.session_name"), "folder"), "session_name"
        ),
        "person": ExportedTable(
            "immunos_mcp_person",
            ("person_id", "name", "role", "created_at", "disabled_at"),
            "person_id",
        ),
        "token": ExportedTable(
            "immunos_mcp_token",
            ("sha256", "person_id", "label", "created_at", "expires_at", "revoked_at"),
            "sha256",
        ),
        "audit": ExportedTable(
            "immunos_mcp_audit",
            ("audit_id", "at", "person_id", "action", "detail"),
            "audit_id",
            "at >= :since",
        ),
        "pushing": ExportedTable(
            "immunos_mcp_pushing", ("person_id", "assistant", "since"), "person_id, assistant"
        ),
        "override": ExportedTable("immunos_mcp_override", ("kind", "set_at", "ends_at"), "kind"),
        "hook_text": ExportedTable(
            "immunos_mcp_hook_text",
            ("day", "texts", "tokens"),
            "day",
            "day >= substr(:since, 1, 10)",
        ),
        "plan_usage": ExportedTable(
            "immunos_mcp_plan_usage",
            (("window", "exported.plan_window"), "used_percentage", "resets_at", "reported_at"),
            "plan_window",
        ),
        "person_plan_usage": ExportedTable(
            "immunos_mcp_person_plan_usage",
            (
                "person_id",
                ("window", "exported.plan_window"),
                "used_percentage",
                "resets_at",
                "reported_at",
            ),
            "person_id, plan_window",
        ),
        "other_usage": ExportedTable(
            "immunos_mcp_other_usage",
            ("hour_at", "assistant", "folder", *_KINDS, "responses"),
            "hour_at, assistant, folder",
        ),
        "transcript": ExportedTable(
            "immunos_mcp_transcript",
            (
                "path",
                "inode",
                "size",
                "modified_ns",
                "read_bytes",
                "tail_checksum",
                "unread_lines",
                "left_out_before",
                "context",
                "has_price_terms",
            ),
            "path",
        ),
        "pruned_usage": ExportedTable(
            "immunos_mcp_pruned_usage",
            ("day", "provider", "model", "source", "counted", *_KINDS, "usage_records"),
            "day, provider, model, source, counted",
            "day >= substr(:since, 1, 10)",
        ),
        "pruned_decision": ExportedTable(
            "immunos_mcp_pruned_decision",
            (
                "day",
                "reason",
                "provider",
                "model",
                "changed_by",
                "decisions",
                "successes",
                "failures",
            ),
            "day, reason, provider, model, changed_by",
            "day >= substr(:since, 1, 10)",
        ),
        "pruned_record": ExportedTable(
            "immunos_mcp_pruned_record",
            (
                "task_type",
                "model",
                "faded_successes",
                "faded_failures",
                "newest_at",
                "newest_succeeded",
                "tried_at",
            ),
            "task_type, model",
        ),
        "pruned_request": ExportedTable(
            "immunos_mcp_pruned_request",
            (("request_id", "exported.external_id"), "counted"),
            "external_id",
        ),
        "pruning": ExportedTable(
            "immunos_mcp_pruning", ("pruning_id", "before", "first_decision_id"), "pruning_id"
        ),
        "spend": ExportedTable(
            "immunos_mcp_person_spend",
            ("quarter_at", "assistant", "folder", "person_id", *_KINDS, "nanodollars", "unpriced"),
            "quarter_at, assistant, folder, person_id",
            "quarter_at >= :since",
        ),
        "spend_stale": ExportedTable(
            "immunos_mcp_person_spend_stale", ("quarter_at",), "quarter_at"
        ),
        "spend_total": ExportedTable(
            "immunos_mcp_person_spend_total",
            (
                "starts_at",
                "ends_at",
                "assistant",
                "folder",
                "person_id",
                *_KINDS,
                "nanodollars",
                "unpriced",
            ),
            "starts_at, ends_at, assistant, folder, person_id",
        ),
        "spend_revision": ExportedTable(
            "immunos_mcp_person_spend_revision", ("revision_id", "revision"), "revision_id"
        ),
        "budget_crossing": ExportedTable(
            "immunos_mcp_budget_crossing",
            ("budget", "starts_at", "warning_level", "told_at"),
            "budget, starts_at, warning_level",
        ),
        "reservation": ExportedTable(
            "immunos_mcp_reservation",
            (
                "decision_id",
                "session_id",
                "tokens",
                "reserved_at",
                "expires_at",
                "call",
                "thread",
                "person_id",
            ),
            "decision_id",
        ),
        "routing_call": ExportedTable(
            "immunos_mcp_routing_call", ("call", "thread", "seen_at"), "call"
        ),
        "joined_team": ExportedTable(
            "immunos_mcp_joined_team",
            (
                "gateway",
                "url",
                "team",
                "person",
                "joined_at",
                "usage_from",
                "sends_labels",
                "changes",
                "reached_at",
                "failed_at",
            ),
            "gateway",
        ),
        "unpushed": ExportedTable(
            "immunos_mcp_unpushed", ("kind", "row_key", "change"), "kind, row_key"
        ),
        "schema_version": ExportedTable(
            "immunos_mcp_schema_version", ("version", "applied_at"), "version"
        ),
    }
)
"""The tables by their public names, in the order of an export."""
