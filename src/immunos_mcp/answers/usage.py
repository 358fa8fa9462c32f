"""The answers about usage and outcomes."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from immunos_mcp.domain import Outcome, WarningLevel


class RecordAnswer(Struct, frozen=True):
    """What ``record_usage`` answers.

    Attributes:
        session_tokens: the session's budget tokens now.
        kept_local_tokens: the session's tokens that local models used, all kinds.
        warning_level: the session's level now.
        crossed: the level that this record reached, if it crossed a threshold.
        repeated: true when the request id was recorded before, and nothing was changed.
        counted: false when the report was stored but not counted, since the client's usage is measured.
        offline: true where the joined team's server is away; it is told later.
    """

    session_tokens: int
    kept_local_tokens: int
    warning_level: WarningLevel
    crossed: WarningLevel | None = None
    repeated: bool | None = None
    counted: bool | None = None
    offline: bool | None = None


class OutcomeAnswer(Struct, frozen=True):
    """What ``outcome`` answers: the decision, now closed, and the model whose record it counts for."""

    decision_id: int
    outcome: Outcome
    task_type: str
    model: str


class SyncAnswer(Struct, frozen=True):
    """What ``sync`` answers.

    Attributes:
        transcripts: how many were read.
        added: responses that were new, or whose numbers had grown.
        by_assistant: how many of them each assistant logged; absent if all are Claude Code's.
        unread_lines: lines that should carry usage and could not be read.
        unread_files: transcripts that could not be opened.
    """

    transcripts: int
    added: int
    by_assistant: Mapping[str, int] | None = None
    unread_lines: int | None = None
    unread_files: int | None = None
