"""A report as CSV in long format: one figure per line. Pure.

``docs/guides/reports.md`` describes the columns; they are a contract.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from immunos_mcp.domain import TokenCounts
from immunos_mcp.rules.formatting import csv_cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.answers.report import ReportAnswer

Figure = str | int | float | datetime | None


class Line(NamedTuple):
    """One figure; columns that do not apply are empty.

    Attributes:
        section: the part of the report.
        key: what it is about: the start of a period, a reason, a task type, a session id, a budget,
            a project folder, an assistant, a person.
        provider: ``claude``, ``ollama`` or ``hosted``.
        model: the model.
        detail: the source, what changed the choice, the budget's limit, or the session name.
        measure: the name of the figure.
        value: the figure.
    """

    section: str
    key: str
    provider: str
    model: str
    detail: str
    measure: str
    value: str


def long_table(answer: ReportAnswer) -> str:
    """Return a report as CSV with a header; lines end with a line feed."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(Line._fields)
    rows.writerows([csv_cell(cell) for cell in line] for line in _lines(answer))
    return written.getvalue().removesuffix("\n")


def _lines(answer: ReportAnswer) -> Iterator[Line]:
    yield from _of("report", _kinds(answer.weights, "_weight"), "", "", "", "")
    yield from _of(
        "report",
        {
            "report_at": answer.report_at,
            "since": answer.since,
            "token_warning_threshold": answer.token_warning_threshold,
            "token_auto_switch_threshold": answer.token_auto_switch_threshold,
            "session_limit": answer.session_limit,
        },
    )
    yield from _of(
        "total",
        {"budget_tokens": answer.budget_tokens, **_kinds(answer.claude_tokens)},
        provider="claude",
    )
    yield from _of(
        "total",
        {"kept_local_tokens": answer.kept_local_tokens, **_kinds(answer.ollama_tokens)},
        provider="ollama",
    )
    yield from _savings_lines(answer)
    yield from _price_lines(answer)
    yield from _period_lines(answer)
    yield from _budget_lines(answer)
    yield from _part_lines(answer)
    for each in answer.decisions:
        measures = {
            "decisions": each.decisions,
            "successes": each.successes,
            "failures": each.failures,
        }
        yield from _of("decision", measures, each.reason, each.provider, "", each.changed_by or "")
    yield from _record_lines(answer)
    yield from _session_lines(answer)


def _period_lines(answer: ReportAnswer) -> Iterator[Line]:
    for period in answer.usage:
        start = _moment(period.start)
        claude = {"budget_tokens": period.budget_tokens, **_kinds(period.claude_tokens)}
        local = {"kept_local_tokens": period.kept_local_tokens, **_kinds(period.ollama_tokens)}
        yield from _of("usage", claude, start, "claude")
        yield from _of("usage", local, start, "ollama")
        yield from _of("usage", _cost(period), start)
    for window in answer.spend:
        yield from _of("spend", {"start": window.start, **_cost(window)}, window.window)


def _budget_lines(answer: ReportAnswer) -> Iterator[Line]:
    for budget in answer.budgets or ():
        measures = {
            "used": budget.used,
            "percent_used": budget.percent_used,
            "at_least": budget.at_least,
            "warning_level": budget.warning_level,
            "starts_at": budget.starts_at,
            "ends_at": budget.ends_at,
            "gone_at": budget.gone_at,
        }
        yield from _of("budget", measures, budget.name, detail=budget.budget)


def _part_lines(answer: ReportAnswer) -> Iterator[Line]:
    for project in answer.projects:
        measures = {**_kinds(project.tokens), "usage_records": project.usage_records}
        yield from _of("project", {**measures, **_cost(project)}, project.project or "")
    for assistant in answer.assistants:
        measures = {**_kinds(assistant.tokens), "usage_records": assistant.usage_records}
        yield from _of("assistant", {**measures, **_cost(assistant)}, assistant.assistant or "")
    for person in answer.people or ():
        measures = {**_kinds(person.tokens), "usage_records": person.usage_records}
        yield from _of("person", {**measures, **_cost(person)}, person.person or "")
    for source in answer.sources:
        measures = {**_kinds(source.tokens), "usage_records": source.usage_records}
        yield from _of("source", measures, "", source.provider, "", source.source)
    for model in answer.models:
        measures = {
            **_kinds(model.tokens),
            "usage_records": model.usage_records,
            "priced_as": model.priced_as,
            **_cost(model),
        }
        yield from _of("model", measures, "", model.provider, model.model)


