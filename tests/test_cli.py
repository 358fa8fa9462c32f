"""The command line as a person or a script meets it: run for real, in an empty home."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest
import wire

from immunos_mcp import __version__

if TYPE_CHECKING:
    from pathlib import Path


def said(home: Path, *arguments: str) -> str:
    done = wire.run(home, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n")


def refused(home: Path, *arguments: str, code: int = 2) -> str:
    done = wire.run(home, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_day_at_the_command_line(home: Path) -> None:
    assert said(home, "route", "--task-type", "Code Review", "--classification", "routine") == (
        "Use qwen2.5-coder:7b (ollama): task_optimized. Session 0 tokens, normal. decision_id 1"
    )
    usage = ("record", "--model", "claude-sonnet-4.5", "--output", "0", "--input")
    assert said(home, *usage, "150000", "--decision-id", "1", "--outcome", "success") == (
        "Recorded. Session 150000 tokens, warning (threshold crossed). Kept local 0"
    )
    essay = ("route", "--classification", "routine", "--task-type", "essay", "--tokens", "5")
    assert said(home, *essay) == (
        "Use qwen2.5-coder:7b (ollama): token_budget_warning. Session 150000 tokens, warning. "
        "decision_id 2. After it: 150000, warning"
    )
    said(home, *usage, "30000", "--request-id", "r1", "--cache-read", "7", "--cache-creation", "1")
    repeated = said(
        home, *usage, "30000", "--request-id", "r1", "--cache-read", "7", "--cache-creation", "1"
    )
    assert repeated.startswith("Already recorded, nothing changed. Session 180001 tokens, critical")
    assert said(home, "route", "--task-type", "x", "--classification", "critical").startswith(
        "Use qwen2.5-coder:7b (ollama): token_budget_exceeded."
    )
    shown = said(home, "status").splitlines()
    assert shown[1].startswith("[##################--] 90 %  180,001 of 200,000 budget tokens")
    assert "Decisions    task_optimized 1, token_budget_exceeded 1, token_budget_warning 1" in shown
    assert said(home, "reset", "--reason", "new day") == (
        "Session 2 opened. Session 1 closed at 180001 tokens, 0 kept local, 3 decisions"
    )
    decisions = [line.split() for line in said(home, "history").splitlines()]
    assert [line[0] for line in decisions] == ["id", "3", "2", "1"]
    assert decisions[-1][-1] == "success"
    sessions = said(home, "history", "sessions").splitlines()
    assert sessions[2].endswith("new day")


def test_every_command_speaks_json(home: Path) -> None:
    wire.run_json(home, "route", "--task-type", "debug", "--classification", "routine")
    assert wire.run_json(
        home, "record", "--model", "llama3:8b", "--input", "1", "--output", "2"
    ) == {"session_tokens": 0, "kept_local_tokens": 3, "warning_level": "normal"}
    assert wire.run_json(home, "status")["decisions"] == {"task_optimized": 1}
    assert wire.run_json(home, "config", "set", "session_limit=300000")["changes"] == {
        "session_limit": {"before": 200000, "after": 300000}
    }
    assert wire.run_json(home, "config", "get", "session_limit") == {"session_limit": 300000}
    (change,) = wire.run_json(home, "config", "history")
    assert (change["setting"], change["after"]) == ("session_limit", "300000")
    assert wire.run_json(home, "reset")["closed_decisions"] == 1
    (decision,) = wire.run_json(home, "history", "--session", "default")
    assert decision["decision"]["model"] == "qwen2.5-coder:7b"
    assert [entry["session_id"] for entry in wire.run_json(home, "history", "sessions")] == [2, 1]
    assert wire.run_json(home, "sync", "--all") == {"transcripts": 0, "added": 0}
    assert wire.run_json(home, "bind", str(home)) == {"session": "default", "folder": str(home)}
    assert wire.run_json(home, "bind") == {"session": "default"}


def test_settings_are_set_shown_and_unset(home: Path) -> None:
    assert said(home, "config", "set", "token_warning_threshold", "1000") == (
        "Changed: token_warning_threshold 150000 -> 1000"
    )
    dry = said(home, "config", "set", "--dry-run", "auto_switch_threshold=2000")
    assert dry == (
        "Would change: token_auto_switch_threshold 180000 -> 2000. Of the last 0 decisions "
        "0 would differ: 0 to Ollama, 0 to Claude"
    )
    assert said(home, "config", "set", "task_mappings.Translate=m:1", "cache_read_weight=0.1") == (
        "Changed: cache_read_weight 0 -> 0.1, task_mappings.translate none -> m:1"
    )
    assert said(home, "config", "get", "task_mappings.translate") == "m:1"
    assert said(home, "config", "get", "warning_threshold") == "1000"
    listed = said(home, "config").splitlines()
    assert "cache_read_weight = 0.1" in listed
    assert "task_mappings.translate = m:1" in listed
    assert said(home, "config", "unset", "warning_threshold", "task_mappings.translate") == (
        "Changed: token_warning_threshold 1000 -> 150000, task_mappings.translate m:1 -> none"
    )
    assert said(home, "config", "unset", "task_mappings").startswith("Changed: ")
    history = said(home, "config", "history").splitlines()
    assert "immunos-mcp command line" in history[1]


def test_flags_win_over_variables_and_work_before_and_after_the_command(home: Path) -> None:
    flagged, named = home / "flag.db", home / "variable.db"
    task = ("--task-type", "debug", "--classification", "routine")
    variables = {"IMMUNOS_DB": str(named), "IMMUNOS_SESSION": "variable"}
    wire.run(home, "route", *task, variables=variables)
    wire.run(home, "--session", "first", "route", *task, variables=variables)
    wire.run(home, "route", *task, "--session", "last", "--db", str(flagged), variables=variables)
    names = "SELECT name FROM immunos_mcp_session ORDER BY 1"
    assert wire.rows(named, names) == [("first",), ("variable",)]
    assert wire.rows(flagged, names) == [("last",)]
    assert not wire.ledger_path(home).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["route", "--task-type", "x"], "--classification"),
        (["route", "--task-type", "x", "--classification", "urgent"], "invalid choice: 'urgent'"),
        (["route", "--task-type", "!", "--classification", "routine"], "task_type: got '!'"),
        (
            ["route", "--task-type", "x", "--classification", "routine", "--tokens", "1.5"],
            "got '1.5', takes a whole number",
        ),
        (["record", "--model", "m", "--input", "-1", "--output", "0"], "input_tokens: got -1"),
        (
            ["record", "--model", "m", "--input", "1", "--output", "0", "--outcome", "success"],
            "outcome: got 'success', takes a decision_id with it",
        ),
        (
            ["record", "--model", "m", "--input", "1", "--output", "0", "--decision-id", "9"],
            "decision_id: got 9, takes the decision_id of a route_task answer",
        ),
        (["config", "set", "session_limit"], "got 'session_limit', takes NAME=VALUE"),
        (["config", "set", "nonsense=1"], "setting: got 'nonsense', takes one of"),
        (["config", "set", "session_limit.x=1"], "takes session_limit without a part"),
        (["config", "set", "session_limit=x"], "session_limit: got 'x'"),
        (["config", "get", "task_mappings.none"], "takes a task type that is mapped"),
        (["config", "unset", "nonsense"], "setting: got 'nonsense'"),
        (["--session", "", "status"], "--session: got ''"),
        (["history", "--limit", "0"], "got 0, takes a whole number from 1"),
        (["sync"], "--since"),
        (["sync", "--since", "yesterday"], "got 'yesterday', takes a date or time"),
        (["bind", "/does/not/exist"], "takes a folder that exists"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_taken(
    home: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(home, *arguments)


def test_a_bad_variable_is_wrong_usage_too(home: Path) -> None:
    done = wire.run(home, "status", variables={"IMMUNOS_TRANSCRIPTS": "maybe"})
    assert done.returncode == 2
    assert "IMMUNOS_TRANSCRIPTS: got 'maybe', takes on or off" in done.stderr


def test_a_ledger_that_cannot_be_used_exits_with_1(home: Path) -> None:
    assert refused(home, "status", "--db", str(home), code=1) == (
        f"immunos-mcp: ledger {home} is a folder; name a file with --db or IMMUNOS_DB\n"
    )


def test_help_has_examples_and_the_version_is_told(home: Path) -> None:
    assert "immunos-mcp route --task-type code_review" in said(home, "--help")
    assert "immunos-mcp config set token_warning_threshold=100000" in said(
        home, "config", "set", "--help"
    )
    assert said(home, "--version") == f"immunos-mcp {__version__}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_scripts_know_the_commands(home: Path, shell: str) -> None:
    script = said(home, "completion", shell)
    assert "route" in script
    assert "completion" in script


def test_the_bash_completion_is_a_valid_script(home: Path) -> None:
    script = said(home, "completion", "bash")
    subprocess.run(["bash", "-n"], input=script, encoding="utf-8", check=True)


def test_history_into_a_pipe_that_closes_early_says_nothing(home: Path) -> None:
    wire.run_json(home, "route", "--task-type", "debug", "--classification", "routine")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*wire.PROGRAM, "history"],
            env=wire.environment(home),
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""


def test_serving_on_a_terminal_says_how_to_add_it_to_a_client(home: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        server = subprocess.Popen(
            wire.PROGRAM,
            env=wire.environment(home),
            stdin=terminal,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert server.stderr is not None
        first = server.stderr.readline()
        server.terminate()
        server.wait(wire.TIMEOUT_SECONDS)
        server.stderr.close()
    finally:
        os.close(controller)
        os.close(terminal)
    assert b"waits for a client" in first


def test_the_status_of_a_bound_session_with_unreadable_lines_says_so(home: Path) -> None:
    wire.run(home, "bind", str(home))
    wire.run(home, "route", "--task-type", "debug", "--classification", "routine")
    transcript = home / ".claude" / "projects" / "p" / "one.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text('{"type":"assistant","message":{"usage":\n', encoding="utf-8")
    shown = said(home, "status").splitlines()
    assert f"Project      {home}" in shown
    assert "Not readable 1 lines, 0 files of Claude Code's transcripts" in shown
    assert said(home, "sync", "--since", "2020-01-01") == (
        "Read 1 transcripts, 0 responses were new; not readable: 1 lines, 0 files"
    )
    assert json.loads(said(home, "status", "--json"))["unread_lines"] == 1
