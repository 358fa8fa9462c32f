"""``immunos-mcp export``: all rows, each once, as other programs read them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

import examples
import filled_ledgers
import pytest
import wire
from filled_ledgers import MONDAY, Contents
from hypothesis import given

from immunos_mcp.archive import Archive
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger import schema
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.export import TABLES
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.rules.formatting import csv_cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.ledger.export import ExportedRows

STORED = {
    name: "settings"
    if name == "setting"
    else f"immunos_mcp_{name}".replace("mcp_spend", "mcp_person_spend")
    for name in TABLES
}
PUBLIC = {
    ("session", "name"): "session",
    ("usage", "external_id"): "request_id",
    ("pruned_request", "external_id"): "request_id",
    ("setting", "key"): "setting",
    ("binding", "session_name"): "session",
    ("plan_usage", "plan_window"): "window",
    ("person_plan_usage", "plan_window"): "window",
}
"""Columns whose public name is not the stored one."""
JOINED = ("session_reason", "decision", "usage")
"""Tables that come with the name of the session."""
DATED = {
    "decision": "decided_at",
    "usage": "recorded_at",
    "measured_usage": "measured_at",
    "request_usage": "finished_at",
    "side_usage": "used_at",
    "session": "ended_at",
    "pruned_usage": "day",
    "pruned_decision": "day",
}
"""The column by which a row is of a time."""

Row = dict[str, Any]


def said(home: Path, *arguments: str) -> str:
    done = wire.run(home, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def exported(
    file: Path, tables: Sequence[str] = (), since: datetime | None = None
) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}

    def take(batch: ExportedRows) -> None:
        known = rows.setdefault(batch.table, [])
        known += [dict(zip(batch.columns, row, strict=True)) for row in batch.rows]

    with InlineSqliteLedger(file) as ledger:
        run_sync(Archive(ledger).export(tables, since, take))
    return rows


def stored(file: Path, table: str) -> list[Row]:
    """Read a table past the program, under public names."""
    return stored_in(file, [table])[table]


def stored_in(file: Path, tables: Sequence[str]) -> dict[str, list[Row]]:
    """Read tables past the program, under public names."""
    with closing(sqlite3.connect(file)) as connection:
        sessions = dict(connection.execute("SELECT session_id, name FROM immunos_mcp_session"))
        return {table: list(_stored(connection, table, sessions)) for table in tables}


def _stored(connection: sqlite3.Connection, table: str, sessions: dict[int, str]) -> Iterator[Row]:
    found = connection.execute(f"SELECT * FROM {STORED[table]}")
    names = [PUBLIC.get((table, column), column) for column, *_ in found.description]
    for values in found:
        row: Row = dict(zip(names, values, strict=True))
        yield {**row, "session": sessions[row["session_id"]]} if table in JOINED else row


def in_any_order(rows: list[Row]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def test_every_table_of_the_ledger_is_exported() -> None:
    made = re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", str(schema.STEPS))
    assert set(STORED.values()) == set(made) - set(schema.EARLIER_SUMS)


@pytest.mark.slow
@examples.on_ledgers
@given(filled_ledgers.contents())
def test_all_rows_are_exported_once_with_all_columns(contents: Contents) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        filled_ledgers.fill(file, contents)
        rows = exported(file)
        assert list(rows) == list(TABLES)
        kept = stored_in(file, list(TABLES))
        for table in TABLES:
            assert in_any_order(rows[table]) == in_any_order(kept[table])


@examples.on_ledgers
@given(filled_ledgers.contents())
def test_since_leaves_out_rows_of_an_earlier_time(contents: Contents) -> None:
    # A row of that very moment is not of an earlier one.
    moments = [str(row["decided_at"]) for row in contents.rows("decision")]
    since = datetime.fromisoformat(moments[0]) if moments else MONDAY.replace(hour=20)
    text = utc_text(since)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        filled_ledgers.fill(file, contents)
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "UPDATE immunos_mcp_session SET ended_at = NULL WHERE session_id = 1"
            )
        rows = exported(file, since=since)
        kept = stored_in(file, [*DATED, "record"])
        for table, column in DATED.items():
            begins = text[:10] if column == "day" else text
            # A session that is open is of every time.
            expected = [row for row in kept[table] if (row[column] or begins) >= begins]
            assert in_any_order(rows[table]) == in_any_order(expected)
        assert in_any_order(rows["record"]) == in_any_order(kept["record"])


def test_a_table_that_is_not_there_or_named_twice_is_refused(tmp_path: Path) -> None:
    for tables, message in (
        (["session-reason"], "did you mean 'session_reason'?"),
        (["usage"] * 2, "table: usage is named twice"),
    ):
        with pytest.raises(InvalidInputError, match=re.escape(message)):
            exported(tmp_path / "ledger.db", tables)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ledger with a row or two of everything that names could spoil."""
    sessions: list[filled_ledgers.Row] = [
        {"session_id": number, "name": name, "started_at": utc_text(MONDAY), "end_reason": "a\n,b"}
        for number, name in enumerate(filled_ledgers.NAMES, 1)
    ]
    records: list[filled_ledgers.Row] = [
        {"task_type": "", "model": "m", "seconds": 0.1 + 0.2, "faded_successes": 1e-17},
    ]
    path = tmp_path / "ledger.db"
    filled_ledgers.fill(path, Contents({"session": sessions, "record": records}))
    return path


def test_json_lines_are_rows_that_name_their_table(home: Path, file: Path) -> None:
    lines = [json.loads(line) for line in said(home, "export", "--db", str(file)).splitlines()]
    tables = {line["table"] for line in lines}
    assert tables == {"session", "record", "schema_version"}
    for table in tables:
        rows = [line for line in lines if line["table"] == table]
        expected = [
            {"table": table, **{key: value for key, value in row.items() if value is not None}}
            for row in stored(file, table)
        ]
        assert in_any_order(rows) == in_any_order(expected)