def _savings_lines(answer: ReportAnswer) -> Iterator[Line]:
    if answer.hook_texts is not None:
        hooks = {"hook_texts": answer.hook_texts, "hook_tokens": answer.hook_tokens}
        yield from _of("total", hooks)
    if answer.savings is not None:
        names = answer.savings.__struct_fields__
        yield from _of("savings", {name: getattr(answer.savings, name) for name in names})


def _price_lines(answer: ReportAnswer) -> Iterator[Line]:
    prices = answer.prices
    table = {
        "price_table": prices.table.source,
        "price_table_version": prices.table.version,
        "newest_price": prices.table.newest_price,
        "claude_cost_usd": prices.claude_cost_usd,
        "claude_cost_is_at_least": _flag(prices.claude_cost_is_at_least),
        "hosted_cost_usd": prices.hosted_cost_usd,
        "hosted_cost_is_at_least": _flag(prices.hosted_cost_is_at_least),
        "responses_without_lifetimes": prices.responses_without_lifetimes,
    }
    yield from _of("price", table)
    of_model = {
        "priced_as": prices.priced_as,
        "input_usd": prices.input_usd,
        "output_usd": prices.output_usd,
        "cache_creation_usd": prices.cache_creation_usd,
        "cache_read_usd": prices.cache_read_usd,
        "kept_local_cost_usd": prices.kept_local_cost_usd,
    }
    yield from _of("price", of_model, model=prices.model)


def _record_lines(answer: ReportAnswer) -> Iterator[Line]:
    for record in answer.records:
        measures = {
            "successes": record.successes,
            "failures": record.failures,
            "tokens": record.tokens,
            "seconds": record.seconds,
            "expected_success_rate": record.expected_success_rate,
            "rate_at_least": record.rate_at_least,
            "rate_at_most": record.rate_at_most,
        }
        yield from _of("record", measures, record.task_type, "", record.model)


def _session_lines(answer: ReportAnswer) -> Iterator[Line]:
    for session in answer.sessions:
        measures = {
            "started_at": session.started_at,
            "ended_at": session.ended_at,
            "end_reason": session.end_reason,
            "session_tokens": session.session_tokens,
            "percent_used": session.percent_used,
            "warning_level": session.warning_level,
            "kept_local_tokens": session.kept_local_tokens,
            "decisions": session.decisions,
            "usage_records": session.usage_records,
            **_cost(session),
        }
        yield from _of("session", measures, str(session.session_id), "", "", session.session)


def _of(
    section: str,
    measures: Mapping[str, Figure],
    key: str = "",
    provider: str = "",
    model: str = "",
    detail: str = "",
) -> Iterator[Line]:
    for measure, figure in measures.items():
        if figure is not None:
            shown = _moment(figure) if isinstance(figure, datetime) else str(figure)
            yield Line(section, key, provider, model, detail, measure, shown)


def _kinds(counts: object, suffix: str = "") -> dict[str, Figure]:
    return {f"{kind}{suffix}": getattr(counts, kind) for kind in TokenCounts.__struct_fields__}


class _Costing(Protocol):
    @property
    def cost_usd(self) -> float | None: ...
    @property
    def cost_is_at_least(self) -> bool | None: ...


def _cost(costing: _Costing) -> dict[str, Figure]:
    is_at_least = _flag(costing.cost_is_at_least)
    return {"cost_usd": costing.cost_usd, "cost_is_at_least": is_at_least}


def _flag(is_so: bool | None) -> str | None:  # a field
    return "true" if is_so else None


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
