"""Builds a report from the ledger's figures: adds weights, prices and estimates. Pure."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from immunos_mcp.answers.report import (
    AssistantUsage,
    ModelUsage,
    PersonUsage,
    PricesAnswer,
    ProjectUsage,
    RecordLine,
    ReportAnswer,
    ReportedSession,
    SourceUsage,
    SpendWindow,
    UsagePeriod,
)
from immunos_mcp.domain import Provider, Weights
from immunos_mcp.reports.sums import NOTHING, priced, sums_by
from immunos_mcp.rules import levels, net_savings, track_record
from immunos_mcp.rules.claude_tiers import CLAUDE_RECORDS
from immunos_mcp.rules.list_prices import Cost
from immunos_mcp.rules.roles import sees_everybody
from immunos_mcp.rules.track_record import Evidence, ModelRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from immunos_mcp.domain import SessionRecord
    from immunos_mcp.ledger.report_figures import ReportFigures, StoredRecord
    from immunos_mcp.ledger.usage_groups import UsageGroup
    from immunos_mcp.reports.prices import Prices
    from immunos_mcp.reports.sums import UsageSum
    from immunos_mcp.rules.roles import Person
    from immunos_mcp.rules.settings import Settings

PricedGroups: TypeAlias = "Sequence[tuple[UsageGroup, UsageSum]]"

REPORTED_PROJECTS = 200


def compose(
    figures: ReportFigures,
    since: datetime | None,
    prices: Prices,
    now: datetime,
    reader: Person | None = None,
) -> ReportAnswer:
    """Return a report of the figures from ``since`` on (``None``: all).

    ``reader`` is who reads it; to those who may not see everybody's usage, what is theirs is shown beside
    what is everybody's.
    """
    settings = figures.settings
    usage = priced(figures.usage, prices)
    totals = sums_by((group.provider, each) for group, each in usage)
    claude = totals.get(Provider.CLAUDE, NOTHING).counts
    local = totals.get(Provider.OLLAMA, NOTHING).counts
    models = _models(usage, prices)
    projects = _projects(usage)
    return ReportAnswer(
        report_at=now,
        since=since,
        period="hour" if figures.is_hourly else "day",
        token_warning_threshold=settings.token_warning_threshold,
        token_auto_switch_threshold=settings.token_auto_switch_threshold,
        session_limit=settings.session_limit,
        budget_tokens=levels.budget_tokens(claude, settings),
        claude_tokens=claude,
        kept_local_tokens=local.total,
        ollama_tokens=local,
        weights=Weights(
            settings.input_weight,
            settings.output_weight,
            settings.cache_creation_weight,
            settings.cache_read_weight,
        ),
        prices=_prices(figures, totals, models, prices),
        usage=_periods(usage, settings),
        sources=_sources(usage),
        models=models,
        decisions=figures.decisions,
        records=tuple(_record(record, figures, now) for record in figures.records),
        sessions=tuple(
            _session(record, figures, prices)
            for record in figures.sessions
            if _may_see(reader, record.session.name, figures)
        ),
        records_left_out=figures.records_left_out or None,
        spend=tuple(_spend(usage, since, now)),
        projects=projects[:REPORTED_PROJECTS],
        projects_left_out=max(len(projects) - REPORTED_PROJECTS, 0) or None,
        assistants=_assistants(usage),
        people=_people(usage, figures, reader),
        hook_texts=figures.hook_texts.texts or None,
        hook_tokens=figures.hook_texts.tokens or None,
        savings=net_savings.savings(
            figures.work, figures.hook_texts.tokens, prices.find(settings.claude_model)
        ),
    )


def _periods(usage: PricedGroups, settings: Settings) -> tuple[UsagePeriod, ...]:
    sums = sums_by(((group.start, group.provider), each) for group, each in usage)
    periods: list[UsagePeriod] = []
    for start in sorted({start for start, _ in sums}):
        by_provider = {provider: sums.get((start, provider), NOTHING) for provider in Provider}
        claude, local = by_provider[Provider.CLAUDE].counts, by_provider[Provider.OLLAMA].counts
        cost = sum((each.cost for each in by_provider.values()), Cost())
        budget_tokens = levels.budget_tokens(claude, settings)
        periods.append(
            UsagePeriod(
                start,
                budget_tokens,
                claude,
                local.total,
                local,
                _usd(cost.usd),
                cost.is_at_least or None,
            )
        )
    return tuple(periods)


def _sources(usage: PricedGroups) -> tuple[SourceUsage, ...]:
    sums = sums_by(((group.provider, group.source), each) for group, each in usage)
    return tuple(
        SourceUsage(provider, source, each.counts, each.usage_records)
        for (provider, source), each in sorted(sums.items(), key=lambda item: item[0])
    )


def _models(usage: PricedGroups, prices: Prices) -> tuple[ModelUsage, ...]:
    sums = sums_by(((group.provider, group.usage.model), each) for group, each in usage)
    lines: list[ModelUsage] = []
    for (provider, model), each in sums.items():
        price = None if provider is Provider.OLLAMA else prices.find(model)
        line = ModelUsage(provider, model, each.counts, each.usage_records)
        if price is not None:
            line = replace(
                line,
                priced_as=price.model,
                cost_usd=_usd(each.cost.usd),
                cost_is_at_least=each.cost.is_at_least or None,
            )
        lines.append(line)
    return tuple(sorted(lines, key=lambda line: (line.provider, -line.tokens.total, line.model)))


def _projects(usage: PricedGroups) -> tuple[ProjectUsage, ...]:
    sums = sums_by((group.project, each) for group, each in usage if _is_hosted(group))
    return tuple(
        ProjectUsage(
            each.counts,
            each.usage_records,
            _usd(each.cost.usd),
            project,
            each.cost.is_at_least or None,
        )
        for project, each in sorted(sums.items(), key=_dearest_first)
    )


def _assistants(usage: PricedGroups) -> tuple[AssistantUsage, ...]:
    sums = sums_by((group.assistant, each) for group, each in usage if _is_hosted(group))
    return tuple(
        AssistantUsage(
            each.counts,
            each.usage_records,
            _usd(each.cost.usd),
            assistant,
            each.cost.is_at_least or None,
        )
        for assistant, each in sorted(sums.items(), key=_dearest_first)
    )


def _people(
    usage: PricedGroups, figures: ReportFigures, reader: Person | None
) -> tuple[PersonUsage, ...] | None:
    if not figures.people:
        return None
    sums = sums_by(
        (None if group.person_id is None else figures.people.get(group.person_id), each)
        for group, each in usage
        if _is_hosted(group) and (sees_everybody(reader) or _is_of(group, reader))
    )
    return tuple(
        PersonUsage(
            each.counts,
            each.usage_records,
            _usd(each.cost.usd),
            person,
            each.cost.is_at_least or None,
        )
        for person, each in sorted(sums.items(), key=_dearest_first)
    )


def _is_of(group: UsageGroup, reader: Person | None) -> bool:
    return reader is not None and group.person_id == reader.person_id


def _may_see(reader: Person | None, session: str, figures: ReportFigures) -> bool:
    """Return whether a session is not somebody else's own."""
    if reader is None or sees_everybody(reader) or session == reader.name:
        return True
    return session not in figures.people.values()


