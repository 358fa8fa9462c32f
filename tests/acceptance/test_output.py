"""What commands print: never a traceback, in whatever encoding, and bugs are named as such."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import wire

from immunos_mcp.errors import ISSUES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

COMMANDS = (
    "status",
    "status --json",
    "route --task-type café_😀 --classification routine --json",
    "route --task-type x --classification wrong😀",
    "route --task-type x --classification routine --session é😀",
    "explain 1",
    "record --model é --input 1 --output 1",
    "history",
    "history sessions --json",
    "config get",
    "config set claude_model=é",
    "models",
    "report",
    "report --format csv",
    "export",
    "export --format csv",
    "doctor",
    "doctor --json",
    "doctor --repair",
    "replay --set session_limit=5",
    "sync --all",
    "prune --keep-days 3 --dry-run",
    "install codex --print",
    "setup --dry-run",
    "completion bash",
    "statusline",
    "--help",
    "nonsense😀",
)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-16"])
def test_no_command_prints_a_traceback_under_any_encoding(home: Path, encoding: str) -> None:
    wire.run(home, "route", "--task-type", "café", "--classification", "routine")
    name = os.fsdecode(b"caf\xe9\xff")
    (home / ".claude" / "projects" / name).mkdir(parents=True)
    for command in COMMANDS:
        variables = {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
        done = subprocess.run(
            [*wire.PROGRAM, *command.split()],
            env=wire.environment(home, **variables),
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=wire.TIMEOUT_SECONDS,
        )
        said = done.stdout.replace(b"\0", b"") + done.stderr.replace(b"\0", b"")
        assert b"Traceback" not in said, (command, said)
        assert b"internal error" not in said, (command, said)
        assert done.returncode in {0, 1, 2}, command


@pytest.mark.parametrize("where", ["--db", "IMMUNOS_DB"])
def test_names_that_are_not_utf_8_are_shown_and_do_no_harm(home: Path, where: str) -> None:
    file = os.fsdecode(os.fsencode(home) + b"/caf\xe9.db")
    for command in ("status", "doctor", "doctor --json", "doctor --repair --json", "export"):
        flags = ["--db", file] if where == "--db" else []
        variables = {} if flags else {"IMMUNOS_DB": file}
        done = wire.run(home, *command.split(), *flags, variables=variables)
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr, (command, done.stderr)
    assert os.path.exists(file)  # noqa: PTH110  # the name is not UTF-8


BROKEN = r"""
import sys
from immunos_mcp.cli import main
from immunos_mcp.router import Router
def broken(*given, **named):
    raise KeyError("half an \\ud83d\\nemoji")
Router.get_session_status = broken
sys.exit(main.main(sys.argv[1:]))
"""


def test_a_bug_is_one_line_that_says_where_to_report_it(home: Path) -> None:
    program = (sys.executable, "-c", BROKEN)
    done = wire.run(home, "status", program=program)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("immunos-mcp: internal error (KeyError: ")
    assert ISSUES in done.stderr
    assert "Traceback" not in done.stderr
    done = wire.run(home, "status", "--debug", program=program)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert ISSUES in done.stderr.splitlines()[-1]


def test_a_bug_is_not_called_damage_of_the_ledger(home: Path) -> None:
    wire.run(home, "route", "--task-type", "x", "--classification", "routine")
    program = (
        sys.executable,
        "-c",
        BROKEN.replace(
            "Router.get_session_status = broken",
            "import immunos_mcp.assistants.looks as looks\n"
            "def session_snapshot(connection, *_):\n"
            "    connection.execute('SELECT ?', ('\\ud83d',))\n"
            "looks.session_snapshot = session_snapshot",
        ),
    )
    done = wire.run(home, "status", program=program)
    assert done.returncode == 1
    assert done.stderr.startswith("immunos-mcp: internal error (UnicodeEncodeError: ")
    assert "damaged" not in done.stderr


@pytest.mark.parametrize("command", ["doctor", "install codex --print", "--help", "status"])
def test_whoever_stops_reading_gets_no_traceback(home: Path, command: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [*wire.AS_INSTALLED, *command.split()],
            env=wire.environment(home, PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
            timeout=wire.TIMEOUT_SECONDS,
        )
    finally:
        os.close(write_end)
    assert done.stderr == b""


@pytest.mark.parametrize("command", ["status", "statusline", "doctor", "install codex --print"])
def test_in_a_folder_that_is_gone_a_relative_ledger_is_refused(home: Path, command: str) -> None:
    gone = home / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", f'rmdir "$PWD"; exec "$0" -m immunos_mcp {command}', sys.executable],
        env=wire.environment(home, IMMUNOS_DB="x.db"),
        cwd=gone,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=wire.TIMEOUT_SECONDS,
    )
    said = done.stdout if command == "statusline" else done.stderr
    assert "IMMUNOS_DB: must be an absolute path" in said
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if command == "statusline" else 2)


INTERRUPTED = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, {handler})
sys.argv[1:] = {arguments!r}
from immunos_mcp.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("immunos_mcp.errors", ["status"]),
        ("immunos_mcp.cli.main", ["status"]),
        ("immunos_mcp.router", ["status"]),
        ("immunos_mcp.cli.status_line", ["statusline"]),
        ("immunos_mcp.cli.serving", []),
        ("mcp", []),
    ],
)
def test_an_interrupt_while_modules_load_ends_the_program_silently(
    home: Path, name: str, arguments: list[str]
) -> None:
    code = INTERRUPTED.format(name=name, handler="signal.default_int_handler", arguments=arguments)
    opening = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_session_status"}}\n'
    )
    done = wire.run(home, program=(sys.executable, "-c", code), stdin=opening)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_program_that_runs_in_the_background_goes_on_when_it_is_told_to_ignore_interrupts(
    home: Path,
) -> None:
    code = INTERRUPTED.format(
        name="immunos_mcp.router", handler="signal.SIG_IGN", arguments=["status"]
    )
    done = wire.run(home, program=(sys.executable, "-c", code))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_from_the_start_cause_no_traceback(home: Path, closed: str) -> None:
    program = " ".join(map(shlex.quote, wire.AS_INSTALLED))
    done = wire.run(home, program=("sh", "-c", f"{program} status {closed}; {program} {closed}"))
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
