"""The status of sessions and of the local engine. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.status import BudgetStatus, EngineStatus, StatusAnswer
from immunos_mcp.answers.usage import RecordAnswer
from immunos_mcp.domain import EngineState, Provider, TokenCounts
from immunos_mcp.rules import budgets, gates, levels, models, pace
from immunos_mcp.rules.own_settings import own_text
from immunos_mcp.rules.recommendation import Recommendation, recommend

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from immunos_mcp.answers.sessions import SessionSummary
    from immunos_mcp.domain import Engine, Session, SessionRecord
    from immunos_mcp.logged_usage import MeasuredUsage
    from immunos_mcp.rules.budgets import BudgetState
    from immunos_mcp.rules.circumstances import SessionSnapshot
    from immunos_mcp.rules.settings import Settings


def session_status(
    snapshot: SessionSnapshot, now: datetime, unread_lines: int = 0, unread_files: int = 0
) -> StatusAnswer:
    """Return the status of a session."""
    settings, session = snapshot.settings, snapshot.session
    tokens = levels.budget_tokens(session.claude, settings)
    reported = levels.budget_tokens(session.claude - session.measured, settings)
    side_requests = levels.budget_tokens(snapshot.side_requests, settings)
    level = levels.warning_level(tokens, settings)
    states = budgets.states(settings.budgets, snapshot.budgets)
    recommended = recommendation(snapshot)
    per_minute = None
    if session.started_at is not None:
        per_minute = pace.tokens_per_minute(session.pace, session.started_at, now)
    warning, auto_switch = settings.token_warning_threshold, settings.token_auto_switch_threshold
    return StatusAnswer(
        session=session.name,
        session_id=session.session_id,
        started_at=session.started_at,
        session_tokens=tokens,
        session_limit=settings.session_limit,
        percent_used=round(100 * tokens / settings.session_limit, 1),
        warning_level=level,
        token_warning_threshold=warning,
        token_auto_switch_threshold=auto_switch,
        recommended_model=recommended.model,
        message=recommended.message,
        kept_local_tokens=session.local.total,
        measured_tokens=tokens - reported,
        reported_tokens=reported,
        claude_tokens=session.claude,
        ollama_tokens=session.local,
        decisions=dict(snapshot.decisions),
        tokens_per_minute=None if per_minute is None else round(per_minute),
        minutes_to_warning=(
            None if per_minute is None else pace.minutes_until(warning, tokens, per_minute)
        ),
        minutes_to_auto_switch=(
            None if per_minute is None else pace.minutes_until(auto_switch, tokens, per_minute)
        ),
        side_request_tokens=side_requests or None,
        other_assistants={
            assistant: levels.budget_tokens(counts, settings)
            for assistant, counts in snapshot.others.items()
        }
        or None,
        plan=snapshot.plan or None,
        budgets=tuple(budget_status(state, now) for state in states) or None,
        gates=gates.summary(snapshot.overrides),
        folder=session.folder,
        project_settings=own_text(settings, snapshot.origins),
        unread_lines=unread_lines or None,
        unread_files=unread_files or None,
    )


def recommendation(snapshot: SessionSnapshot) -> Recommendation:
    """Return what the tightest limit recommends that concerns whoever looks."""
    settings = snapshot.settings
    tokens = levels.budget_tokens(snapshot.session.claude, settings)
    plan_used_percent = levels.plan_used_percent(snapshot.plan, settings)
    return recommend(
        levels.warning_level(tokens, settings),
        settings,
        levels.plan_level(plan_used_percent, settings),
        budgets.tightest(concerning(snapshot)),
    )


def concerning(snapshot: SessionSnapshot) -> tuple[BudgetState, ...]:
    """Return the budgets that concern whoever looks at a session, with their states."""
    states = budgets.states(snapshot.settings.budgets, snapshot.budgets)
    caller = (snapshot.assistant, snapshot.folder)
    return tuple(
        state for state in states if state.use.person is None and state.budget.concerns(*caller)
    )


def budget_status(state: BudgetState, now: datetime) -> BudgetStatus:
    """Return how far a budget is used, and when it will be used up at this rate."""
    from immunos_mcp.rules import budget_windows  # most people have no budgets

    budget, use = state.budget, state.use
    gone_at = None
    if use.used is not None and use.starts_at is not None:
        span = budget_windows.Span(use.starts_at, use.ends_at)
        gone_at = budget_windows.gone_at(use.used, budgets.full_limit(budget), span, now)
    is_one_s = budget.is_each and use.person is not None
    return BudgetStatus(
        name=f"{budget.name}/{use.person}" if is_one_s else budget.name,
        budget=budget.text,
        warning_level=state.level,
        used=None if use.used is None else budgets.in_unit(budget, use.used),
        percent_used=state.percent,
        at_least=use.is_at_least or None,
        starts_at=use.starts_at,
        ends_at=use.ends_at,
        gone_at=gone_at,
    )


def measured_tokens(measured: Iterable[MeasuredUsage], settings: Settings) -> int:
    """Return the budget tokens of measured responses."""
    by_claude = (
        usage.counts
        for usage in measured
        if models.provider_of(usage.model, settings) is Provider.CLAUDE
    )
    return levels.budget_tokens(sum(by_claude, TokenCounts()), settings)


def recorded_usage(
    before: Session, after: Session, settings: Settings, *, is_repeat: bool, is_counted: bool
) -> RecordAnswer:
    """Return a session's figures after a usage record, and the level that it reached."""
    tokens = levels.budget_tokens(after.claude, settings)
    level_before = levels.warning_level(levels.budget_tokens(before.claude, settings), settings)
    level = levels.warning_level(tokens, settings)
    return RecordAnswer(
        session_tokens=tokens,
        kept_local_tokens=after.local.total,
        warning_level=level,
        crossed=None if level is level_before else level,
        repeated=is_repeat or None,
        counted=None if is_counted else False,
    )


def engine_status(engine: Engine, settings: Settings) -> EngineStatus:
    """Return whether the local engine runs, and which models of the settings are missing."""
    missing = [
        model
        for model in models.named_models(settings)
        if models.availability(model, engine, settings).can_run is False
    ]
    is_known = engine.state is EngineState.UP or bool(models.serving_instead(engine))
    return EngineStatus(
        None if models.is_without_ollama(engine, settings) else engine.state,
        tuple(missing) if is_known and missing else None,
        {other.name: other.state for other in engine.others} or None,
    )


def session_summary(record: SessionRecord, settings: Settings) -> SessionSummary:
    """Return the summary of a session that was opened."""
    from immunos_mcp.answers.sessions import SessionSummary

    session = record.session
    assert session.session_id is not None
    assert session.started_at is not None
    return SessionSummary(
        session_id=session.session_id,
        session=session.name,
        started_at=session.started_at,
        session_tokens=levels.budget_tokens(session.claude, settings),
        kept_local_tokens=session.local.total,
        decisions=record.decisions,
        usage_records=session.usage_records,
        ended_at=record.ended_at,
        end_reason=record.end_reason,
    )
