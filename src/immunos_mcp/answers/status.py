"""The status of a session."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from immunos_mcp.domain import EngineState, PlanUsage, Reason, TokenCounts, WarningLevel


class EngineStatus(Struct, frozen=True):
    """The local engines, as a status shows them.

    Attributes:
        state: whether Ollama answers; absent where it is down and other engines have all models of the
            settings.
        missing: models of the settings that cannot run.
        others: the state of each engine beside Ollama.
    """

    state: EngineState | None = None
    missing: tuple[str, ...] | None = None
    others: Mapping[str, EngineState] | None = None


class BudgetStatus(Struct, frozen=True):
    """A budget beside the session's own, as a status shows it.

    Attributes:
        name: what decisions call it; where each person has it and others look, with a slash and whose it is.
        budget: its limit and window as written.
        used: in its unit; absent: not known.
        percent_used: of what is allowed by now.
        warning_level: its level.
        at_least: true where something used has no known price.
        starts_at: when its window began.
        ends_at: when its window ends, where that is fixed.
        gone_at: when it will be used up at this rate, if before that.
    """

    name: str
    budget: str
    warning_level: WarningLevel
    used: float | None = None
    percent_used: float | None = None
    at_least: bool | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    gone_at: datetime | None = None


class StatusAnswer(Struct, frozen=True):
    """The status of a session.

    Attributes:
        session: the session's name.
        session_id: absent until something was routed or recorded under the name.
        started_at: when the session began, absent likewise.
        session_tokens: budget tokens used, the total of the next two.
        measured_tokens: budget tokens that clients logged themselves; absent while none are counted.
        reported_tokens: budget tokens that clients reported.
        session_limit: budget tokens that are 100 percent.
        percent_used: of the limit, to one decimal.
        warning_level: the session's level.
        token_warning_threshold: where routine tasks begin to stay local.
        token_auto_switch_threshold: where all tasks begin to stay local.
        recommended_model: ``mixed`` between the thresholds.
        message: the recommendation as a sentence.
        side_request_tokens: the part of ``measured_tokens`` that is in no transcript (titles,
            compaction), where telemetry reported any.
        other_assistants: budget tokens that other assistants logged meanwhile; they are in
            ``session_tokens`` only where ``counted_assistants`` named them.
        claude_tokens: tokens of Claude by kind, unweighted.
        ollama_tokens: tokens of local models by kind.
        kept_local_tokens: the total of ``ollama_tokens``.
        decisions: how many decisions each reason accounts for.
        tokens_per_minute: recent pace, once the session is old enough to have one.
        minutes_to_warning: until the warning threshold at that pace.
        minutes_to_auto_switch: until the auto-switch threshold at that pace.
        plan: how much of the subscription's own limits is used, where a status line reported it.
        budgets: the budgets beside the session's own, where any are set.
        ollama: the local engine when it was last checked, and which mapped models it lacks.
        gates: what the user decided for now about the gates of hooks, such as ``off until ...``.
        folder: the only project folder whose measured usage counts, if the session is bound to one.
        project_settings: what a project folder has set for itself that holds here.
        unread_lines: lines of transcripts that should carry usage and could not be read.
        unread_files: transcripts that could not be opened.
        not_counting: why what clients log is not counted, or not all of it yet.
        uncounted_tokens: budget tokens that clients logged today, while no session counts them.
        offline: true where the joined team's server is away, and these are this ledger's own figures.
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
    reported_tokens: int
    measured_tokens: int | None = None
    session_id: int | None = None
    started_at: datetime | None = None
    tokens_per_minute: int | None = None
    minutes_to_warning: int | None = None
    minutes_to_auto_switch: int | None = None
    side_request_tokens: int | None = None
    other_assistants: Mapping[str, int] | None = None
    plan: tuple[PlanUsage, ...] | None = None
    budgets: tuple[BudgetStatus, ...] | None = None
    ollama: EngineStatus | None = None
    gates: str | None = None
    folder: str | None = None
    project_settings: str | None = None
    unread_lines: int | None = None
    unread_files: int | None = None
    not_counting: str | None = None
    uncounted_tokens: int | None = None
    offline: bool | None = None
