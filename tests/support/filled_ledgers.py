"""Ledgers that were filled row by row, past the program, with whatever could be in one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import made_ledgers
from hypothesis import strategies as st

from immunos_mcp.domain import Provider, Reason, TokenCounts
from immunos_mcp.ledger.connections.sqlite_file import connect
from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)

NAMES = (
    "default",
    "<script>alert('x')</script>",
    '"><img src=x onerror=alert(1)>&amp;',
    "=cmd|' /C calc'!A0",
    "a session name that is as long as any that the program takes ....",
    "会议室的预算和其他很多东西的名字都很长很长",
    "\x1b[31mred\x00\u202e",
    "e\u0301te\u0301",
)
MODELS = (
    ("claude-sonnet-4-5-20250929", Provider.CLAUDE),
    ("claude-opus-4-10", Provider.CLAUDE),
    ("<b>claude</b>-🦀", Provider.CLAUDE),
    ("gpt-5", Provider.HOSTED),
    ("qwen2.5-coder:7b", Provider.OLLAMA),
    ("hf.co/somebody/a-model-with-quite-a-long-name-GGUF:Q4_K_M", Provider.OLLAMA),
)

Row = dict[str, "str | int | float | None"]


@dataclass(frozen=True)
class Contents:
    """Rows by the public name of their table; ``immunos_mcp_`` is left out."""

    tables: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])

    def rows(self, table: str) -> list[Row]:
        return self.tables.get(table, [])

    def usage(self, since: datetime | None) -> Iterator[tuple[Row, TokenCounts, int]]:
        """Give the usage that counts: a row, its tokens, and of how many responses."""
        text = "" if since is None else utc_text(since)
        for table, moment in (
            ("usage", "recorded_at"),
            ("measured_usage", "measured_at"),
            ("request_usage", "finished_at"),
            ("side_usage", "used_at"),
            ("pruned_usage", "day"),
        ):
            for row in self.rows(table):
                begins = text[:10] if moment == "day" else text
                counts = row.get("counted", 1) or row["provider"] == "ollama"
                if counts and str(row[moment]) >= begins:
                    kinds = TokenCounts(*(int(row[kind] or 0) for kind in KINDS))
                    records = row.get("usage_records") or row.get("is_first", 1)
                    yield row, kinds, int(records or 0)

    def decisions(self, since: datetime | None) -> Iterator[tuple[str, int, int, int]]:
        """Give the reason, the number, the successes and the failures of decisions."""
        text = "" if since is None else utc_text(since)
        for row in self.rows("decision"):
            if str(row["decided_at"]) >= text:
                outcome = row["outcome"]
                yield str(row["reason"]), 1, int(outcome == "success"), int(outcome == "failure")
        for row in self.rows("pruned_decision"):
            if str(row["day"]) >= text[:10]:
                yield (
                    str(row["reason"]),
                    int(row["decisions"] or 0),
                    int(row["successes"] or 0),
                    int(row["failures"] or 0),
                )


def fill(file: Path, contents: Contents) -> None:
    """Make a ledger that has these rows and no others."""
    made_ledgers.put(file, made_ledgers.empty())
    with closing(connect(file, 30)) as connection:
        connection.execute("BEGIN")
        for table, rows in contents.tables.items():
            for row in rows:
                _insert(connection, table, row)
        connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, table: str, row: Row) -> None:
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO immunos_mcp_{table} ({columns}) VALUES ({places})", tuple(row.values())
    )


tokens = st.integers(0, 5) | st.integers(0, 10**12)
small = st.integers(0, 10**6)
names = st.sampled_from(NAMES)
spans = st.sampled_from((timedelta(hours=40), timedelta(days=20), timedelta(days=4000)))


def distinct(rows: list[Row], *key: str) -> list[Row]:
    """Leave out rows whose key another has already."""
    return list({tuple(row[name] for name in key): row for row in rows}.values())


@st.composite
def contents(draw: st.DrawFn) -> Contents:
    """Arbitrary contents of a ledger, over hours, days or years."""
    span = draw(spans)
    moments = st.timedeltas(timedelta(0), span).map(lambda passed: utc_text(MONDAY + passed))
    days = moments.map(lambda moment: moment[:10])

    def usage() -> Row:
        model, provider = draw(st.sampled_from(MODELS))
        return {
            "model": model,
            "provider": provider.value,
            **{kind: draw(tokens) for kind in KINDS},
        }

    def outcomes() -> Row:
        return {
            "successes": draw(small),
            "failures": draw(small),
            "tokens": draw(tokens),
            "seconds": draw(st.floats(0, 10**6)),
            "faded_successes": draw(st.floats(0, 10**6)),
            "faded_failures": draw(st.floats(0, 10**6)),
            "newest_at": draw(st.none() | moments),
            "newest_succeeded": draw(st.integers(0, 1)),
            "tried_at": draw(st.none() | moments),
        }

    def many(most: int = 6) -> range:
        return range(draw(st.integers(0, most)))

    sessions: list[Row] = [
        {
            "session_id": number,
            "name": draw(names),
            "started_at": draw(moments),
            "ended_at": draw(moments),
            "end_reason": draw(st.none() | names),
            "claude_input_tokens": draw(tokens),
            "local_output_tokens": draw(tokens),
            "usage_records": draw(small),
            "pace_tokens": draw(st.floats(0, 10**9)),
        }
        for number in range(1, draw(st.integers(1, 25)) + 1)
    ]
    ids = st.integers(1, len(sessions))
    reasons = st.sampled_from([reason.value for reason in Reason])
    providers = st.sampled_from([provider.value for provider in Provider])
    decisions: list[Row] = [
        {
            "decision_id": number,
            "session_id": draw(ids),
            "policy_id": 1,
            "decided_at": draw(moments),
            "task_type": "debug",
            "classification": "routine",
            "session_tokens": draw(tokens),
            "model": draw(names),
            "provider": draw(providers),
            "reason": draw(reasons),
            "warning_level": "normal",
            "changed_by": draw(st.none() | st.just("availability")),
            "outcome": draw(st.sampled_from(["success", "failure", None])),
        }
        for number in many()
    ]

    def pruned_usage() -> Row:
        return {
            "day": draw(days),
            **usage(),
            "source": draw(st.sampled_from(["reported", "measured"])),
            "counted": draw(st.integers(0, 1)),
            "usage_records": draw(small) + 1,
        }

    def pruned_decision() -> Row:
        return {
            "day": draw(days),
            "reason": draw(reasons),
            "provider": draw(providers),
            "model": "m",
            "changed_by": draw(st.sampled_from(["", "track_record"])),
            "decisions": draw(small),
            "successes": draw(small),
            "failures": draw(small),
        }

    def record() -> Row:
        task_type = draw(st.sampled_from(["", "debug", "code_review", "x" * 64]))
        model = draw(st.sampled_from(["claude", "qwen2.5-coder:7b", MODELS[-1][0]]))
        return {"task_type": task_type, "model": model, **outcomes()}

    return Contents(
        {
            "policy": [{"policy_id": 1, "settings": "{}", "first_used_at": utc_text(MONDAY)}],
            "session": sessions,
            "decision": decisions,
            "usage": [
                {
                    **usage(),
                    "session_id": draw(ids),
                    "recorded_at": draw(moments),
                    "source": draw(st.sampled_from(["reported", "delegated"])),
                    "counted": draw(st.integers(0, 1)),
                    "external_id": draw(st.sampled_from([None, f"request {number}"])),
                }
                for number in many()
            ],
            "measured_usage": [
                {
                    **usage(),
                    "message_id": f"message {number}",
                    "measured_at": draw(moments),
                    "folder": draw(st.none() | names),
                    "cache_1h_input_tokens": draw(st.none() | st.just(0)),
                    "speed": draw(st.sampled_from([None, "fast"])),
                    "region": draw(st.sampled_from([None, "us"])),
                    "web_searches": draw(st.none() | st.integers(0, 9)),
                }
                for number in many()
            ],
            "request_usage": [
                {**usage(), "request_id": f"request {number}", "finished_at": draw(moments)}
                for number in many(3)
            ],
            "side_usage": [
                {
                    **usage(),
                    "used_at": draw(moments),
                    "conversation": "one",
                    "start_ms": number,
                    "is_first": draw(st.integers(0, 1)),
                    "cache_1h_input_tokens": 0,
                    "web_searches": 0,
                }
                for number in many(3)
            ],
            "pruned_usage": distinct(
                [pruned_usage() for _ in many(3)], "day", "provider", "model", "source", "counted"
            ),
            "pruned_decision": distinct(
                [pruned_decision() for _ in many(3)], "day", "reason", "provider", "changed_by"
            ),
            "record": distinct([record() for _ in many(4)], "task_type", "model"),
        }
    )
