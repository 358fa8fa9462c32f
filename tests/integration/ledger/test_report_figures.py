"""A report's sums are the sums of what was recorded, pruned detail included, in every form."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import examples
import filled_ledgers
from filled_ledgers import MONDAY, Contents
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.archive import Archive
from immunos_mcp.domain import Provider, TokenCounts
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.reports import prices
from immunos_mcp.reports.csv import Line, long_table
from immunos_mcp.reports.page.document import page
from immunos_mcp.reports.text import COLUMNS, text
from immunos_mcp.rules import levels
from immunos_mcp.rules.claude_tiers import CLAUDE_RECORDS
from immunos_mcp.rules.formatting import cells, printable
from immunos_mcp.rules.settings import Settings
from immunos_mcp.rules.track_record import (
    Evidence,
    ModelRecord,
    estimate_claude,
    estimate_local,
    interval,
)

if TYPE_CHECKING:
    from immunos_mcp.answers.report import ReportAnswer

NOW = datetime(2037, 11, 30, 12, 0, tzinfo=UTC)
PRICES = prices.list_prices(NOW)

sinces = st.none() | st.timedeltas(timedelta(0), timedelta(days=25)).map(
    lambda passed: MONDAY + passed
)


def report(contents: Contents, since: datetime | None = None) -> ReportAnswer:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        filled_ledgers.fill(file, contents)
        with InlineSqliteLedger(file) as ledger:
            return run_sync(Archive(ledger, lambda: NOW).report(since, PRICES))


class Reader(HTMLParser):
    """What a browser would make of a page: its elements and its text."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(shown: str) -> Reader:
    reader = Reader()
    reader.feed(shown)
    reader.close()
    assert reader.open == []
    return reader


NUMBER = re.compile(r"-?\d+(\.\d+)?")


@examples.on_ledgers
@given(filled_ledgers.contents(), sinces)
def test_the_sums_are_those_of_the_rows_that_count(
    contents: Contents, since: datetime | None
) -> None:
    answer = report(contents, since)
    totals = {provider: TokenCounts() for provider in Provider}
    records = 0
    by_model: dict[tuple[object, object], TokenCounts] = {}
    for row, counts, usage_records in contents.usage(since):
        totals[Provider(str(row["provider"]))] += counts
        key = (row["provider"], row["model"])
        by_model[key] = by_model.get(key, TokenCounts()) + counts
        records += usage_records
    assert answer.claude_tokens == totals[Provider.CLAUDE]
    assert answer.ollama_tokens == totals[Provider.OLLAMA]
    assert answer.kept_local_tokens == totals[Provider.OLLAMA].total
    assert answer.budget_tokens == levels.budget_tokens(totals[Provider.CLAUDE], Settings())
    assert sum((each.claude_tokens for each in answer.usage), TokenCounts()) == answer.claude_tokens
    assert sum((each.ollama_tokens for each in answer.usage), TokenCounts()) == answer.ollama_tokens
    assert {(each.provider, each.model): each.tokens for each in answer.models} == by_model
    assert sum(each.usage_records for each in answer.models) == records
    assert sum(each.usage_records for each in answer.sources) == records
    hosted = totals[Provider.CLAUDE] + totals[Provider.HOSTED]
    assert sum((each.tokens for each in answer.projects), TokenCounts()) == hosted
    assert sum((each.tokens for each in answer.assistants), TokenCounts()) == hosted
    whole = (answer.prices.claude_cost_usd or 0) + (answer.prices.hosted_cost_usd or 0)
    for parts in (answer.usage, answer.projects, answer.assistants):
        assert math.isclose(sum(each.cost_usd for each in parts), whole, abs_tol=1e-3)


@examples.on_ledgers
@given(filled_ledgers.contents(), sinces)
def test_every_period_holds_what_was_used_in_it(contents: Contents, since: datetime | None) -> None:
    answer = report(contents, since)
    by_start: dict[str, TokenCounts] = {}
    characters = {"hour": 13, "day": 10}[answer.period]
    moments: list[str] = []
    for row, counts, _ in contents.usage(since):
        moment = next(
            str(row[name])
            for name in ("recorded_at", "measured_at", "finished_at", "used_at", "day")
            if name in row
        )
        moments.append(moment)
        start = moment[:characters]
        shown = TokenCounts() if row["provider"] == "hosted" else counts
        by_start[start] = by_start.get(start, TokenCounts()) + shown
    assert {
        each.start.isoformat()[:characters]: each.claude_tokens + each.ollama_tokens
        for each in answer.usage
    } == by_start
    if moments and all(len(moment) > 10 for moment in moments):
        first, last = min(moments), max(moments)
        passed = datetime.fromisoformat(last) - datetime.fromisoformat(first)
        assert answer.period == ("hour" if passed <= timedelta(days=2) else "day")
    else:
        assert answer.period == "day"


@examples.on_ledgers
@given(filled_ledgers.contents(), sinces)
def test_decisions_are_counted_by_reason_with_those_that_were_pruned(
    contents: Contents, since: datetime | None
) -> None:
    expected: dict[str, tuple[int, int, int]] = {}
    for reason, *figures in contents.decisions(since):
        so_far = expected.get(reason, (0, 0, 0))
        expected[reason] = (
            so_far[0] + figures[0],
            so_far[1] + figures[1],
            so_far[2] + figures[2],
        )
    counted: dict[str, tuple[int, int, int]] = {}
    for each in report(contents, since).decisions:
        so_far = counted.get(each.reason, (0, 0, 0))
        counted[each.reason] = (
            so_far[0] + each.decisions,
            so_far[1] + each.successes,
            so_far[2] + each.failures,
        )
    assert counted == expected


