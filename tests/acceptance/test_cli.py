"""The command line as a person or a script meets it: run for real, in an empty home."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import wire

from immunos_mcp import __version__
from immunos_mcp.cli import main
from immunos_mcp.errors import shown
from immunos_mcp.rules.settings import Settings
from immunos_mcp.rules.settings import values as setting_values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("programs_start_at_once")


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
        "qwen2.5-coder:7b (local) does this task: code_review is mapped to it.\n"
        "Budget: 0 of 200,000 tokens (normal). Decision 1; explain it with `immunos-mcp explain 1`."
    )
    usage = ("record", "--model", "claude-sonnet-4.5", "--output", "0", "--input")
    assert said(home, *usage, "150000", "--decision-id", "1", "--outcome", "success") == (
        "Recorded. Session 150000 tokens, warning (threshold crossed). Kept local 0"
    )
    essay = ("route", "--classification", "routine", "--task-type", "essay", "--tokens", "5")
    assert said(home, *essay) == (
        "qwen2.5-coder:7b (local) does this task: the budget has reached the warning threshold "
        "(150,000 of 150,000 tokens), and from there routine tasks stay local.\n"
        "Budget: 150,000 of 200,000 tokens (warning), 150,000 after this task. "
        "Decision 2; explain it with `immunos-mcp explain 2`."
    )
    said(home, *usage, "30000", "--request-id", "r1", "--cache-read", "7", "--cache-creation", "1")
    repeated = said(
        home, *usage, "30000", "--request-id", "r1", "--cache-read", "7", "--cache-creation", "1"
    )
    assert repeated.startswith("Already recorded, nothing changed. Session 180001 tokens, critical")
    assert said(home, "route", "--task-type", "x", "--classification", "critical").startswith(
        "qwen2.5-coder:7b (local) does this task: the budget has reached the auto-switch threshold"
    )
    shown = said(home, "status").splitlines()
    assert shown[1].startswith("[##################--] 90%  180,001 of 200,000 budget tokens")
    assert "Decisions    task_optimized 1, token_budget_exceeded 1, token_budget_warning 1" in shown
    assert said(home, "reset", "--reason", "new day") == (
        "Session 2 opened. Session 1 closed at 180001 tokens, 0 kept local, 3 decisions"
    )
    decisions = [line.split() for line in said(home, "history").splitlines()]
    assert [line[0] for line in decisions] == ["id", "3", "2", "1"]
    assert decisions[-1][-1] == "success"
    sessions = said(home, "history", "sessions").splitlines()
    assert sessions[2].endswith("new day")


@pytest.mark.slow
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
    assert wire.run_json(home, "bind") == [{"session": "default", "folder": str(home)}]
    wire.run(home, "bind", "--session", "shop", str(home))
    assert [each["session"] for each in wire.run_json(home, "bind")] == ["default", "shop"]
    assert said(home, "bind", "--remove", "shop") == (
        "Session shop will count all projects from its next start"
    )
    refused = wire.run(home, "bind", "--remove", "shop")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "session shop is not bound to a project folder (bound: default)" in refused.stderr
    assert wire.run_json(home, "bind", "--all") == [{"session": "default", "folder": str(home)}]
    assert said(home, "bind") == "No session is bound to a project folder; all count every project"


def test_settings_are_set_shown_and_unset(home: Path) -> None:
    assert said(home, "config", "set", "token_warning_threshold", "1000") == (
        "Changed: token_warning_threshold 150000 -> 1000"
    )
    dry = said(home, "config", "set", "--dry-run", "auto_switch_threshold=2000")
    assert dry == (
        "Would change: token_auto_switch_threshold 180000 -> 2000. Of the last 0 decisions "
        "0 would change: 0 to Ollama, 0 to Claude"
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
        (["nonsense"], "unknown command 'nonsense' (known: route, "),
        (["route", "--task-type", "x"], "--classification: is required; must be routine, creative"),
        (
            ["route", "--task-type", "x", "--classification", "urgent"],
            "--classification: must be routine, creative or critical (got 'urgent')",
        ),
        (
            ["route", "--task-type", "!", "--classification", "routine"],
            "task_type: must be a task type of 1 to 64",
        ),
        (
            ["route", "--task-type", "x", "--classification", "routine", "--tokens", "1.5"],
            "--tokens: must be a whole number (got '1.5')",
        ),
        (
            ["record", "--model", "m", "--input", "-1", "--output", "0"],
            "input_tokens: must be a whole number from 0 to",
        ),
        (
            ["record", "--model", "m", "--input", "1", "--output", "0", "--outcome", "success"],
            "outcome: needs a decision_id, the decision that it belongs to",
        ),
        (
            ["record", "--model", "m", "--input", "1", "--output", "0", "--decision-id", "9"],
            "decision_id: must be the id of an earlier decision (got 9)",
        ),
        (["config", "set", "session_limit"], "setting: must be NAME=VALUE (got 'session_limit')"),
        (["config", "set", "nonsense=1"], "unknown setting 'nonsense' (known: token_warning"),
        (
            ["config", "set", "session_limit.x=1"],
            "session_limit has no entries; only task_mappings does (got 'session_limit.x')",
        ),
        (["config", "set", "session_limit=x"], "session_limit: must be a whole number"),
        (
            ["config", "set", "warning_threshold=5", "token_warning_threshold=6"],
            "setting 'token_warning_threshold' is given more than once",
        ),
        (
            ["config", "set", "task_mappings.a=m:1", "task_mappings.a=m:2"],
            "setting 'task_mappings.a' is given more than once",
        ),
        (
            ["replay", "--set", "task_mappings.a=m:1", "--set", "task_mappings.A=m:2"],
            "task_mappings.A: conflicts with another entry for the task type a",
        ),
        (["config", "get", "task_mappings.none"], "unknown mapped task type 'none'"),
        (["config", "unset", "nonsense"], "unknown setting 'nonsense'"),
        (["--session", "", "status"], "--session: must be 1 to 64 printable"),
        (
            ["history", "--limit", "0"],
            "--limit: must be a whole number from 1 to 1000000 (got '0')",
        ),
        (["sync"], "--since"),
        (["sync", "--since", "yesterday"], "--since: must be a date or time, such as"),
        (["sync", "--since", "0001-01-01T00:00:00+14:00"], "must be a date or time, such as"),
        (["report", "--since", "9999-12-31T23:59:59-14:00"], "must be a date or time, such as"),
        (["report", "--output", "~nobody-here/x"], "must be a path in an existing home folder"),
        (["bind", "~nobody-here/x"], "must be a path in an existing home folder"),
        (
            ["--allow-path", "~nobody-here/x", "status"],
            "--allow-path: must be a path in an existing home folder (got '~nobody-here/x')",
        ),
        (
            ["delegate", "x", "--task-type", "x", "--path", "~nobody-here/x"],
            "--path: must be a path in an existing home folder (got '~nobody-here/x')",
        ),
        (
            ["record", "--model", "m", "--input", "1", "--output", "0", "--seconds", "7"],
            "seconds: needs a decision_id",
        ),
        (
            ["replay", "--set", 'task_mappings={"debug": ["a,b,c,d,e,f,g,h", "i"]}'],
            "must be a model name, up to 8 in order",
        ),
        (["bind", "/does/not/exist"], "must be an existing folder"),
        (["bind", "/", "--all"], "--all: cannot be used with"),
        (["bind", "--remove", "x", "--all"], "--all: cannot be used with --remove"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_taken(
    home: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(home, *arguments)


def test_a_wrong_command_line_is_two_lines_without_the_usage(home: Path) -> None:
    urgent = ("route", "--task-type", "x", "--classification", "urgent")
    assert refused(home, *urgent) == (
        "immunos-mcp route: --classification: must be routine, creative or critical (got 'urgent')\n"
        "Try 'immunos-mcp route --help'.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            ["route", "--task-type", "x", "--classification", "critcal"],
            2,
            {
                "message": (
                    "--classification: must be routine, creative or critical "
                    "(got 'critcal'; did you mean 'critical'?)"
                ),
                "problems": [
                    {
                        "field": "--classification",
                        "got": "critcal",
                        "expected": "routine, creative or critical",
                        "nearest": "critical",
                    }
                ],
            },
        ),
        (
            ["record", "--model", "m", "--input", "-1", "--output", str(2**129)],
            2,
            {
                "message": "input_tokens: must be a whole number from 0 to 1000000000000 (got -1)",
                "problems": [
                    {
                        "field": "input_tokens",
                        "got": -1,
                        "expected": "a whole number from 0 to 1000000000000",
                    }
                ],
            },
        ),
        (
            ["history", "--session", "x" * 300],
            2,
            {
                "message": (
                    "--session: must be 1 to 64 printable characters "
                    f"(got '{'x' * 59}... (300 characters))"
                ),
                "problems": [
                    {
                        "field": "--session",
                        "got": f"'{'x' * 59}... (300 characters)",
                        "expected": "1 to 64 printable characters",
                    }
                ],
            },
        ),
        (
            ["config"],
            1,
            {"message": "ledger / is a folder; choose a file with --db or IMMUNOS_DB"},
        ),
    ],
)
def test_with_json_an_error_is_one_line_of_json(
    home: Path, arguments: list[str], code: int, error: dict[str, object]
) -> None:
    folder = ("--db", "/") if code == 1 else ()
    written = refused(home, "--json", *folder, *arguments, code=code)
    assert written.count("\n") == 1
    assert json.loads(written) == {"error": error}


def test_with_json_an_answer_that_cannot_be_written_is_an_error_in_json(home: Path) -> None:
    done = through_shell(home, SILENT, "status", "--json")
    assert done.returncode == 1
    assert list(json.loads(done.stderr)) == ["error"]
    assert "standard output cannot be written" in json.loads(done.stderr)["error"]["message"]


def test_a_bad_variable_is_wrong_usage_too(home: Path) -> None:
    done = wire.run(home, "status", variables={"IMMUNOS_TRANSCRIPTS": "maybe"})
    assert done.returncode == 2
    assert "IMMUNOS_TRANSCRIPTS: must be on or off (got 'maybe')" in done.stderr


def test_a_ledger_that_cannot_be_used_exits_with_1(home: Path) -> None:
    assert refused(home, "status", "--db", str(home), code=1) == (
        f"immunos-mcp: ledger {home} is a folder; choose a file with --db or IMMUNOS_DB\n"
    )


@pytest.mark.parametrize("command", [("status",), ("install", "codex", "--yes"), ()])
def test_a_mistyped_folder_of_the_ledger_is_wrong_usage_and_is_not_created(
    home: Path, command: tuple[str, ...]
) -> None:
    file = home / "nowher" / "x.db"
    message = f"must be a file in an existing folder (got {shown(str(file))})"
    assert refused(home, "--db", str(file), *command) == f"immunos-mcp: --db: {message}\n"
    done = wire.run(home, *command, variables={"IMMUNOS_DB": str(file)})
    assert (done.returncode, done.stderr) == (2, f"immunos-mcp: IMMUNOS_DB: {message}\n")
    assert list(home.iterdir()) == []


def test_help_has_examples_and_the_version_is_told(home: Path) -> None:
    assert "immunos-mcp route --task-type code_review" in said(home, "--help")
    assert "immunos-mcp config set token_warning_threshold=100000" in said(
        home, "config", "set", "--help"
    )
    assert said(home, "--version") == f"immunos-mcp {__version__}"


@pytest.mark.parametrize("command", [("report",), ("export",), ("prune", "--keep-days", "30")])
def test_commands_about_all_sessions_take_no_session(home: Path, command: tuple[str, ...]) -> None:
    done = wire.run(home, *command, "--session", "shop")
    assert (done.returncode, done.stdout) == (2, "")
    message = f"--session cannot be used with `{command[0]}`, which covers all sessions"
    assert done.stderr == f"immunos-mcp: {message}\n"
    assert not wire.ledger_path(home).exists()


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
            [*wire.AS_INSTALLED, "history"],
            env=wire.environment(home),
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == b""


SILENT = """exec "$@" >/dev/full"""
CLOSED = """exec "$@" >&-"""
DEAF = """exec "$@" <&- 2>&-"""


def through_shell(home: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Streams that are closed cannot be handed to who forks the program.
    program = wire.AS_INSTALLED if "&-" in script else wire.PROGRAM
    return wire.run(home, *arguments, program=("sh", "-c", script, "sh", *program))


@pytest.mark.parametrize(
    ("script", "why"), [(SILENT, os.strerror(errno.ENOSPC)), (CLOSED, os.strerror(errno.EBADF))]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("route", "--task-type", "debug", "--classification", "routine"),
        ("status", "--json"),
        ("report", "--format", "html"),
        ("export", "--table", "decision"),
        ("completion", "bash"),
        ("doctor",),
        ("statusline",),
        ("--help",),
    ],
)
def test_an_answer_that_cannot_be_written_is_a_failure_told_in_a_line(
    home: Path, script: str, why: str, arguments: tuple[str, ...]
) -> None:
    wire.run_json(home, "route", "--task-type", "debug", "--classification", "routine")
    done = through_shell(home, script, *arguments)
    assert done.returncode == 1
    words = (
        "free some space or choose another file"
        if arguments[0] == "export"
        else "everything else was done"
    )
    message = f"standard output cannot be written ({why}); {words}"
    if "--json" in arguments:
        assert json.loads(done.stderr) == {"error": {"message": message}}
    else:
        assert done.stderr == f"immunos-mcp: {message}\n"


@pytest.mark.parametrize("command", ["status", "statusline"])
def test_closed_standard_input_and_error_do_no_harm(home: Path, command: str) -> None:
    done = through_shell(home, DEAF, command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "200" in done.stdout


def test_errors_go_nowhere_else_when_standard_error_is_closed(home: Path) -> None:
    done = through_shell(home, DEAF, "outcome", "1", "success")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("script", [SILENT, CLOSED])
def test_a_server_whose_client_takes_nothing_ends_without_a_traceback(
    home: Path, script: str
) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    done = subprocess.run(
        ["sh", "-c", script, "sh", *wire.AS_INSTALLED],
        env=wire.environment(home),
        input=json.dumps(request) + "\n",
        capture_output=True,
        encoding="utf-8",
        timeout=wire.TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_serving_on_a_terminal_says_how_to_add_it_to_a_client(home: Path) -> None:
    controller, terminal = pty.openpty()
    try:
        server = subprocess.Popen(
            wire.AS_INSTALLED,
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
    assert b"waits for JSON-RPC" in first


def test_the_status_of_a_bound_session_with_unreadable_lines_says_so(home: Path) -> None:
    wire.run(home, "bind", str(home))
    wire.run(home, "route", "--task-type", "debug", "--classification", "routine")
    transcript = home / ".claude" / "projects" / "p" / "one.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text('{"type":"assistant","message":{"usage":\n', encoding="utf-8")
    shown = said(home, "status").splitlines()
    assert f"Project      {home}" in shown
    assert "Unreadable   1 lines, 0 files of assistants' logs" in shown
    assert said(home, "sync", "--since", "2020-01-01") == (
        "Read 0 transcripts: 0 new responses; unreadable: 1 lines, 0 files"
    )
    assert json.loads(said(home, "status", "--json"))["unread_lines"] == 1


def test_a_preset_maps_the_default_task_types_to_other_models(home: Path) -> None:
    listed = said(home, "config", "preset").splitlines()
    assert listed[0].split() == ["preset", "code", "reasoning", "short", "tasks", "checked"]
    assert listed[1].split() == ["default", "qwen2.5-coder:7b", "deepseek-r1:14b", "qwen2.5:1.5b"]
    assert "qwen3.5:9b" in listed[3]
    assert any(line.startswith("16gb: ") and "https://" in line for line in listed)
    assert wire.run_json(home, "config", "preset")["8gb"]["checked"] == listed[2].split()[-1]
    said(home, "config", "set", "task_mappings.mine=m:1")
    said(home, "config", "preset", "24gb")
    assert said(home, "config", "get", "task_mappings.planning") == "qwen3.8:27b"
    assert said(home, "config", "get", "task_mappings.summarize") == "qwen3.5:4b"
    assert said(home, "config", "get", "task_mappings.mine") == "m:1"
    assert said(home, "config", "get", "default_local_model") == "qwen3.8:27b"
    said(home, "config", "preset", "default")
    assert said(home, "config", "get", "task_mappings.debug") == "qwen2.5-coder:7b"
    refused = wire.run(home, "config", "preset", "1gb")
    accepted = "default, 8gb, 16gb, 24gb, 32gb or 48gb"
    assert (refused.returncode, refused.stderr) == (
        2,
        f"immunos-mcp: preset: must be {accepted} (got '1gb')\n",
    )


Ran = tuple[int, str, str]


@pytest.fixture
def typed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generator[Callable[..., Ran]]:
    """Run a command in this process, in an empty home; return exit code, output and errors."""
    for name in ("IMMUNOS_DB", "IMMUNOS_SESSION", "IMMUNOS_TRANSCRIPTS", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(home)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE)}

    def run(*arguments: str) -> Ran:
        try:
            code = main.main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def parsed(done: Ran) -> Any:
    code, out, err = done
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    assert out.count("\n") == 1
    return json.loads(out)


TASK = ("--task-type", "debug", "--classification", "routine")
ROUTED = (
    "qwen2.5-coder:7b (local) does this task: debug is mapped to it.\n"
    "Budget: 0 of 200,000 tokens (normal). Decision 1; explain it with `immunos-mcp explain 1`.\n"
)


def test_a_command_prints_its_answer_and_ends_with_0(typed: Callable[..., Ran]) -> None:
    assert typed("route", *TASK) == (0, ROUTED, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "route", *TASK),
        ("route", "--json", *TASK),
        ("route", *TASK, "--json"),
    ],
)
def test_json_may_be_asked_for_before_and_after_the_command(
    typed: Callable[..., Ran], arguments: tuple[str, ...]
) -> None:
    assert typed(*arguments) == (
        0,
        (
            '{"model":"qwen2.5-coder:7b","provider":"ollama","reason":"task_optimized",'
            '"warning_level":"normal","session_tokens":0,"decision_id":1}\n'
        ),
        "",
    )


@pytest.mark.parametrize(
    ("flags", "variables", "database", "session"),
    [
        ((), {}, ".immunos/db/immunos.db", "default"),
        ((), {"IMMUNOS_DB": "~/v.db"}, "v.db", "default"),
        ((), {"IMMUNOS_SESSION": "v"}, ".immunos/db/immunos.db", "v"),
        ((), {"IMMUNOS_DB": "", "IMMUNOS_SESSION": ""}, ".immunos/db/immunos.db", "default"),
        (("--db", "f.db"), {"IMMUNOS_DB": "~/v.db", "IMMUNOS_SESSION": "v"}, "f.db", "v"),
        (("--session", "f"), {"IMMUNOS_DB": "~/v.db", "IMMUNOS_SESSION": "v"}, "v.db", "f"),
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
def test_a_ledger_and_a_session_are_chosen_by_flag_then_variable_then_default(
    typed: Callable[..., Ran],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    variables: dict[str, str],
    database: str,
    session: str,
    is_before: bool,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = ("route", *TASK)
    done = typed(*flags, *command) if is_before else typed(*command, *flags)
    assert done == (0, ROUTED, "")
    assert wire.rows(home / database, "SELECT name FROM immunos_mcp_session") == [(session,)]
    assert [file for file in home.rglob("*.db") if file != home / database] == []


def test_a_flag_after_the_command_wins_over_one_before_it(
    typed: Callable[..., Ran], home: Path
) -> None:
    typed("--db", "a.db", "--session", "a", "route", *TASK, "--db", "b.db", "--session", "b")
    assert wire.rows(home / "b.db", "SELECT name FROM immunos_mcp_session") == [("b",)]
    assert not (home / "a.db").exists()


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["session_limit", "300000"], {"session_limit": {"before": 200000, "after": 300000}}),
        (["session_limit=300000"], {"session_limit": {"before": 200000, "after": 300000}}),
        (["input_weight", "0.5"], {"input_weight": {"before": 1.0, "after": 0.5}}),
        (
            ["claude_model=a=b"],
            {"claude_model": {"before": "claude-sonnet-4.5", "after": "a=b"}},
        ),
        (
            ["claude_model", "a=b"],
            {"claude_model": {"before": "claude-sonnet-4.5", "after": "a=b"}},
        ),
        (["task_mappings.debug=null"], {"task_mappings.debug": {"before": "qwen2.5-coder:7b"}}),
        (["record_horizon=12345.678"], {"record_horizon": {"before": 100.0, "after": 12345.678}}),
        (["input_weight=-0"], {"input_weight": {"before": 1.0, "after": 0.0}}),
        (["task_mappings.Pull Request=m:1"], {"task_mappings.pull_request": {"after": "m:1"}}),
        (["task_mappings.poetry", "m:1"], {"task_mappings.poetry": {"after": "m:1"}}),
        (
            ["task_mappings.a=m:1", "task_mappings.b=m:2", "session_window_minutes=60"],
            {
                "session_window_minutes": {"before": 0, "after": 60},
                "task_mappings.a": {"after": "m:1"},
                "task_mappings.b": {"after": "m:2"},
            },
        ),
        (
            ['task_mappings={"poetry": "m:1", "debug": null}'],
            {
                "task_mappings.debug": {"before": "qwen2.5-coder:7b"},
                "task_mappings.poetry": {"after": "m:1"},
            },
        ),
        (
            ['task_mappings={"a": "m:1"}', "task_mappings.b=m:2"],
            {"task_mappings.a": {"after": "m:1"}, "task_mappings.b": {"after": "m:2"}},
        ),
        (["session_limit=200000"], {}),
    ],
)
def test_settings_are_set_in_either_spelling(
    typed: Callable[..., Ran], words: list[str], changes: dict[str, Any]
) -> None:
    assert parsed(typed("config", "set", *words, "--json"))["changes"] == changes


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["session_limit=5", "nonsense=1"], "setting"),
        (["session_limit=300000", "input_weight=x"], "input_weight"),
        (["session_limit=300000", "task_mappings.debug=a b"], "task_mappings.debug"),
        (["session_limit=300000", "warning_threshold=300000"], "token_warning_threshold"),
        (["a", "b", "c"], "setting"),
        (["session_limit=300000", "plan"], "setting"),
        (["task_mappings.=m:1"], "task_mappings."),
        (["=5"], "setting"),
    ],
)
def test_one_bad_setting_refuses_all_with_2(
    typed: Callable[..., Ran], words: list[str], field: str
) -> None:
    code, out, err = typed("config", "set", *words)
    assert (code, out) == (2, "")
    assert field in err
    assert parsed(typed("config", "get", "--json")) == setting_values(Settings())


def test_every_setting_can_be_shown_by_itself(typed: Callable[..., Ran]) -> None:
    values = setting_values(Settings())
    for name, value in values.items():
        assert parsed(typed("config", "get", name, "--json")) == {name: value}
    code, out, _ = typed("config", "get", "cache_creation_weight")
    assert (code, out) == (0, "1\n")
    assert typed("config") == typed("config", "get")


def test_a_mapping_is_shown_by_its_task_type_in_any_spelling(typed: Callable[..., Ran]) -> None:
    for spelling in ("code_review", "Code Review", "codeReview"):
        shown = typed("config", "get", f"task_mappings.{spelling}")
        assert shown == (0, "qwen2.5-coder:7b\n", "")


def test_a_setting_that_has_no_parts_is_not_shown_by_one(typed: Callable[..., Ran]) -> None:
    code, out, err = typed("config", "get", "session_limit.debug")
    assert (code, out) == (2, "")
    assert err.startswith("immunos-mcp: session_limit has no entries; ")


def test_what_was_unset_is_the_default_again(typed: Callable[..., Ran]) -> None:
    typed("config", "set", "session_limit=300000", "task_mappings.x=m:1", "task_mappings.debug=m:2")
    assert parsed(
        typed(
            "config", "unset", "session_limit", "task_mappings.X", "task_mappings.debug", "--json"
        )
    )["changes"] == {
        "session_limit": {"before": 300000, "after": 200000},
        "task_mappings.x": {"before": "m:1"},
        "task_mappings.debug": {"before": "m:2"},
    }
    assert parsed(typed("config", "unset", "task_mappings", "--json"))["changes"] == {
        "task_mappings.debug": {"after": "qwen2.5-coder:7b"}
    }
    assert parsed(typed("config", "get", "--json")) == setting_values(Settings())


def test_the_history_of_settings_tells_when_who_and_from_what_to_what(
    typed: Callable[..., Ran],
) -> None:
    typed("config", "set", "session_limit=300000")
    typed("config", "set", "task_mappings.debug=m:1")
    typed("config", "unset", "session_limit")
    changes = parsed(typed("config", "history", "--json"))
    moments = [change.pop("changed_at") for change in changes]
    client = "immunos-mcp command line"
    assert changes == [
        {"client": client, "setting": "session_limit", "before": "300000"},
        {
            "client": client,
            "setting": "task_mappings.debug",
            "before": "qwen2.5-coder:7b",
            "after": "m:1",
        },
        {"client": client, "setting": "session_limit", "after": "300000"},
    ]
    assert moments == sorted(moments, reverse=True)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", moment) for moment in moments)
    assert len(parsed(typed("config", "history", "--limit", "1", "--json"))) == 1


def test_a_dry_run_changes_nothing(typed: Callable[..., Ran], home: Path) -> None:
    typed("route", "--task-type", "essay", "--classification", "routine")
    typed("record", "--model", "claude-x", "--input", "100", "--output", "0")
    typed("route", "--task-type", "essay", "--classification", "routine")
    before = wire.dump(wire.ledger_path(home))
    tried = parsed(typed("config", "set", "warning_threshold=100", "--dry-run", "--json"))
    assert (tried["dry_run"], tried["changes"], tried["rehearsal"]) == (
        True,
        {"token_warning_threshold": {"before": 150000, "after": 100}},
        {
            "decisions": 2,
            "changed": 1,
            "moved_to_ollama": 1,
            "moved_to_claude": 0,
            "kept_tokens": 0,
            "spent_tokens": 0,
        },
    )
    assert wire.dump(wire.ledger_path(home)) == before


def test_a_record_takes_all_four_kinds_of_tokens(typed: Callable[..., Ran]) -> None:
    usage = ("--input", "1000", "--output", "200", "--cache-creation", "30", "--cache-read", "4")
    assert parsed(typed("record", "--model", "claude-x", *usage, "--json")) == {
        "session_tokens": 1230,
        "kept_local_tokens": 0,
        "warning_level": "normal",
    }
    assert parsed(typed("status", "--json"))["claude_tokens"] == {
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 4,
    }


def test_decisions_and_sessions_are_listed_newest_first_up_to_a_limit(
    typed: Callable[..., Ran],
) -> None:
    for name in ("a", "b", "a"):
        typed("route", *TASK, "--session", name)
    typed("reset", "--session", "a", "--reason", "new day")

    def ids(kind: str, *more: str) -> list[int]:
        what = "decision_id" if kind == "decisions" else "session_id"
        return [entry[what] for entry in parsed(typed("history", kind, "--json", *more))]

    assert ids("decisions") == [3, 2, 1]
    assert ids("decisions", "--limit", "2") == [3, 2]
    assert ids("decisions", "--session", "a") == [3, 1]
    assert ids("sessions") == [3, 2, 1]
    assert ids("sessions", "--session", "a", "--limit", "1") == [3]
    assert ids("decisions", "--session", "nobody") == []


def test_history_takes_a_sessions_name_as_every_command_does(typed: Callable[..., Ran]) -> None:
    typed("route", *TASK, "--session", " work ")
    assert len(parsed(typed("history", "--session", " work ", "--json"))) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("route",),
        ("record",),
        ("status",),
        ("config",),
        ("config", "get"),
        ("config", "set"),
        ("config", "unset"),
        ("config", "history"),
        ("reset",),
        ("history",),
        ("sync",),
        ("statusline",),
        ("bind",),
        ("completion",),
    ],
)
def test_the_help_of_every_command_has_an_example(
    typed: Callable[..., Ran], home: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = typed(*arguments, "--help")
    assert (code, err) == (0, "")
    example = " ".join(("immunos-mcp", *arguments))
    assert example in out.partition("example")[2]
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("route", *TASK, "--tokens", ""),
        ("route", *TASK, "--tokens", "1e3"),
        ("route", *TASK, "--tokens", "9" * 101),
        ("route", *TASK, "--tokens", "9" * 5000),
        ("route", *TASK, "--tokens", "\u0665"),
        ("route", *TASK, "--tokens", "-1"),
        ("route", *TASK, "--tokens", str(2**63)),
        ("route", *TASK, "--tok", "5"),
        ("route", *TASK, "extra"),
        ("record", "--model", "a b", "--input", "1", "--output", "1"),
        ("record", "--model", "m", "--input", "1"),
        ("record", "--model", "m", "--input", "1", "--output", "1", "--outcome", "meh"),
        ("record", "--model", "m", "--input", "1", "--output", "1", "--request-id", ""),
        ("status", "--session", "a\nb"),
        ("reset", "--reason", ""),
        ("history", "--limit", "1000001"),
        ("history", "everything"),
        ("config", "get", "nonsense"),
        ("config", "unset"),
        ("config", "rename"),
        ("completion", "powershell"),
        ("completion",),
        ("sync", "--all", "--since", "2026-01-01"),
    ],
)
def test_what_cannot_be_taken_ends_with_2_in_words_and_makes_no_session(
    typed: Callable[..., Ran], home: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = typed(*arguments)
    assert (code, out) == (2, "")
    assert err.strip()
    assert "Traceback" not in err
    file = wire.ledger_path(home)
    assert not file.exists() or wire.rows(file, "SELECT * FROM immunos_mcp_session") == []


def test_a_number_of_too_many_digits_is_refused_in_a_short_line(typed: Callable[..., Ran]) -> None:
    _, _, err = typed("route", *TASK, "--tokens", "9" * 5000)
    assert err.splitlines() == [
        f"immunos-mcp route: --tokens: must be a whole number (got '{'9' * 59}... (5000 characters))",
        "Try 'immunos-mcp route --help'.",
    ]


def test_the_home_of_somebody_unknown_is_wrong_usage(typed: Callable[..., Ran]) -> None:
    code, out, err = typed("status", "--db", "~nobody_of_this_name/a.db")
    assert (code, out) == (2, "")
    assert err == (
        "immunos-mcp: --db: must be a path in an existing home folder "
        "(got '~nobody_of_this_name/a.db')\n"
    )


def test_a_folder_whose_name_is_no_text_does_not_count_as_a_damaged_ledger(
    typed: Callable[..., Ran], home: Path
) -> None:
    folder = os.fsdecode(os.fsencode(home) + b"/\xff")
    os.mkdir(folder)  # noqa: PTH102  # a path that cannot be spelled
    code, out, err = typed("bind", folder)
    assert (code, out) == (2, "")
    assert "damaged" not in err


def test_a_file_that_is_no_ledger_ends_with_1_and_stays_as_it_was(
    typed: Callable[..., Ran], home: Path
) -> None:
    file = home / "notes.txt"
    file.write_text("not a database, but long enough to be looked at\n" * 50, encoding="utf-8")
    before = file.read_bytes()
    code, out, err = typed("status", "--db", str(file))
    assert (code, out) == (1, "")
    assert err.startswith(f"immunos-mcp: ledger {file} is not a SQLite database; ")
    assert file.read_bytes() == before


def test_a_broken_setting_in_the_ledger_ends_with_1_until_it_is_mended(
    typed: Callable[..., Ran], home: Path
) -> None:
    typed("config", "set", "session_limit=300000")
    wire.execute(
        wire.ledger_path(home), "UPDATE settings SET value = 'many' WHERE key = 'session_limit'"
    )
    code, out, err = typed("status")
    assert (code, out) == (1, "")
    assert "session_limit: must be a whole number" in err
    assert typed("config", "unset", "session_limit")[0] == 0
    assert parsed(typed("status", "--json"))["session_limit"] == 200_000


def test_the_module_and_the_program_are_the_same(typed: Callable[..., Ran], home: Path) -> None:
    typed("route", *TASK)
    done = wire.run(home, "status", "--json", program=wire.AS_INSTALLED)
    assert (done.returncode, done.stdout, done.stderr) == typed("status", "--json")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_a_completion_script_knows_every_command_and_needs_no_ledger(
    typed: Callable[..., Ran], home: Path, shell: str
) -> None:
    code, out, err = typed("completion", shell)
    assert (code, err) == (0, "")
    commands = "route record status config reset history sync statusline bind completion"
    assert [command for command in commands.split() if command not in out] == []
    assert list(home.iterdir()) == []


def test_a_terminal_that_cannot_show_a_name_shows_its_numbers(home: Path) -> None:
    wire.run(home, "reset", "--session", "büro")
    shown = wire.run(
        home,
        "history",
        "sessions",
        program=wire.AS_INSTALLED,
        variables={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "b\\xfcro" in shown.stdout
