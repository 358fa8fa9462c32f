"""Builds a report from the ledger's figures: adds weights, prices and estimates. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.report import (
    ModelUsage,
    PricesAnswer,
    RecordLine,
    ReportAnswer,
    ReportedSession,
    SourceUsage,
    UsagePeriod,
)
from immunos_mcp.domain import Provider, TokenCounts, Weights
from immunos_mcp.ledger.report_figures import UsageTotal
from immunos_mcp.rules import policy, track_record
from immunos_mcp.rules.track_record import Evidence, ModelRecord

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from immunos_mcp.domain import SessionRecord
    from immunos_mcp.ledger.report_figures import ReportFigures, StoredRecord
    from immunos_mcp.reports.prices import Prices
    from immunos_mcp.rules.settings import Settings

CLAUDE = "claude"
"""The name that stands for all Claude models in track records."""


def compose(
    figures: ReportFigures,
    since: datetime | None,
    prices: Prices,
    now: datetime,
) -> ReportAnswer:
    """Return a report of the figures from ``since`` on (``None``: all)."""
    settings = figures.settings
    claude, local = _total(figures, Provider.CLAUDE), _total(figures, Provider.OLLAMA)
    models = _models(figures, prices)
    return ReportAnswer(
        report_at=now,
        since=since,
        period="hour" if figures.is_hourly else "day",
        token_warning_threshold=settings.token_warning_threshold,
        token_auto_switch_threshold=settings.token_auto_switch_threshold,
        session_limit=settings.session_limit,
        budget_tokens=policy.budget_tokens(claude, settings),
        claude_tokens=claude,
        kept_local_tokens=local.total,
        ollama_tokens=local,
        weights=Weights(
            settings.input_weight,
            settings.output_weight,
            settings.cache_creation_weight,
            settings.cache_read_weight,
        ),
        prices=_priced(settings.claude_model, local, models, prices),
        usage=_periods(figures),
        sources=tuple(
            SourceUsage(provider, source, usage.counts, usage.usage_records)
            for (provider, source), usage in sorted(figures.sources.items())
        ),
        models=models,
        decisions=figures.decisions,
        records=tuple(_record(record, figures, now) for record in figures.records),
        sessions=tuple(_session(record, settings) for record in figures.sessions),
        records_left_out=figures.records_left_out or None,
    )


def _total(figures: ReportFigures, provider: Provider) -> TokenCounts:
    counts = (usage.counts for (whose, _), usage in figures.sources.items() if whose is provider)
    return sum(counts, TokenCounts())


def _periods(figures: ReportFigures) -> tuple[UsagePeriod, ...]:
    starts = sorted({start for start, _ in figures.periods})
    periods: list[UsagePeriod] = []
    for start in starts:
        claude = figures.periods.get((start, Provider.CLAUDE), UsageTotal()).counts
        local = figures.periods.get((start, Provider.OLLAMA), UsageTotal()).counts
        budget_tokens = policy.budget_tokens(claude, figures.settings)
        periods.append(UsagePeriod(start, budget_tokens, claude, local.total, local))
    return tuple(periods)


def _models(figures: ReportFigures, prices: Prices) -> tuple[ModelUsage, ...]:
    lines: list[ModelUsage] = []
    for (provider, model), usage in figures.models.items():
        counts = usage.counts
        price = prices.find(model) if provider is Provider.CLAUDE else None
        cost = None if price is None else price.cost(counts)
        priced_as = None if price is None or cost is None else price.model
        usd = None if cost is None else _usd(cost)
        lines.append(ModelUsage(provider, model, counts, usage.usage_records, priced_as, usd))
    return tuple(sorted(lines, key=lambda line: (line.provider, -line.tokens.total, line.model)))


def _priced(
    claude_model: str, local: TokenCounts, models: tuple[ModelUsage, ...], prices: Prices
) -> PricesAnswer:
    claude = [line for line in models if line.provider is Provider.CLAUDE]
    costs = [line.cost_usd for line in claude if line.cost_usd is not None]
    claude_cost = round(sum(costs), 6) if costs or not claude else None
    without_price = tuple(line.model for line in claude if line.cost_usd is None)
    price = prices.find(claude_model)
    if price is None:
        return PricesAnswer(
            prices.table,
            claude_model,
            claude_cost_usd=claude_cost,
            models_without_price=without_price,
        )
    kept_local_cost = price.cost(local)
    return PricesAnswer(
        table=prices.table,
        model=claude_model,
        priced_as=price.model,
        input_usd=_usd(price.input_usd),
        output_usd=_usd(price.output_usd),
        cache_creation_usd=_usd_if_any(price.cache_creation_usd),
        cache_read_usd=_usd_if_any(price.cache_read_usd),
        kept_local_cost_usd=_usd_if_any(kept_local_cost),
        claude_cost_usd=claude_cost,
        models_without_price=without_price,
    )


def _usd(amount: Decimal) -> float:
    return float(round(amount, 6))


def _usd_if_any(amount: Decimal | None) -> float | None:
    return None if amount is None else _usd(amount)


def _record(record: StoredRecord, figures: ReportFigures, now: datetime) -> RecordLine:
    known = ModelRecord(record.evidence, figures.priors.get(record.model, Evidence()))
    estimate_of = (
        track_record.estimate_claude if record.model == CLAUDE else track_record.estimate_local
    )
    estimate = estimate_of(known, figures.settings, now)
    at_least, at_most = track_record.interval(estimate)
    return RecordLine(
        task_type=record.task_type,
        model=record.model,
        successes=record.successes,
        failures=record.failures,
        tokens=record.tokens,
        seconds=round(record.seconds, 3),
        expected_success_rate=round(estimate.rate, 4),
        rate_at_least=round(at_least, 4),
        rate_at_most=round(at_most, 4),
    )


def _session(record: SessionRecord, settings: Settings) -> ReportedSession:
    session = record.session
    assert session.session_id is not None
    assert session.started_at is not None
    tokens = policy.budget_tokens(session.claude, settings)
    return ReportedSession(
        session_id=session.session_id,
        session=session.name,
        started_at=session.started_at,
        session_tokens=tokens,
        percent_used=round(100 * tokens / settings.session_limit, 1),
        warning_level=policy.warning_level(tokens, settings),
        kept_local_tokens=session.local.total,
        decisions=record.decisions,
        usage_records=session.usage_records,
        ended_at=record.ended_at,
        end_reason=record.end_reason,
    )
