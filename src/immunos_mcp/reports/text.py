"""A report as text for a terminal: never wider than 80 columns. Pure."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.domain import Provider, WarningLevel
from immunos_mcp.reports import savings
from immunos_mcp.reports.spans import grouped_usage
from immunos_mcp.rules.budget_check import budget_line
from immunos_mcp.rules.formatting import (
    NOTHING_SINCE,
    NOTHING_YET,
    brief_cost,
    cells,
    compact,
    cost,
    grouped,
    minute,
    prices_of,
    printable,
    session_end,
    usd,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from immunos_mcp.answers.report import (
        AssistantUsage,
        PersonUsage,
        PricesAnswer,
        ProjectUsage,
        ReportAnswer,
    )

COLUMNS = 80
_MOST_SPANS = 31
_MOST_RECORDS = 40
_BAR_CELLS = 16
_LABEL_CELLS = 13
_ROOMY_CELLS, _LEAST_CELLS = 26, 8
_LEVEL_MARKS = {WarningLevel.NORMAL: "", WarningLevel.WARNING: "!", WarningLevel.CRITICAL: "!!"}


def text(answer: ReportAnswer) -> str:
    """Format a report in lines of at most ``COLUMNS`` columns."""
    since = "all time" if answer.since is None else f"since {minute(answer.since)} UTC"
    head = f"immunos-mcp report, {minute(answer.report_at)} UTC: {since}"
    if answer.is_empty:
        nothing = NOTHING_YET if answer.since is None else NOTHING_SINCE
        return "\n".join([head, "", *_wrapped(nothing.split(" "), "", "")])
    parts = [[head, "", *_summary(answer)]]
    parts += [
        section
        for section in (
            _budgets(answer),
            _usage(answer),
            _models(answer),
            _shares(
                "Cost by project", "project", [(each.project, each) for each in answer.projects]
            ),
            _shares(
                "Cost by assistant",
                "assistant",
                [(each.assistant, each) for each in answer.assistants],
            ),
            _shares(
                "Cost by person", "person", [(each.person, each) for each in answer.people or ()]
            ),
            _decisions(answer),
            _records(answer),
            _sessions(answer),
        )
        if section
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _budgets(answer: ReportAnswer) -> list[str]:
    if not answer.budgets:
        return []
    lines = (_wrapped(budget_line(each).split(" "), "", "  ") for each in answer.budgets)
    return ["Budgets", *chain.from_iterable(lines)]


def _shortened(shown: str, width: int) -> str:
    shown = printable(shown)
    if cells(shown) <= width:
        return shown
    left, used = "", 0
    for character in shown:
        used += cells(character)
        if used > width - 3:
            break
        left += character
    return f"{left}..."


def _padded(shown: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - cells(shown))
    return blanks + shown if right else shown + blanks


def _wrapped(words: Iterable[str], label: str, indent: str) -> list[str]:
    """Wrap words after a label, with the following lines indented."""
    lines: list[str] = []
    line = label
    for word in words:
        fitted = _shortened(word, COLUMNS - cells(indent) - 1)
        if cells(line) + 1 + cells(fitted) > COLUMNS and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += fitted if not line or line.endswith(" ") else f" {fitted}"
    return [*lines, line.rstrip()]


def _labelled(label: str, phrases: Iterable[str]) -> list[str]:
    words = [word for phrase in phrases for word in phrase.split(" ")]
    return _wrapped(words, f"{label:<{_LABEL_CELLS}}", " " * _LABEL_CELLS)


class _Column(NamedTuple):
    """A column of a table; numbers are right-aligned, and only text is ever shortened."""

    header: str
    is_number: bool = False


def _table(columns: Sequence[_Column], rows: Sequence[Sequence[str | int]]) -> list[str]:
    """Format a table: numbers in full if names stay readable, otherwise to three digits."""
    for number, least in ((grouped, _ROOMY_CELLS), (compact, _LEAST_CELLS)):
        shown = [
            [printable(cell) if isinstance(cell, str) else number(cell) for cell in row]
            for row in rows
        ]
        widths = [
            max(len(column.header), *(cells(row[place]) for row in shown))
            for place, column in enumerate(columns)
        ]
        room = COLUMNS - 2 * (len(columns) - 1)
        while sum(widths) > room:
            width, place = max(
                (widths[place], place)
                for place, column in enumerate(columns)
                if not column.is_number
            )
            if width <= max(least, len(columns[place].header)):
                break
            widths[place] -= 1
        if sum(widths) <= room:
            break
    lines = [[column.header for column in columns], *shown]
    return [
        "  ".join(
            _padded(_shortened(cell, width), width, right=column.is_number)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in lines
    ]


def _summary(answer: ReportAnswer) -> list[str]:
    counts, weights, local = answer.claude_tokens, answer.weights, answer.ollama_tokens
    decided = sum(each.decisions for each in answer.decisions)
    to_claude = sum(each.decisions for each in answer.decisions if each.provider == Provider.CLAUDE)
    successes = sum(each.successes for each in answer.decisions)
    failures = sum(each.failures for each in answer.decisions)
    return [
        *_labelled(
            "Claude",
            [
                f"{answer.budget_tokens:,} budget tokens:",
                f"input {counts.input_tokens:,} (weight {weights.input_tokens:g}),",
                f"output {counts.output_tokens:,} ({weights.output_tokens:g}),",
                f"cache creation {counts.cache_creation_input_tokens:,}",
                f"({weights.cache_creation_input_tokens:g}),",
                f"cache reads {counts.cache_read_input_tokens:,}",
                f"({weights.cache_read_input_tokens:g})",
            ],
        ),
        *_labelled(
            "Kept local",
            [
                f"{answer.kept_local_tokens:,} tokens:",
                f"input {local.input_tokens:,}, output {local.output_tokens:,}",
            ],
        ),
        *_hook_lines(answer),
        *_saving_lines(answer),
        *_labelled("List price", _cost_phrases(answer.prices)),
        *_labelled("Spend", _spend_phrases(answer)),
        *_labelled(
            "Decisions",
            [
                f"{decided:,}: {to_claude:,} to Claude, {decided - to_claude:,} to local models;",
                f"{successes:,} succeeded, {failures:,} failed,",
                f"{decided - successes - failures:,} unknown",
            ],
        ),
        *_labelled(
            "Thresholds",
            [
                f"warning {answer.token_warning_threshold:,},",
                f"auto-switch {answer.token_auto_switch_threshold:,},",
                f"limit {answer.session_limit:,} budget tokens per session",
            ],
        ),
    ]


def _hook_lines(answer: ReportAnswer) -> list[str]:
    if answer.hook_texts is None:
        return []
    said = f"{answer.hook_texts:,} {'text' if answer.hook_texts == 1 else 'texts'} of hooks,"
    return _labelled("Advice", [said, f"about {answer.hook_tokens or 0:,} tokens of Claude's"])


def _saving_lines(answer: ReportAnswer) -> list[str]:
    if answer.savings is None:
        return []
    gross, *costs, _ = savings.parts(answer.savings)
    made_of = ", ".join(f"{name} {tokens:,}" for name, tokens in (gross, *costs) if tokens)
    said = f"{savings.headline(answer.savings)}: {savings.tasks(answer.savings)}"
    return _labelled("Savings", [f"{said} ({made_of or 0} {savings.UNIT})"])


def _cost_phrases(prices: PricesAnswer) -> list[str]:
    phrases: list[str] = []
    if prices.claude_cost_usd is not None:
        at_least = "at least " if prices.claude_cost_is_at_least else ""
        phrases.append(f"Claude {at_least}{usd(prices.claude_cost_usd)}")
        if prices.models_without_price:
            count = len(prices.models_without_price)
            phrases.append(
                f"(excluding {count} {'model' if count == 1 else 'models'} without a known price)"
            )
        phrases[-1] += ";"
    elif prices.models_without_price:
        phrases.append("Claude unknown (no known price for its models);")
    if prices.hosted_cost_usd is not None:
        at_least = "at least " if prices.hosted_cost_is_at_least else ""
        phrases.append(f"other hosted models {at_least}{usd(prices.hosted_cost_usd)};")
    model = _shortened(prices.model, 40)
    if prices.kept_local_cost_usd is None:
        phrases.append(f"kept local unknown (no known price for {model}).")
    else:
        phrases += [
            f"kept local {usd(prices.kept_local_cost_usd)} at",
            f"{_shortened(prices.priced_as or prices.model, 40)} prices.",
        ]
    phrases.append(f"Source: {prices_of(prices)}")
    return phrases


def _spend_phrases(answer: ReportAnswer) -> list[str]:
    named = {"day": "today", "week": "this week", "month": "this month"}
    phrases = [
        f"{named[each.window]} {cost(each.cost_usd, each.cost_is_at_least)},"
        for each in answer.spend
    ]
    lacking = answer.prices.responses_without_lifetimes
    if lacking:
        responses = "response" if lacking == 1 else "responses"
        phrases.append(
            f"{lacking:,} {responses} recorded without cache lifetimes: priced as 5-minute cache"
            " writes (`immunos-mcp sync --all` looks for them),"
        )
    return [*phrases, "a + means at least (UTC)"]


def _usage(answer: ReportAnswer) -> list[str]:
    if not answer.usage:
        return []
    spans = grouped_usage(answer.usage, answer.period, _MOST_SPANS)
    largest = max(max(span.budget_tokens, span.kept_local_tokens) for span in spans.spans)
    rows = [
        (
            spans.label(span),
            span.budget_tokens,
            span.kept_local_tokens,
            cost(span.cost_usd, span.cost_is_at_least),
            _bar(span.budget_tokens, largest, "#") + _bar(span.kept_local_tokens, largest, "+"),
        )
        for span in spans.spans
    ]
    width = _BAR_CELLS // 2
    table = _table(
        (
            _Column("start (UTC)"),
            _Column("budget tokens", is_number=True),
            _Column("kept local", is_number=True),
            _Column("list price", is_number=True),
            _Column(f"{'#Claude':<{width}}{'+local':<{width}}"),
        ),
        rows,
    )
    return [f"Tokens by {spans.unit}", *table]


def _bar(tokens: int, largest: int, mark: str) -> str:
    width = _BAR_CELLS // 2
    filled = tokens * (width - 1) // largest if largest else 0
    return (mark * max(filled, 1 if tokens else 0)).ljust(width, " ")


def _models(answer: ReportAnswer) -> list[str]:
    if not answer.models:
        return []
    rows = [
        (
            model.model,
            model.provider,
            model.tokens.input_tokens,
            model.tokens.output_tokens,
            model.tokens.cache_creation_input_tokens,
            model.tokens.cache_read_input_tokens,
            "-"
            if model.provider is Provider.OLLAMA
            else "unknown"
            if model.cost_usd is None
            else cost(model.cost_usd, model.cost_is_at_least),
        )
        for model in answer.models[:_MOST_RECORDS]
    ]
    table = _table(
        (
            _Column("model"),
            _Column("provider"),
            _Column("input", is_number=True),
            _Column("output", is_number=True),
            _Column("cache new", is_number=True),
            _Column("cache read", is_number=True),
            _Column("list price", is_number=True),
        ),
        rows,
    )
    return ["Tokens by model", *table, *_more(len(answer.models) - _MOST_RECORDS)]


def _shares(
    title: str,
    name: str,
    shares: Sequence[tuple[str | None, ProjectUsage | AssistantUsage | PersonUsage]],
) -> list[str]:
    if all(named is None for named, _ in shares):
        return []
    rows = [
        (
            named or "not known",
            share.usage_records,
            share.tokens.total,
            cost(share.cost_usd, share.cost_is_at_least),
        )
        for named, share in shares[:_MOST_RECORDS]
    ]
    table = _table(
        (
            _Column(name),
            _Column("responses", is_number=True),
            _Column("tokens", is_number=True),
            _Column("list price", is_number=True),
        ),
        rows,
    )
    return [title, *table, *_more(len(shares) - _MOST_RECORDS)]


def _decisions(answer: ReportAnswer) -> list[str]:
    if not answer.decisions:
        return []
    rows = [
        (
            each.reason,
            each.provider,
            each.changed_by or "-",
            each.decisions,
            each.successes,
            each.failures,
        )
        for each in answer.decisions
    ]
    table = _table(
        (
            _Column("reason"),
            _Column("provider"),
            _Column("changed by"),
            _Column("decisions", is_number=True),
            _Column("succeeded", is_number=True),
            _Column("failed", is_number=True),
        ),
        rows,
    )
    return ["Decisions by reason", *table]


def _records(answer: ReportAnswer) -> list[str]:
    if not answer.records:
        return []
    rows = [
        (
            record.task_type,
            record.model,
            record.successes,
            record.failures,
            record.tokens,
            round(record.seconds),
            f"{100 * record.expected_success_rate:.0f}%",
            f"{100 * record.rate_at_least:.0f}-{100 * record.rate_at_most:.0f}%",
        )
        for record in answer.records[:_MOST_RECORDS]
    ]
    table = _table(
        (
            _Column("task type"),
            _Column("model"),
            _Column("ok", is_number=True),
            _Column("failed", is_number=True),
            _Column("tokens", is_number=True),
            _Column("seconds", is_number=True),
            _Column("expected", is_number=True),
            _Column("90% interval", is_number=True),
        ),
        rows,
    )
    left_out = len(answer.records) - _MOST_RECORDS
    return [
        "Track record of models",
        *table,
        *_more(max(left_out, 0) + (answer.records_left_out or 0)),
    ]


def _more(count: int) -> list[str]:
    return [f"and {count:,} more"] if count > 0 else []


def _sessions(answer: ReportAnswer) -> list[str]:
    if not answer.sessions:
        return []
    rows = [
        (
            session.session_id,
            session.session,
            minute(session.started_at),
            session_end(session),
            session.session_tokens,
            f"{compact(session.percent_used)}%{_LEVEL_MARKS[session.warning_level]}",
            session.kept_local_tokens,
            session.decisions,
            brief_cost(session.cost_usd, session.cost_is_at_least),
        )
        for session in answer.sessions
    ]
    table = _table(
        (
            _Column("id", is_number=True),
            _Column("session"),
            _Column("start"),
            _Column("end"),
            _Column("tokens", is_number=True),
            _Column("used", is_number=True),
            _Column("local", is_number=True),
            _Column("routed", is_number=True),
            _Column("price", is_number=True),
        ),
        rows,
    )
    marks = "(UTC; ! warning threshold reached, !! auto-switch threshold reached)"
    return ["Newest sessions", *table, marks]