def _is_hosted(group: UsageGroup) -> bool:
    return group.provider is not Provider.OLLAMA


def _dearest_first(named: tuple[str | None, UsageSum]) -> tuple[Decimal, int, str]:
    name, each = named
    return -each.cost.usd, -each.counts.total, name or ""


def _spend(usage: PricedGroups, since: datetime | None, now: datetime) -> Iterator[SpendWindow]:
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for window, start in (
        ("day", today),
        ("week", today - timedelta(days=today.weekday())),
        ("month", today.replace(day=1)),
    ):
        if since is None or since <= start:
            costs = (each.cost for group, each in usage if start <= group.start <= now)
            cost = sum(costs, Cost())
            yield SpendWindow(window, start, _usd(cost.usd), cost.is_at_least or None)


def _prices(
    figures: ReportFigures,
    totals: Mapping[Provider, UsageSum],
    models: tuple[ModelUsage, ...],
    prices: Prices,
) -> PricesAnswer:
    claude = [line for line in models if line.provider is Provider.CLAUDE]
    is_priced = not claude or any(line.cost_usd is not None for line in claude)
    cost = totals.get(Provider.CLAUDE, NOTHING).cost
    hosted = totals.get(Provider.HOSTED)
    claude_model = figures.settings.claude_model
    lacking = sum(
        group.usage.without_lifetimes
        for group in figures.usage
        if group.provider is Provider.CLAUDE
    )
    answer = PricesAnswer(
        prices.table,
        claude_model,
        claude_cost_usd=_usd(cost.usd) if is_priced else None,
        claude_cost_is_at_least=cost.is_at_least or None,
        models_without_price=tuple(line.model for line in claude if line.cost_usd is None),
        hosted_cost_usd=None if hosted is None else _usd(hosted.cost.usd),
        hosted_cost_is_at_least=(hosted is not None and hosted.cost.is_at_least) or None,
        responses_without_lifetimes=lacking or None,
    )
    price = prices.find(claude_model)
    if price is None:
        return answer
    return replace(
        answer,
        priced_as=price.model,
        input_usd=_usd(price.input_usd),
        output_usd=_usd(price.output_usd),
        cache_creation_usd=_usd_if_any(price.cache_creation_usd),
        cache_read_usd=_usd_if_any(price.cache_read_usd),
        kept_local_cost_usd=_usd_if_any(price.cost(totals.get(Provider.OLLAMA, NOTHING).counts)),
    )


def _usd(amount: Decimal) -> float:
    return float(round(amount, 6))


def _usd_if_any(amount: Decimal | None) -> float | None:
    return None if amount is None else _usd(amount)


def _record(record: StoredRecord, figures: ReportFigures, now: datetime) -> RecordLine:
    known = ModelRecord(record.evidence, figures.priors.get(record.model, Evidence()))
    is_claude = record.model in CLAUDE_RECORDS
    estimate_of = track_record.estimate_claude if is_claude else track_record.estimate_local
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


def _session(record: SessionRecord, figures: ReportFigures, prices: Prices) -> ReportedSession:
    session, settings = record.session, figures.settings
    assert session.session_id is not None
    assert session.started_at is not None
    tokens = levels.budget_tokens(session.claude, settings)
    usage = figures.session_usage.get(session.session_id, ())
    cost = sum((prices.cost_of(each) for each in usage), Cost())
    is_pruned = figures.pruned_before is not None and session.started_at < figures.pruned_before
    return ReportedSession(
        session_id=session.session_id,
        session=session.name,
        started_at=session.started_at,
        session_tokens=tokens,
        percent_used=round(100 * tokens / settings.session_limit, 1),
        warning_level=levels.warning_level(tokens, settings),
        kept_local_tokens=session.local.total,
        decisions=record.decisions,
        usage_records=session.usage_records,
        ended_at=record.ended_at,
        end_reason=record.end_reason,
        cost_usd=_usd(cost.usd),
        cost_is_at_least=cost.is_at_least or is_pruned or None,
    )