def test_tables_can_be_chosen_in_either_way(home: Path, file: Path) -> None:
    wanted = ("export", "--db", str(file), "--table", "record")
    both = said(home, *wanted, "schema_version")
    assert both == said(home, *wanted, "--table", "schema_version", "--json")
    assert [json.loads(line)["table"] for line in both.splitlines()] == [
        "record",
        *["schema_version"] * schema.LATEST,
    ]


def test_csv_is_one_table_with_its_header(home: Path, file: Path) -> None:
    chosen = ("export", "--db", str(file), "--format", "csv", "--table")
    shown = said(home, *chosen, "session")
    header, *lines = csv.reader(io.StringIO(shown, newline=""))
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    expected = [
        {key: "" if value is None else csv_cell(str(value)) for key, value in row.items()}
        for row in stored(file, "session")
    ]
    assert in_any_order(rows) == in_any_order(expected)
    assert said(home, *chosen, "usage").startswith("usage_id,session_id,session,")
    assert said(home, *chosen, "usage").count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "csv"], "--format csv: needs exactly one --table (got none)"),
        (
            ["--format", "csv", "--table", "usage", "record"],
            "--format csv: needs exactly one --table (got usage, record)",
        ),
        (
            ["--format", "csv", "--json", "--table", "usage"],
            "--format: must be jsonl with --json (got 'csv')",
        ),
        (["--table", "nonsense"], "table: must be one of session, "),
        (["--since", "soon"], "--since: must be a date or time"),
    ],
)
def test_what_cannot_be_exported_is_wrong_usage(
    home: Path, arguments: list[str], message: str
) -> None:
    done = wire.run(home, "export", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_output_is_a_new_file_that_others_cannot_read(home: Path, file: Path) -> None:
    arguments = ("export", "--db", str(file), "--output", "rows.jsonl")
    written = home / "rows.jsonl"
    assert said(home, *arguments) == f"Wrote {written}\n"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text(encoding="utf-8") == said(home, "export", "--db", str(file))
    again = wire.run(home, *arguments)
    assert again.returncode == 2
    assert "must be a new file; this one exists" in again.stderr
    assert [path.name for path in home.iterdir()] == ["rows.jsonl"]


def fill_with_usage(file: Path, rows: int) -> None:
    filled_ledgers.fill(
        file,
        Contents({"session": [{"session_id": 1, "name": "x", "started_at": utc_text(MONDAY)}]}),
    )
    wire.execute(
        file,
        "INSERT INTO immunos_mcp_usage (session_id, recorded_at, model, provider, source,"
        " input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens)"
        f" WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        " SELECT 1, '2026-11-02T00:00:00.000Z', 'm', 'ollama', 'reported', i, 0, 0, 0 FROM n",
    )


def start(
    home: Path, *arguments: str, stdout: IO[bytes] | int | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*wire.AS_INSTALLED, "export", *arguments],
        env=wire.environment(home),
        cwd=home,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that takes long enough to export to be interrupted at it."""
    file = tmp_path_factory.mktemp("large") / "ledger.db"
    fill_with_usage(file, 400_000)
    return file


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_export_leaves_no_file(
    home: Path, large: Path, number: signal.Signals
) -> None:
    file = home / "ledger.db"
    shutil.copy(large, file)
    before = set(home.iterdir())
    with start(home, "--db", str(file), "--output", "rows.jsonl") as process:
        deadline = time.monotonic() + wire.TIMEOUT_SECONDS
        # It has begun to write once its unfinished file has grown.
        while not any(path.stat().st_size for path in home.glob(".immunos-mcp-*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(wire.TIMEOUT_SECONDS) == -number
    assert {path for path in home.iterdir() if not path.name.startswith("ledger.db-")} == before
    assert wire.rows(file, "PRAGMA integrity_check") == [("ok",)]


def test_a_closed_pipe_ends_an_export_quietly(home: Path) -> None:
    file = home / "ledger.db"
    fill_with_usage(file, 50_000)
    with start(home, "--db", str(file), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"table":"session"')
        process.stdout.close()
        assert process.wait(wire.TIMEOUT_SECONDS) == -signal.SIGPIPE
        assert process.stderr.read() == b""


def test_a_disk_that_is_full_is_said_and_not_blamed_on_the_ledger(home: Path, file: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(home, "--db", str(file), stdout=full)
        _, told = process.communicate(timeout=wire.TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert (
        told
        == (
            f"immunos-mcp: standard output cannot be written ({os.strerror(28)}); "
            "free some space or choose another file\n"
        ).encode()
    )


def test_an_export_is_of_one_moment_and_lets_others_write(home: Path) -> None:
    file = home / "ledger.db"
    fill_with_usage(file, 5_000)
    counted = 0

    def take(batch: ExportedRows) -> None:
        nonlocal counted
        if batch.table == "usage":
            counted += len(batch.rows)
            wire.execute(
                file,
                "INSERT INTO immunos_mcp_usage SELECT NULL, session_id, recorded_at, model, provider,"
                " source, NULL, 1, 0, 0, 0, NULL, 1, NULL, NULL FROM immunos_mcp_usage LIMIT 1",
            )

    with InlineSqliteLedger(file) as ledger:
        run_sync(Archive(ledger).export((), None, take))
    assert counted == 5_000
    assert wire.rows(file, "SELECT count(*) > 5000 FROM immunos_mcp_usage") == [(1,)]
