"""The status line: one line whatever comes in, and the plan's usage stored on the way."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
import statuses
import wire
from transcript_lines import Answer, append, transcript

from immunos_mcp.cli.status_line import LARGEST_CATCH_UP, line, plan_usage, read_input
from immunos_mcp.domain import PlanUsage, WarningLevel

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.answers.status import StatusAnswer

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

RESETS_AT = datetime(2199, 11, 18, 15, 6, 40, tzinfo=UTC)
NOW = datetime(2026, 11, 18, tzinfo=UTC)
INPUT: dict[str, Any] = {
    "model": {"id": "claude-sonnet-5", "display_name": "Sonnet 5"},
    "rate_limits": {
        "five_hour": {"used_percentage": 42, "resets_at": int(RESETS_AT.timestamp())},
        "seven_day": {"used_percentage": 17.5, "resets_at": int(RESETS_AT.timestamp())},
    },
}


def show(home: Path, given: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wire.PROGRAM, "statusline"],
        input=given,
        env=wire.environment(home, NO_COLOR="1", **variables),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=30,
    )


def run(home: Path, *arguments: str) -> None:
    subprocess.run(
        [*wire.PROGRAM, *arguments],
        env=wire.environment(home),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )


def test_it_shows_what_claude_code_just_wrote_down(tmp_path: Path) -> None:
    run(tmp_path, "route", "--task-type", "debug", "--classification", "routine")
    file = transcript(tmp_path / ".claude" / "projects")
    append(file, Answer("m1", 100_000, at=datetime.now(UTC) + timedelta(minutes=1)))
    done = show(tmp_path, json.dumps(INPUT))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "█████░░░░░ 100k/200k · normal · 5h 42% · 7d 18% · Sonnet 5\n"


def test_more_unread_than_a_refresh_reads_is_left_to_others(tmp_path: Path) -> None:
    run(tmp_path, "route", "--task-type", "debug", "--classification", "routine")
    file = transcript(tmp_path / ".claude" / "projects")
    append(file, Answer("m1", 100_000, at=datetime.now(UTC) + timedelta(minutes=1)))
    with file.open("a") as lines:
        lines.write("x" * LARGEST_CATCH_UP + "\n")
    done = show(tmp_path, "{}")
    assert (done.stdout, done.stderr) == ("░░░░░░░░░░ 0/200k · normal · not up to date\n", "")
    run(tmp_path, "status")
    done = show(tmp_path, "{}")
    assert (done.stdout, done.stderr) == ("█████░░░░░ 100k/200k · normal\n", "")


def test_as_much_unread_as_a_refresh_reads_is_read(tmp_path: Path) -> None:
    run(tmp_path, "route", "--task-type", "debug", "--classification", "routine")
    file = transcript(tmp_path / ".claude" / "projects")
    append(file, Answer("m1", 100_000, at=datetime.now(UTC) + timedelta(minutes=1)))
    with file.open("a") as lines:
        lines.write("x" * (LARGEST_CATCH_UP - file.stat().st_size - 1) + "\n")
    assert file.stat().st_size == LARGEST_CATCH_UP
    done = show(tmp_path, "{}")
    assert (done.stdout, done.stderr) == ("█████░░░░░ 100k/200k · normal\n", "")


def test_the_plans_usage_is_stored(tmp_path: Path) -> None:
    show(tmp_path, json.dumps(INPUT))
    with closing(sqlite3.connect(tmp_path / ".immunos" / "db" / "immunos.db")) as connection:
        assert connection.execute(
            "SELECT plan_window, used_percentage, resets_at FROM immunos_mcp_plan_usage ORDER BY 1"
        ).fetchall() == [
            ("five_hour", 42.0, "2199-11-18T15:06:40.000Z"),
            ("seven_day", 17.5, "2199-11-18T15:06:40.000Z"),
        ]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "{bad",
        "[]",
        "null",
        '{"model":5,"rate_limits":[]}',
        '{"model":{"display_name":"\\ud83d"}}',
        '{"a":' * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        f'{{"a":1{"0" * 5000}}}',
        "x" * 20_000_000,
        "\0" * 1000,
    ],
    ids=lambda given: given[:12],
)
def test_input_that_makes_no_sense_still_gives_a_line(tmp_path: Path, given: str) -> None:
    done = show(tmp_path, given)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "░░░░░░░░░░ 0/200k · normal\n"


def test_a_ledger_that_cannot_be_used_still_gives_a_line(tmp_path: Path) -> None:
    done = show(tmp_path, json.dumps(INPUT), IMMUNOS_DB=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("immunos: ledger ")
    assert done.stdout.count("\n") == 1


def test_a_ledger_that_is_being_written_is_not_waited_for(tmp_path: Path) -> None:
    show(tmp_path, "{}")
    database = tmp_path / ".immunos" / "db" / "immunos.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        done = show(tmp_path, json.dumps(INPUT))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "░░░░░░░░░░ 0/200k · normal · 5h 42% · 7d 18% · Sonnet 5\n"


@pytest.mark.parametrize(
    "limit",
    [
        None,
        {},
        {"used_percentage": "many", "resets_at": 7000000000},
        {"used_percentage": True, "resets_at": 7000000000},
        {"used_percentage": -1, "resets_at": 7000000000},
        {"used_percentage": float("nan"), "resets_at": 7000000000},
        {"used_percentage": 42, "resets_at": 10**12},
        {"used_percentage": 42, "resets_at": int(NOW.timestamp())},
        {"used_percentage": 42},
    ],
)
def test_a_plans_window_that_cannot_be_read_is_left_out(limit: Any) -> None:
    given: Any = {"rate_limits": {**INPUT["rate_limits"], "five_hour": limit}}
    assert plan_usage(given, NOW) == (PlanUsage("seven_day", 17.5, RESETS_AT),)


@pytest.mark.parametrize(
    "given",
    [
        b"\xef\xbb\xbf%s",
        b"\0\0%s\0",
        b'{"model": {"disp%s',
        b"{} %s",
        json.dumps(INPUT).encode()[:90] + b"%s",
        b'{"text": "\\ud83d \xe9", ' + json.dumps(INPUT).encode()[1:],
    ],
)
def test_damaged_input_is_read_as_far_as_it_can_be(given: bytes) -> None:
    received = given.replace(b"%s", json.dumps(INPUT).encode())
    assert len(plan_usage(cast("Any", read_input(received)), NOW)) == 2


def test_numbers_as_text_are_taken() -> None:
    text = {"used_percentage": "42.5", "resets_at": str(int(RESETS_AT.timestamp()))}
    given: Any = {"rate_limits": {"five_hour": text}}
    assert plan_usage(given, NOW) == (PlanUsage("five_hour", 42.5, RESETS_AT),)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"----------"),
        ({"PYTHONIOENCODING": "cp1252"}, b"----------"),
        ({"PYTHONIOENCODING": "gbk"}, b"----------"),
        ({"PYTHONIOENCODING": "utf-8"}, "░░".encode()),
        ({"PYTHONIOENCODING": "utf-16"}, "-".encode("utf-16")[:1]),
        ({"LANG": "en_US.ISO-8859-1", "LC_ALL": "en_US.ISO-8859-1"}, b""),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"----------"),
        ({"LC_ALL": "POSIX"}, b""),
    ],
)
def test_a_line_comes_under_any_encoding(
    tmp_path: Path, variables: dict[str, str], expected: bytes
) -> None:
    done = subprocess.run(
        [*wire.AS_INSTALLED, "statusline"],
        input=json.dumps({**INPUT, "model": {"display_name": "Sönnet 5"}}).encode(),
        env=wire.environment(tmp_path, NO_COLOR="1", **variables),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert (done.stderr, done.stdout.count(b"\n")) == (b"", 1)
    assert done.stdout.startswith(expected)


@pytest.mark.parametrize("stream", ["0<&-", "2>&-", "0<&- 2>&-", "| true"])
def test_closed_streams_and_readers_that_are_gone_do_not_matter(
    tmp_path: Path, stream: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m immunos_mcp statusline {stream}', sys.executable],
        stdin=subprocess.DEVNULL,
        env=wire.environment(tmp_path),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("state", ["newer", "damaged", "text", "locked", "empty"])
def test_whatever_the_ledger_is_like_there_is_a_line(tmp_path: Path, state: str) -> None:
    run(tmp_path, "status")
    file = wire.ledger_path(tmp_path)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        if state == "newer":
            other.execute("INSERT INTO immunos_mcp_schema_version VALUES (99, '2030-01-01')")
        if state == "locked":
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            other.execute("DELETE FROM settings")
        if state == "damaged":
            file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * 200_000)
        if state in {"text", "empty"}:
            file.write_text("Dear diary.\n" * 500 if state == "text" else "")
        done = show(tmp_path, json.dumps(INPUT))
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


def test_input_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*wire.AS_INSTALLED, "statusline"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=wire.environment(tmp_path, NO_COLOR="1"),
    )
    assert process.wait(30) == 0
    out, _ = process.communicate()
    assert out.decode() == "░░░░░░░░░░ 0/200k · normal\n"


LOW: dict[str, Any] = {
    "session_tokens": 160_000,
    "percent_used": 80.0,
    "warning_level": WarningLevel.WARNING,
    "recommended_model": "mixed",
    "message": "Budget is running low.",
    "reported_tokens": 160_000,
}


def status(**changes: Any) -> StatusAnswer:
    return statuses.status(**{**LOW, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "████████░░ 160k/200k · warning"),
        ({"session_tokens": 999}, "░░░░░░░░░░ 999/200k · warning"),
        ({"session_tokens": 2_500_000}, "██████████ 2.5M/200k · warning"),
        ({"minutes_to_auto_switch": 119}, "████████░░ 160k/200k · warning · all local in 119 min"),
        (
            {"minutes_to_warning": 120, "minutes_to_auto_switch": 9},
            "████████░░ 160k/200k · warning · warning in 2 h",
        ),
        ({"minutes_to_warning": 9000}, "████████░░ 160k/200k · warning · warning in 6 d"),
        ({"kept_local_tokens": 12_345}, "████████░░ 160k/200k · warning · 12k kept local"),
        (
            {"other_assistants": {"codex": 12_345, "gemini": 0, "opencode": 7}},
            "████████░░ 160k/200k · warning · codex 12k · opencode 7",
        ),
    ],
)
def test_the_line_says_what_there_is_to_say(changes: dict[str, Any], expected: str) -> None:
    assert line(status(**changes), (), None, coloured=False) == expected


def test_the_bar_has_the_levels_colour_where_colour_is_wanted() -> None:
    shown = line(status(), (), None, coloured=True)
    assert shown == "\x1b[33m████████░░\x1b[0m 160k/200k · warning"


def test_the_same_line_comes_through_the_argument_parser(tmp_path: Path) -> None:
    done = subprocess.run(
        [*wire.PROGRAM, "--session", "x", "statusline"],
        input="{}",
        env=wire.environment(tmp_path, NO_COLOR="1"),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("░░░░░░░░░░ 0/200k · normal\n", "")