@examples.on_ledgers
@given(filled_ledgers.contents())
def test_records_carry_the_estimates_of_the_track_record(contents: Contents) -> None:
    answer = report(contents)
    rows = {(row["task_type"], row["model"]): row for row in contents.rows("record")}

    def evidence(task_type: str, model: str) -> Evidence:
        row = rows.get((task_type, model))
        if row is None:
            return Evidence()
        moments = [
            None if row[name] is None else datetime.fromisoformat(str(row[name]))
            for name in ("newest_at", "tried_at")
        ]
        return Evidence(
            float(row["faded_successes"] or 0),
            float(row["faded_failures"] or 0),
            moments[0],
            bool(row["newest_succeeded"]),
            moments[1],
        )

    assert len(answer.records) == sum(bool(task_type) for task_type, _ in rows)
    for line in answer.records:
        known = ModelRecord(evidence(line.task_type, line.model), evidence("", line.model))
        estimate_of = estimate_claude if line.model in CLAUDE_RECORDS else estimate_local
        estimate = estimate_of(known, Settings(), NOW)
        assert line.expected_success_rate == round(estimate.rate, 4)
        low, high = interval(estimate)
        assert (line.rate_at_least, line.rate_at_most) == (round(low, 4), round(high, 4))
        assert line.tokens == rows[line.task_type, line.model]["tokens"]


@examples.on_ledgers
@given(filled_ledgers.contents(), sinces)
def test_the_text_fits_80_columns_and_cannot_steer_a_terminal(
    contents: Contents, since: datetime | None
) -> None:
    shown = text(report(contents, since))
    assert max(cells(line) for line in shown.split("\n")) <= COLUMNS == 80
    assert printable(shown.replace("\n", "")) == shown.replace("\n", "")


@examples.on_ledgers
@given(filled_ledgers.contents(), sinces)
def test_the_table_has_every_figure_once_and_no_formula(
    contents: Contents, since: datetime | None
) -> None:
    answer = report(contents, since)
    header, *lines = csv.reader(io.StringIO(long_table(answer), newline=""))
    assert header == list(Line._fields)
    figures = [Line(*line) for line in lines]
    keys = Counter(figure[:-1] for figure in figures)
    assert [key for key, count in keys.items() if count > 1] == []
    cells = {cell for line in lines for cell in line if not NUMBER.fullmatch(cell)}
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    for provider, counts in (("claude", answer.claude_tokens), ("ollama", answer.ollama_tokens)):
        for section in ("total", "usage", "model", "source"):
            assert counts.input_tokens == sum(
                int(figure.value)
                for figure in figures
                if figure[0] == section
                and figure.provider == provider
                and figure.measure == "input_tokens"
            )


@examples.on_ledgers
@given(filled_ledgers.contents(), sinces)
def test_the_page_is_well_formed_and_shows_names_as_text_alone(
    contents: Contents, since: datetime | None
) -> None:
    answer = report(contents, since)
    reader = read(page(answer))
    assert reader.elements.keys().isdisjoint({"script", "img", "iframe", "link", "b", "object"})
    assert not any(
        name.startswith("on") or name in {"src", "style"} for name, _ in reader.attributes
    )
    links = [value for name, value in reader.attributes if name == "href"]
    assert all(value is not None and value.startswith("#") for value in links)
    identities = [value for name, value in reader.attributes if name == "id"]
    assert len(identities) == len(set(identities))
    assert {value for value in links if value} <= {f"#{value}" for value in identities}
    words = set(reader.words)
    assert {printable(session.session) for session in answer.sessions} <= words
    assert {printable(model.model) for model in answer.models} <= words


@examples.on_ledgers
@given(filled_ledgers.contents())
def test_the_json_is_one_line_with_the_same_figures(contents: Contents) -> None:
    answer = report(contents)
    said = to_json(answer)
    assert "\n" not in said
    parsed = json.loads(said)
    assert parsed["budget_tokens"] == answer.budget_tokens
    assert len(parsed["usage"]) == len(answer.usage)


def test_an_empty_ledger_is_told_what_to_do_instead_of_empty_charts() -> None:
    answer = report(Contents())
    assert "immunos-mcp sync --all" in text(answer)
    reader = read(page(answer))
    assert "immunos-mcp sync --all" in reader.words
    assert reader.elements["svg"] == reader.elements["table"] == 0


def test_sessions_that_ended_before_the_moment_are_left_out_and_open_ones_are_not() -> None:
    def session(number: int, ended_at: str | None) -> filled_ledgers.Row:
        return {
            "session_id": number,
            "name": f"s{number}",
            "started_at": "2026-11-02T00:00:00.000Z",
            "ended_at": ended_at,
            "claude_input_tokens": 150_000,
        }

    ended = ["2026-11-03T00:00:00.000Z", "2026-11-04T00:00:00.000Z", None]
    contents = Contents({"session": [session(*each) for each in enumerate(ended, 1)]})
    answer = report(contents, datetime(2026, 11, 4, tzinfo=UTC))
    assert [each.session_id for each in answer.sessions] == [3, 2]
    assert {each.warning_level for each in answer.sessions} == {"warning"}
    assert {each.percent_used for each in answer.sessions} == {75.0}


def test_records_beyond_the_most_that_are_shown_are_counted() -> None:
    rows: list[filled_ledgers.Row] = [
        {"task_type": f"task_{number}", "model": "m:1b", "successes": number}
        for number in range(203)
    ]
    answer = report(Contents({"record": rows}))
    assert (len(answer.records), answer.records_left_out) == (200, 3)
    assert answer.records[0].task_type == "task_202"
    assert "and 163 more" in text(answer)
    assert "3 more records, with fewer outcomes" in page(answer)
