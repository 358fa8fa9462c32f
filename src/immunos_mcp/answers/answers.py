"""What the use cases answer and the entry points show.

The names of the fields are the JSON of the tools and of ``--json``; a field that is ``None`` is left
out there. Token counts are whole numbers of tokens; times are aware and in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    EngineState,
    Outcome,
    PlanUsage,
    Provider,
    Reason,
    TokenCounts,
    WarningLevel,
)


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What ``route_task`` answers: the decision and the number it is logged under.

    Every field costs its reader tokens, so ``projected_level`` is there only where the task would
    bring the session to another level than it is at, and ``plan_used_percent`` only where the
    subscription's limit decided. ``available`` is absent where nothing is known of the model.
    """

    model: str
    provider: Provider
    reason: Reason
    warning_level: WarningLevel
    session_tokens: int
    decision_id: int
    projected_tokens: int | None = None
    projected_level: WarningLevel | None = None
    plan_used_percent: float | None = None
    available: bool | None = None
    changed_by: ChangedBy | None = None
    remedy: str | None = None
    trial: bool | None = None
    advised_model: str | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class RowExplanation:
    """Why a row of the table did or did not decide.

    Attributes:
        reason: the row's word.
        applies: whether it fits; the first that does decides.
        why: what it looked at, with the numbers.
    """

    reason: Reason
    applies: bool
    why: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """What would have had to differ for another model."""

    when: str
    model: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a decision came about, told by the code that decides.

    Attributes:
        rows: the rows of the table, up to the one that decided.
        steps: what came after the table, where something did.
        alternatives: single changes that would have led to another model.
    """

    rows: tuple[RowExplanation, ...]
    steps: tuple[str, ...]
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class ExplainAnswer:
    """What ``explain`` answers: a logged decision and how it came about."""

    decision_id: int
    session: str
    decided_at: datetime
    task_type: str
    classification: Classification
    model: str
    reason: Reason
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """What ``record_usage`` answers.

    Attributes:
        session_tokens: the session's budget tokens now.
        kept_local_tokens: the session's tokens that local models used, all kinds.
        warning_level: where the session stands now.
        crossed: the level that this very record reached, if it crossed a threshold.
        repeated: true when the request id was recorded before, and nothing was changed.
        counted: false when the report was kept but not counted, since the client's usage is measured.
    """

    session_tokens: int
    kept_local_tokens: int
    warning_level: WarningLevel
    crossed: WarningLevel | None = None
    repeated: bool | None = None
    counted: bool | None = None


@dataclass(frozen=True, slots=True)
class OutcomeAnswer:
    """What ``outcome`` answers: the decision, now closed, and whose record it went into."""

    decision_id: int
    outcome: Outcome
    task_type: str
    model: str


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How the local engine stands, as a status says it.

    Attributes:
        state: whether it answers.
        missing: models that the settings name and that cannot run.
    """

    state: EngineState
    missing: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """Where a session stands.

    Attributes:
        session: the session's name.
        session_id: absent until something was routed or recorded under the name.
        started_at: when the session began, absent likewise.
        session_tokens: budget tokens used, the sum of the next two.
        measured_tokens: budget tokens that clients wrote down themselves.
        reported_tokens: budget tokens that clients reported.
        session_limit: budget tokens that are 100 percent.
        percent_used: of the limit, to one decimal.
        warning_level: where the session stands.
        token_warning_threshold: where routine tasks begin to stay local.
        token_auto_switch_threshold: where all tasks begin to stay local.
        recommended_model: ``mixed`` between the thresholds.
        message: the recommendation in words.
        side_request_tokens: the part of ``measured_tokens`` that is in no transcript (titles,
            compaction), where telemetry reported any.
        claude_tokens: tokens of Claude by kind, unweighted.
        ollama_tokens: tokens of local models by kind.
        kept_local_tokens: the sum of ``ollama_tokens``.
        decisions: how many decisions each reason accounts for.
        tokens_per_minute: recent pace, once the session is old enough to have one.
        minutes_to_warning: until the warning threshold at that pace.
        minutes_to_auto_switch: until the auto-switch threshold at that pace.
        plan: how much of the subscription's own limits is used, where a status line reported it.
        ollama: how the local engine was when last looked at, and what mapped models it lacks.
        folder: the project folder whose measured usage counts alone, if the session is bound to one.
        unread_lines: lines of transcripts that should carry usage and could not be read.
        unread_files: transcripts that could not be opened.
    """

    session: str
    session_tokens: int
    session_limit: int
    percent_used: float
    warning_level: WarningLevel
    token_warning_threshold: int
    token_auto_switch_threshold: int
    recommended_model: str
    message: str
    kept_local_tokens: int
    claude_tokens: TokenCounts
    ollama_tokens: TokenCounts
    decisions: Mapping[Reason, int]
    measured_tokens: int
    reported_tokens: int
    session_id: int | None = None
    started_at: datetime | None = None
    tokens_per_minute: int | None = None
    minutes_to_warning: int | None = None
    minutes_to_auto_switch: int | None = None
    side_request_tokens: int | None = None
    plan: tuple[PlanUsage, ...] | None = None
    ollama: EngineStatus | None = None
    folder: str | None = None
    unread_lines: int | None = None
    unread_files: int | None = None


