"""A report as one self-contained page: no script, no network, light and dark. Pure.

The page's policy forbids everything but its own style sheet, so that nothing it shows could act.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC
from typing import TYPE_CHECKING

from immunos_mcp import __version__
from immunos_mcp.domain import Provider, WarningLevel
from immunos_mcp.reports.charts import Series, bar_chart
from immunos_mcp.reports.markup import Markup, element, joined
from immunos_mcp.reports.spans import gathered
from immunos_mcp.reports.style import STYLE
from immunos_mcp.rules.formatting import (
    NOTHING_SINCE,
    NOTHING_YET,
    compact,
    minute,
    prices_of,
    session_end,
    usd,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from immunos_mcp.answers.report import (
        ModelUsage,
        RecordLine,
        ReportAnswer,
        ReportedSession,
        UsagePeriod,
    )
    from immunos_mcp.reports.spans import Spans

BEGINNING = "<!doctype html>\n<!-- immunos-mcp report -->\n"
"""What every page begins with, by which an earlier report is known."""

_WIDE, _NARROW = (920, 320), (340, 260)
_MOST_BARS, _MOST_NARROW_BARS = 62, 31
_LEAST_BARS = 7
_THRESHOLDS = ("warning", "auto-switch", "limit")


def page(answer: ReportAnswer) -> str:
    """Return a report as an HTML document."""
    hashed = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"immunos-mcp {__version__}"),
        element("title", f"immunos-mcp report, {minute(answer.report_at)} UTC"),
        element("style", Markup(STYLE)),
    )
    sections = [] if answer.is_empty else _sections(answer)
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        _header(answer, [(name, title) for name, title, _ in sections]),
        element(
            "main",
            _empty(answer) if answer.is_empty else _tiles(answer),
            *(_section(name, title, content) for name, title, content in sections),
            id="report",
            tabindex="-1",
        ),
        _footer(answer),
    )
    return BEGINNING + element("html", head, body, lang="en") + "\n"


def _header(answer: ReportAnswer, sections: Sequence[tuple[str, str]]) -> Markup:
    since = (
        "All there is" if answer.since is None else joined(["Since ", _time(answer.since), " UTC"])
    )
    links = [element("li", element("a", title, href=f"#{name}")) for name, title in sections]
    return element(
        "header",
        element("h1", "Token report"),
        element("p", since, ", up to ", _time(answer.report_at), " UTC", class_="muted"),
        *(
            [element("nav", element("ul", *links), aria_label="Parts of the report")]
            if links
            else []
        ),
    )


def _footer(answer: ReportAnswer) -> Markup:
    weights = answer.weights
    return element(
        "footer",
        element(
            "p",
            "Budget tokens are Claude's tokens by weight: input ",
            f"{weights.input_tokens:g}, output {weights.output_tokens:g}, cache creation ",
            f"{weights.cache_creation_input_tokens:g}, cache reads ",
            f"{weights.cache_read_input_tokens:g}. Local models add nothing to the budget. ",
            f"Prices: {prices_of(answer.prices)}; list prices of today in US dollars, of requests of ",
            "ordinary length, five-minute caching, no discounts.",
        ),
        element("p", f"immunos-mcp {__version__}. This page is a file: it loads nothing."),
    )


def _empty(answer: ReportAnswer) -> Markup:
    if answer.since is not None:
        return element(
            "section",
            element("h2", "Nothing to report"),
            element("p", NOTHING_SINCE),
            class_="card",
        )
    return element(
        "section",
        element("h2", "Nothing to report yet"),
        element("p", NOTHING_YET),
        element(
            "ul",
            element(
                "li", element("code", "immunos-mcp install claude-code"), " sets Claude Code up"
            ),
            element("li", element("code", "immunos-mcp sync --all"), " reads its history"),
            element("li", element("code", "immunos-mcp doctor"), " says what may be wrong"),
        ),
        class_="card",
    )


def _sections(answer: ReportAnswer) -> list[tuple[str, str, Markup]]:
    sections: list[tuple[str, str, Markup]] = []
    if answer.usage:
        sections.append(("usage", "Tokens over time", _usage(answer)))
        sections.append(("models", "Models and cost", _models(answer)))
    if answer.decisions:
        sections.append(("decisions", "Decisions", _decisions(answer)))
    if answer.records:
        sections.append(("records", "Record of models", _records(answer)))
    if answer.sessions:
        sections.append(("sessions", "Sessions", _sessions(answer)))
    return sections


def _section(name: str, title: str, content: Markup) -> Markup:
    heading = f"{name}-title"
    return element(
        "section",
        element("h2", title, id=heading),
        content,
        id=name,
        class_="card",
        aria_labelledby=heading,
    )


def _tiles(answer: ReportAnswer) -> Markup:
    prices = answer.prices
    decided = sum(each.decisions for each in answer.decisions)
    local = sum(each.decisions for each in answer.decisions if each.provider == Provider.OLLAMA)
    unpriced = len(prices.models_without_price)
    if prices.claude_cost_usd is None:
        cost, of_cost = "unknown", "no price is known for its models"
    else:
        cost, of_cost = usd(prices.claude_cost_usd), "at list price, all four kinds"
        if unpriced:
            of_cost = f"at list price, without {unpriced} model{'s' if unpriced > 1 else ''} of no known price"
    if prices.kept_local_cost_usd is None:
        saved, of_saved = "unknown", f"no price is known for {prices.model}"
    else:
        saved, of_saved = usd(prices.kept_local_cost_usd), f"at {prices.priced_as}'s list price"
    tiles = (
        ("claude", "Budget tokens", answer.budget_tokens, "Claude's, each kind by its weight"),
        ("local", "Kept local", answer.kept_local_tokens, "tokens of local models"),
        ("claude", "Claude's cost", cost, of_cost),
        ("local", "Cost avoided", saved, of_saved),
        ("plain", "Decisions", decided, f"{local:,} to local models"),
    )
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", title),
                element("dd", _number(value) if isinstance(value, int) else value, class_="figure"),
                element("dd", note, class_="muted"),
                class_=f"tile {kind}",
            )
            for kind, title, value, note in tiles
        ),
        class_="tiles",
    )


def _number(value: int) -> str:
    return f"{value:,}" if value < 10**10 else compact(value)


def _chart(
    described: str,
    wide: tuple[Sequence[str], Sequence[Series]],
    narrow: tuple[Sequence[str], Sequence[Series]],
    thresholds: Sequence[int],
) -> Markup:
    legend = [
        element("li", element("span", "", class_=f"swatch bar-{place}"), each.title)
        for place, each in enumerate(wide[1])
    ]
    first = len(wide[1])
    legend += [
        element("li", element("span", "", class_=f"swatch line-{place}"), f"{name} {value:,}")
        for place, (name, value) in enumerate(zip(_THRESHOLDS, thresholds, strict=False))
    ]
    return element(
        "figure",
        element("ul", *legend, class_="legend", aria_hidden="true"),
        element(
            "div",
            bar_chart(described, *wide, thresholds, _WIDE),
            class_=f"chart wide bars-{first}",
        ),
        element(
            "div",
            bar_chart(described, *narrow, thresholds, _NARROW),
            class_=f"chart narrow bars-{first}",
        ),
    )


def _usage(answer: ReportAnswer) -> Markup:
    thresholds = (answer.token_warning_threshold, answer.token_auto_switch_threshold)
    wide = gathered(answer.usage, answer.period, _MOST_BARS)
    narrow = gathered(answer.usage, answer.period, _MOST_NARROW_BARS)
    most = max(wide.spans, key=lambda span: span.budget_tokens)
    most_local = max(wide.spans, key=lambda span: span.kept_local_tokens)
    described = (
        f"Bar chart of tokens by {wide.unit}, UTC. Claude's budget tokens: at most "
        f"{most.budget_tokens:,}, from {wide.label(most)}. Kept local: at most "
        f"{most_local.kept_local_tokens:,}, from {wide.label(most_local)}. Lines at the warning "
        f"threshold, {thresholds[0]:,}, and the auto-switch threshold, {thresholds[1]:,}. "
        "The numbers are in the table below."
    )
    return joined(
        [
            element(
                "p",
                f"By {wide.unit} (UTC). The lines are the thresholds of one session.",
                class_="muted wide-words",
            ),
            element(
                "p",
                f"By {narrow.unit} (UTC). The lines are the thresholds of one session.",
                class_="muted narrow-words",
            ),
            _chart(described, _over_time(wide), _over_time(narrow), thresholds),
            element(
                "details",
                element("summary", f"The numbers by {answer.period}"),
                _table(
                    "usage-table",
                    f"Tokens by {answer.period}, UTC",
                    ("From", *_KINDS_OF_CLAUDE, "Budget tokens", "Kept local"),
                    (_usage_row(period) for period in answer.usage),
                ),
            ),
            _table(
                "sources-table",
                "Tokens by source",
                ("Source", "Whose", "Responses", "Tokens"),
                (
                    (source.source, source.provider, source.usage_records, source.tokens.total)
                    for source in answer.sources
                ),
            ),
        ]
    )


_KINDS_OF_CLAUDE = ("Input", "Output", "Cache creation", "Cache reads")


def _usage_row(period: UsagePeriod) -> tuple[str | int, ...]:
    claude = period.claude_tokens
    return (
        minute(period.start) if period.start.hour else period.start.strftime("%Y-%m-%d"),
        claude.input_tokens,
        claude.output_tokens,
        claude.cache_creation_input_tokens,
        claude.cache_read_input_tokens,
        period.budget_tokens,
        period.kept_local_tokens,
    )


def _over_time(spans: Spans) -> tuple[list[str], list[Series]]:
    # One bar alone would be as wide as the chart.
    blanks = max(0, _LEAST_BARS - len(spans.spans))
    before, after = blanks // 2, blanks - blanks // 2
    labels = [
        *[""] * before,
        *(spans.short_label(span) for span in spans.spans),
        *[""] * after,
    ]
    budget = [*[0] * before, *(span.budget_tokens for span in spans.spans), *[0] * after]
    local = [*[0] * before, *(span.kept_local_tokens for span in spans.spans), *[0] * after]
    return labels, [Series("Claude, budget tokens", budget), Series("kept local", local)]


def _models(answer: ReportAnswer) -> Markup:
    prices = answer.prices
    words: list[str] = []
    if prices.priced_as is None:
        words.append(
            f"No list price is known for {prices.model}, the model set as claude_model, so what was "
            "kept local has none."
        )
    else:
        words.append(
            f"What was kept local is priced as {prices.priced_as} (claude_model is {prices.model}): "
            f"{_price(prices.input_usd)} for a million tokens of input, "
            f"{_price(prices.output_usd)} of output, "
            f"{_price(prices.cache_creation_usd)} of cache creation, "
            f"{_price(prices.cache_read_usd)} of cache reads."
        )
    if prices.models_without_price:
        words.append(f"No list price is known for {', '.join(prices.models_without_price)}.")
    rows = (_model_row(model) for model in answer.models)
    columns = ("Model", "Whose", "Responses", *_KINDS_OF_CLAUDE, "Priced as", "List price")
    return joined(
        [
            *(element("p", sentence) for sentence in words),
            _table("models-table", "Tokens and list price by model", columns, rows),
        ]
    )


def _price(amount: float | None) -> str:
    return "no price" if amount is None else f"${amount:g}"


def _model_row(model: ModelUsage) -> tuple[str | int, ...]:
    if model.provider is Provider.OLLAMA:
        price, priced_as = "none", "local"
    else:
        price = "unknown" if model.cost_usd is None else usd(model.cost_usd)
        priced_as = model.priced_as or "unknown"
    tokens = model.tokens
    return (
        model.model,
        model.provider,
        model.usage_records,
        tokens.input_tokens,
        tokens.output_tokens,
        tokens.cache_creation_input_tokens,
        tokens.cache_read_input_tokens,
        priced_as,
        _right(price),
    )


def _decisions(answer: ReportAnswer) -> Markup:
    most = max(each.decisions for each in answer.decisions)
    rows = (
        (
            element("code", each.reason),
            each.provider,
            each.changed_by or "nothing",
            each.decisions,
            _bar(each.decisions, most, "bar-1" if each.provider == Provider.OLLAMA else "bar-0"),
            each.successes,
            each.failures,
        )
        for each in answer.decisions
    )
    columns = ("Reason", "Provider", "Changed by", "Decisions", "Share", "Succeeded", "Failed")
    return _table("decisions-table", "Decisions by reason", columns, rows)


def _records(answer: ReportAnswer) -> Markup:
    note = (
        "The dot is the success rate to expect, and the line holds the true one with 90 percent. "
        "The model claude stands for all of Claude's."
    )
    if answer.records_left_out:
        note += f" {answer.records_left_out:,} records with fewer outcomes are not shown."
    columns = (
        "Task type",
        "Model",
        "Expected to succeed",
        "0 to 100 %",
        "Succeeded",
        "Failed",
        "Tokens",
        "Seconds",
    )
    rows = (_record_row(record) for record in answer.records)
    return joined(
        [
            element("p", note, class_="muted"),
            _table("records-table", "How models did at task types", columns, rows),
        ]
    )


def _record_row(record: RecordLine) -> tuple[str | int, ...]:
    rate, low, high = (
        100 * share
        for share in (record.expected_success_rate, record.rate_at_least, record.rate_at_most)
    )
    drawing = element(
        "svg",
        element("line", x1="0", x2="100", y1="6", y2="6", class_="scale"),
        element("line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1="6", y2="6", class_="interval"),
        element("circle", cx=f"{rate:.1f}", cy="6", r="4", class_="rate"),
        viewBox="-4 0 108 12",
        class_="drawing",
        aria_hidden="true",
        focusable="false",
    )
    return (
        record.task_type,
        record.model,
        _right(f"{rate:.0f} % ({low:.0f} to {high:.0f} %)"),
        drawing,
        record.successes,
        record.failures,
        record.tokens,
        _right(f"{record.seconds:,.0f}"),
    )


def _sessions(answer: ReportAnswer) -> Markup:
    sessions = answer.sessions[::-1]
    thresholds = (
        answer.token_warning_threshold,
        answer.token_auto_switch_threshold,
        answer.session_limit,
    )
    most = max(sessions, key=lambda session: session.session_tokens)
    described = (
        f"Bar chart of the budget tokens of {len(sessions)} sessions, oldest first. The most are "
        f"{most.session_tokens:,}, of session {most.session_id}. Lines at the warning threshold, "
        f"{thresholds[0]:,}, the auto-switch threshold, {thresholds[1]:,}, and the limit, "
        f"{thresholds[2]:,}. The numbers are in the table below."
    )
    columns = (
        "Session",
        "No.",
        "From (UTC)",
        "To (UTC)",
        "Budget tokens",
        "Of the limit",
        "Level",
        "Kept local",
        "Decisions",
        "Ended for",
    )
    rows = (_session_row(session) for session in answer.sessions)
    narrow = sessions[-_MOST_NARROW_BARS:]
    return joined(
        [
            _chart(described, _bars_of(sessions), _bars_of(narrow), thresholds),
            _table("sessions-table", "The newest sessions", columns, rows),
        ]
    )


def _bars_of(sessions: Sequence[ReportedSession]) -> tuple[list[str], list[Series]]:
    blanks = max(0, _LEAST_BARS - len(sessions))
    before, after = blanks // 2, blanks - blanks // 2
    labels = [*[""] * before, *(f"#{each.session_id}" for each in sessions), *[""] * after]
    tokens = [*[0] * before, *(each.session_tokens for each in sessions), *[0] * after]
    return labels, [Series("Claude, budget tokens", tokens)]


def _session_row(session: ReportedSession) -> tuple[str | int, ...]:
    level = session.warning_level
    word = {
        WarningLevel.NORMAL: "normal",
        WarningLevel.WARNING: "▲ warning",
        WarningLevel.CRITICAL: "■ critical",
    }[level]
    return (
        element("bdi", session.session),
        _right(str(session.session_id)),
        minute(session.started_at),
        session_end(session),
        session.session_tokens,
        _right(f"{session.percent_used:,.1f} %"),
        element("span", word, class_=f"level {level}"),
        session.kept_local_tokens,
        session.decisions,
        element("bdi", session.end_reason or ""),
    )


class _Right(Markup):
    """Markup of a cell that is set to the right, as numbers are."""

    __slots__ = ()


def _right(shown: str) -> _Right:
    return _Right(joined([shown]))


def _table(
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | int]],
) -> Markup:
    """Return a table that scrolls by itself where it is too wide; the first cell heads its row."""
    body: list[Markup] = []
    rights: set[int] = set()
    for row in rows:
        rights |= {place for place, cell in enumerate(row) if isinstance(cell, int | _Right)}
        cells = [_cell(cell, is_head=not place) for place, cell in enumerate(row)]
        body.append(element("tr", *cells))
    heads = [
        element("th", column, scope="col", **({"class_": "number"} if place in rights else {}))
        for place, column in enumerate(columns)
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption, id=name),
            element("thead", element("tr", *heads)),
            element("tbody", *body),
        ),
        class_="scroll",
        role="region",
        aria_labelledby=name,
        tabindex="0",
    )


def _cell(cell: str | int, *, is_head: bool) -> Markup:
    shown = f"{cell:,}" if isinstance(cell, int) else cell
    if is_head:
        return element("th", shown, scope="row")
    if isinstance(cell, int | _Right):
        return element("td", shown, class_="number")
    return element("td", shown)


def _bar(part: int, whole: int, kind: str) -> Markup:
    return element(
        "svg",
        element("rect", width="100", height="12", class_="scale"),
        element("rect", width=f"{100 * part / max(whole, 1):.1f}", height="12", class_=kind),
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        class_="drawing",
        aria_hidden="true",
        focusable="false",
    )


def _time(moment: datetime) -> Markup:
    return element("time", minute(moment), datetime=moment.astimezone(UTC).isoformat())