@dataclass(frozen=True, slots=True)
class ResetAnswer:
    """What ``reset_session`` answers; the ``closed_`` fields are absent when none was open."""

    session_id: int
    closed_session_id: int | None = None
    closed_tokens: int | None = None
    closed_kept_local_tokens: int | None = None
    closed_decisions: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting before and after; a mapping that was absent or removed has ``None`` there."""

    before: int | float | str | None = None
    after: int | float | str | None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What changed settings would have made of the decisions logged last.

    Attributes:
        decisions: how many logged decisions were decided again.
        changed: how many of them would have named another model.
        moved_to_ollama: of those, how many would have left Claude.
        moved_to_claude: of those, how many would have come to Claude.
        kept_tokens: budget tokens of Claude that those would have kept which would have left it.
        spent_tokens: budget tokens that those would have spent which would have come to it.
    """

    decisions: int
    changed: int
    moved_to_ollama: int
    moved_to_claude: int
    kept_tokens: int = 0
    spent_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ConfigAnswer:
    """What ``update_config`` answers.

    Attributes:
        changes: each setting that differs, before and after.
        settings: the settings now in force, or that would be; without constants of the track record
            that have their defaults.
        dry_run: true when nothing was stored.
        rehearsal: what the change would have made of recent decisions, on a dry run.
    """

    changes: Mapping[str, Difference]
    settings: Mapping[str, int | float | str | Mapping[str, str]]
    dry_run: bool | None = None
    rehearsal: Rehearsal | None = None


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session in the history, as it is shown; ``session_tokens`` are budget tokens."""

    session_id: int
    session: str
    started_at: datetime
    session_tokens: int
    kept_local_tokens: int
    decisions: int
    usage_records: int
    ended_at: datetime | None = None
    end_reason: str | None = None


@dataclass(frozen=True, slots=True)
class DelegateAnswer:
    """What ``delegate_task`` answers.

    Attributes:
        model: the model that was routed to.
        provider: whose it is; where it is Claude, nothing was done.
        decision_id: the decision that the task was done for.
        local_output: what the local model said: data, whatever it says.
        input_tokens: tokens of the request, by the engine's count.
        output_tokens: tokens made, likewise.
        kept_local_tokens: the session's tokens that local models used, this task's included.
        seconds: how long the model worked.
        parts: in how many parts the material was worked on, if in several.
        cut_off: true where the output is not whole.
        left_out_files: files that a pattern found and that are binary or may hold secrets.
        output_path: the file that has the whole output.
        handle: to ask again with, while the model is still at work.
        message: what to do, where there is no output.
    """

    model: str
    provider: Provider
    decision_id: int
    local_output: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    kept_local_tokens: int | None = None
    seconds: float | None = None
    parts: int | None = None
    cut_off: bool | None = None
    left_out_files: int | None = None
    output_path: str | None = None
    handle: str | None = None
    message: str | None = None

    def with_kept_local(self, tokens: int) -> DelegateAnswer:
        """Return the answer with the session's tokens that were kept local."""
        return replace(self, kept_local_tokens=tokens)


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A local model as it is shown.

    Attributes:
        model: its name.
        task_types: what it is mapped for, in order of the settings; ``default`` for the rest.
        installed: whether the engine has it; absent where that is not known.
        loaded: whether it is in memory.
        parameter_size: as the engine words it.
        size_bytes: on disk.
        context_length: tokens it takes at most, where the listing says.
        remedy: the command that lets it run, where it cannot.
    """

    model: str
    task_types: tuple[str, ...] = ()
    installed: bool | None = None
    loaded: bool | None = None
    parameter_size: str | None = None
    size_bytes: int | None = None
    context_length: int | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class ModelsAnswer:
    """What ``models`` answers: the engine, and each model that is mapped or installed."""

    state: EngineState
    address: str
    models: tuple[ModelLine, ...]
    version: str | None = None
    words: str | None = None


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """What ``sync`` answers.

    Attributes:
        transcripts: how many were read.
        added: responses that were new, or whose numbers had grown.
        unread_lines: lines that should carry usage and could not be read.
        unread_files: transcripts that could not be opened.
    """

    transcripts: int
    added: int
    unread_lines: int | None = None
    unread_files: int | None = None


@dataclass(frozen=True, slots=True)
class BindAnswer:
    """What ``bind`` answers: the session name, and the folder it counts alone, if any."""

    session: str
    folder: str | None = None
