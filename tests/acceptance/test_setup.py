"""The guided start as a newcomer meets it: run for real, in a home of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import elsewhere
import pytest
import warm_starts
import wire
from ollama_server import Manner, Script, scripted_ollama

from immunos_mcp.rules.presets import preset

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

GIGABYTE = 2**30


def prepared(gigabytes: int, before: str) -> str:
    """Return code that makes this a machine of so much memory, and then runs ``before``."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gigabytes * GIGABYTE // 4096}
    return f"import os; os.sysconf = {sizes}.__getitem__\n{before}\n"


def program(gigabytes: int = 24, before: str = "") -> tuple[str, ...]:
    """Return the program on a machine of this much memory; ``before`` runs before it."""
    if hasattr(os, "pidfd_open"):
        return warm_starts.command(prepared(gigabytes, before))
    return started(before, gigabytes)


def started(before: str, gigabytes: int = 24) -> tuple[str, ...]:
    """Return the program as ``program`` does, in a process that can have a terminal of its own."""
    code = prepared(gigabytes, before)
    return (sys.executable, "-c", f"{code}from immunos_mcp.__main__ import main; main()")


@pytest.fixture
def script() -> Script:
    return Script(models={"qwen3.5:4b": 4096})


@pytest.fixture
def variables(script: Script) -> Generator[dict[str, str]]:
    """Look at the scripted engine, and have no clients but those of the home."""
    with scripted_ollama(script) as where:
        yield {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": where, "PATH": "/nowhere"}


@pytest.fixture
def cursor(home: Path) -> Path:
    """Return Cursor's file; its folder is there, as if Cursor had been started once."""
    (home / ".cursor").mkdir()
    return home / ".cursor" / "mcp.json"


def run(
    home: Path,
    variables: Mapping[str, str],
    *arguments: str,
    code: int = 0,
    machine: tuple[str, ...] | None = None,
) -> str:
    ran = wire.run(home, "setup", *arguments, program=machine or program(), variables=variables)
    assert (ran.returncode, "Traceback" in ran.stderr) == (code, False), ran.stderr
    return ran.stdout


def run_json(home: Path, variables: Mapping[str, str], *arguments: str, code: int = 0) -> Any:
    printed = run(home, variables, *arguments, "--json", code=code)
    assert printed.count("\n") == 1
    return json.loads(printed)


def files(home: Path) -> list[str]:
    return sorted(str(file.relative_to(home)) for file in home.rglob("*") if file.is_file())


def settings(home: Path) -> Any:
    return wire.run_json(home, "config", "get")


def test_it_shows_what_it_would_do_and_changes_nothing(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    shown = run(home, variables, "--dry-run")
    assert shown == (
        "Found on this machine:\n"
        "  Cursor          not set up yet\n"
        f"  Ollama          running at http://{variables['OLLAMA_HOST']}, 1 model\n"
        "  Memory          24 GB\n"
        "\n"
        "Setup would:\n"
        "  set up Cursor: change ~/.cursor/mcp.json\n"
        "  use the preset 16gb: qwen3.5:9b and qwen3.5:4b\n"
        "  let synonyms mean your task types: set task_synonyms to on\n"
        "\n"
        "What to do next:\n"
        "  1. Get the model: ollama pull qwen3.5:9b\n"
        "  2. Restart Cursor.\n"
        "  3. Ask for a code review, then see where the budget stands: immunos-mcp status\n"
    )
    assert run_json(home, variables, "--dry-run", "--yes") == {
        "dry_run": True,
        "clients": [
            {"client": "cursor", "state": "proposed", "files": [str(cursor)], "backups": []}
        ],
        "ollama": {
            "state": "up",
            "installed": False,
            "address": f"http://{variables['OLLAMA_HOST']}",
            "models": 1,
        },
        "preset": {"state": "proposed", "reason": "fits_memory", "name": "16gb"},
        "synonyms": {"state": "proposed"},
        "pull": ["ollama pull qwen3.5:9b"],
        "memory_bytes": 24 * GIGABYTE,
    }
    assert files(home) == []


def test_yes_does_all_of_it_without_asking(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    cursor.write_text('{"mcpServers": {}}', encoding="utf-8")
    done = run_json(home, variables, "--yes")
    (client,) = done["clients"]
    assert (client["client"], client["state"], client["files"]) == ("cursor", "done", [str(cursor)])
    (backup,) = client["backups"]
    assert Path(backup).read_text(encoding="utf-8") == '{"mcpServers": {}}'
    assert done["preset"] == {"state": "done", "reason": "fits_memory", "name": "16gb"}
    assert done["dry_run"] is False
    assert ("cursor", "ok") in {(each["check"], each["verdict"]) for each in done["doctor"]}
    assert "immunos" in json.loads(cursor.read_text(encoding="utf-8"))["mcpServers"]
    in_force = settings(home)
    assert {name: in_force[name] for name in preset("16gb")} == preset("16gb")
    assert done["synonyms"] == {"state": "done"}
    assert in_force["task_synonyms"] == "on"


def test_it_says_what_it_did_and_that_it_is_done(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    first = run(home, variables, "--yes")
    assert (
        "\n  Cursor          set up\n  Preset 16gb     in use\n  Synonyms        in use\n\nChecked"
        in first
    )
    assert "qwen3.5:9b is configured but unavailable" in first
    assert first.endswith(
        "What to do next:\n"
        "  1. Get the model: ollama pull qwen3.5:9b\n"
        "  2. Restart Cursor.\n"
        "  3. Ask for a code review, then see where the budget stands: immunos-mcp status\n"
    )
    before = cursor.read_bytes()
    second = run(home, variables, "--yes")
    assert "  Cursor          already set up\n" in second
    assert "\nYou have chosen models already, so they stay.\n\nChecked with" in second
    assert "ollama pull qwen3.5:9b" in second
    assert cursor.read_bytes() == before


def test_a_client_that_is_set_up_differently_stays_as_it_is(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    wire.run(home, "install", "cursor", "--yes", "--db", str(home / "other.db"))
    before = cursor.read_bytes()
    (client,) = run_json(home, variables, "--yes")["clients"]
    assert client["state"] == "not_needed"
    assert "immunos-mcp install cursor --print" in client["message"]
    assert cursor.read_bytes() == before


def test_a_client_whose_file_cannot_be_read_holds_nothing_else_up(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    (home / ".codex").mkdir()
    cursor.write_text("{broken", encoding="utf-8")
    done = run_json(home, variables, "--yes", code=1)
    states = {each["client"]: each["state"] for each in done["clients"]}
    assert states == {"cursor": "failed", "codex": "done"}
    assert cursor.read_text(encoding="utf-8") == "{broken"
    assert str(cursor) in next(each["message"] for each in done["clients"] if "message" in each)


def test_a_client_that_cannot_be_written_fails_alone(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    (home / ".codex").mkdir()
    machine = program(
        before=(
            "from pathlib import Path; real = Path.replace\n"
            "def refuse(self, target):\n"
            "    if target.name == 'mcp.json': raise OSError(28, 'No space left', str(target))\n"
            "    return real(self, target)\n"
            "Path.replace = refuse"
        )
    )
    shown = run(home, variables, "--yes", code=1, machine=machine)
    assert f"  Cursor          cannot be set up: {cursor}" in shown
    assert "  Codex           set up\n" in shown
    assert not cursor.exists()


def test_a_ledger_that_cannot_be_used_is_said_and_clients_are_set_up(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    ledger = wire.ledger_path(home)
    ledger.parent.mkdir(parents=True)
    ledger.write_text("no ledger", encoding="utf-8")
    shown = run(home, variables, "--yes", code=1)
    assert "  Preset 16gb     not stored: ledger " in shown
    assert cursor.exists()


def test_without_a_client_it_says_what_it_looked_for(
    home: Path, variables: dict[str, str], script: Script
) -> None:
    script.models = {}
    shown = run(home, variables, "--dry-run", machine=program(8))
    assert "none that can be set up" in shown
    assert ", 0 models\n" in shown
    assert "too little memory for any preset" in shown
    assert "Setup would:\n  change nothing\n" in shown
    assert "Try it: immunos-mcp route" in shown


@pytest.mark.parametrize(
    ("manner", "said"),
    [(Manner.LOCKED, "no usable answer from"), (Manner.ANOTHER_SERVICE, "no usable answer from")],
)
def test_an_engine_that_answers_otherwise_is_left_to_the_doctor(
    home: Path, variables: dict[str, str], script: Script, manner: Manner, said: str
) -> None:
    script.manner = manner
    shown = run(home, variables, "--dry-run")
    assert said in shown
    assert "Find out why Ollama does not answer: immunos-mcp doctor" in shown


def elsewhere_too(home: Path, host: str) -> dict[str, str]:
    resolver = elsewhere.resolver(home / "resolver")
    return {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": host, "PYTHONPATH": resolver}


@pytest.mark.parametrize(
    ("host", "is_installed", "found", "step"),
    [
        ("127.0.0.1:1", False, "not found", "Install Ollama from https://ollama.com/download;"),
        ("127.0.0.1:1", True, "installed, not running", "Start Ollama: ollama serve"),
        ("gpu.test:1", False, "no answer from http://gpu.test:1", "Start Ollama at http://"),
    ],
)
def test_where_ollama_does_not_run_one_sentence_says_how_to_get_it(
    home: Path, host: str, is_installed: bool, found: str, step: str
) -> None:
    if is_installed:
        (home / "ollama").touch(mode=0o755)
    variables = elsewhere_too(home, host) | {"PATH": str(home)}
    shown = run(home, variables, "--dry-run")
    assert f"  Ollama          {found}\n" in shown
    assert f"  1. {step}" in shown
    remedy = "install it from https://ollama.com/download" if "Install" in step else "start it with"
    assert f"{remedy}" in wire.run(home, "doctor", variables=variables).stdout


def test_the_memory_here_says_nothing_about_an_engine_elsewhere(home: Path) -> None:
    variables = elsewhere_too(home, f"{elsewhere.NAME}:1") | {"PATH": "/nowhere"}
    answer = run_json(home, variables, "--dry-run")
    assert answer["preset"] == {"state": "not_needed", "reason": "memory_unknown"}


@pytest.mark.parametrize(
    "before",
    ["del os.sysconf", "os.sysconf = lambda name: -1", "os.sysconf = lambda name: int('')"],
)
def test_a_system_that_does_not_tell_its_memory_gets_no_proposal(home: Path, before: str) -> None:
    shown = run(home, {"PATH": "/nowhere"}, "--dry-run", machine=program(before=before))
    assert "Memory" not in shown
    assert "`immunos-mcp config preset` lists the presets" in shown
    assert "not looked at (--ollama-check is off)" in shown


@pytest.mark.usefixtures("cursor")
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_where_nobody_can_be_asked_it_says_what_to_add(
    home: Path, arguments: tuple[str, ...]
) -> None:
    ran = wire.run(home, "setup", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "needs --yes, which takes every proposal, or --dry-run" in ran.stderr
    assert files(home) == []


CONTROLLED = "os.close(os.open(os.ttyname(0), os.O_RDWR))"
"""Opening its terminal makes it the one whose keys interrupt the first process of a session."""


class Terminal:
    """The program on a terminal of its own, read and typed at as a person does."""

    def __init__(self, home: Path, variables: Mapping[str, str]) -> None:
        self.shown = ""
        self._read = 0
        self._controller, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [*started(CONTROLLED), "setup"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=wire.environment(home, **variables),
            cwd=home,
            start_new_session=True,
        )
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._controller)

    def wait_for(self, text: str) -> None:
        """Read until a text is shown that was not there before."""
        while (place := self.shown.find(text, self._read)) < 0:
            assert self._more(), f"ended without {text!r}: {self.shown}"
        self._read = place + len(text)

    def answer(self, question: str, words: str, choices: str = "[Y/n] ") -> None:
        self.wait_for(question)
        self.wait_for(choices)
        self.type(words)

    def type(self, words: str) -> None:
        os.write(self._controller, words.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._more():
            pass
        return self._process.wait(wire.TIMEOUT_SECONDS)

    def _more(self) -> bool:
        readable, _, _ = select.select([self._controller], [], [], wire.TIMEOUT_SECONDS)
        assert readable, f"nothing came after: {self.shown}"
        try:
            said = os.read(self._controller, 65536)
        except OSError:  # Linux ends a terminal that nobody holds open so
            said = b""
        self.shown += said.decode().replace("\r\n", "\n")
        return said != b""


CURSOR, CODEX, PRESET = "Set up Cursor?", "Set up Codex?", "Use the preset 16gb?"
SYNONYMS = "Let synonyms mean your task types,"


@pytest.fixture
def codex(home: Path) -> Path:
    (home / ".codex").mkdir()
    return home / ".codex" / "config.toml"


@pytest.mark.usefixtures("cursor", "codex")
def test_on_a_terminal_it_does_what_was_chosen(home: Path, variables: dict[str, str]) -> None:
    smaller = "[Y/n/8gb] "
    with Terminal(home, variables) as terminal:
        terminal.answer(f"{CURSOR} It changes ~/.cursor/mcp.json.", "maybe\n")
        terminal.wait_for("Please answer y or n.")
        terminal.answer(CURSOR, "Yes\n")
        terminal.answer(CODEX, "n\n")
        assert files(home) == []
        terminal.answer(
            f"{PRESET} It gives local tasks to qwen3.5:9b and qwen3.5:4b", "4gb\n", smaller
        )
        terminal.wait_for("Please answer y, n or 8gb.")
        terminal.answer(PRESET, "8gb\n", smaller)
        terminal.answer(SYNONYMS, "\n")
        assert terminal.end() == 0
    assert "  Cursor          set up\n  Preset 8gb      in use\n  Syn" in terminal.shown
    assert "Restart Cursor.\n" in terminal.shown
    assert files(home) == [
        ".cursor/mcp.json",
        ".immunos/db/immunos.db",
        ".immunos/installed/cursor.json",
    ]
    assert settings(home)["default_local_model"] == "qwen3.5:4b"


@pytest.mark.usefixtures("cursor")
def test_nothing_is_stored_where_everything_is_declined(
    home: Path, variables: dict[str, str]
) -> None:
    with Terminal(home, variables) as terminal:
        terminal.answer(CURSOR, "n\n")
        terminal.answer(PRESET, "no\n", "[Y/n/8gb] ")
        terminal.answer(SYNONYMS, "N\n")
        assert terminal.end() == 0
    assert "ollama pull qwen3.5:9b" not in terminal.shown
    assert files(home) == []


@pytest.mark.usefixtures("cursor")
@pytest.mark.parametrize(
    ("key", "code", "said"),
    [("\x03", -signal.SIGINT, "^C"), ("\x04", 1, "immunos-mcp: stopped; nothing was changed\n")],
    ids=["Ctrl-C", "end of input"],
)
def test_leaving_in_the_middle_changes_nothing(
    home: Path, variables: dict[str, str], key: str, code: int, said: str
) -> None:
    with Terminal(home, variables) as terminal:
        terminal.answer(CURSOR, "y\n")
        terminal.wait_for("[Y/n/8gb] ")
        terminal.type(key)
        assert terminal.end() == code
    assert terminal.shown.endswith(said)
    assert "Traceback" not in terminal.shown
    assert files(home) == []


INTERRUPTED_WHILE_WRITING = """
import signal
from immunos_mcp.assistants import config_files
real = config_files.write
def write(file, content):
    if file.name == 'mcp.json': os.kill(os.getpid(), signal.SIGINT)
    real(file, content)
config_files.write = write
"""


@pytest.mark.usefixtures("codex")
def test_an_interruption_while_it_writes_waits_for_the_step_to_end(
    home: Path, cursor: Path, variables: dict[str, str]
) -> None:
    machine = program(before=INTERRUPTED_WHILE_WRITING)
    shown = run(home, variables, "--yes", code=1, machine=machine)
    assert (
        "  Cursor          set up\n"
        "  Codex           not set up, interrupted\n"
        "  Preset 16gb     not used, interrupted\n"
    ) in shown
    assert files(home) == [".cursor/mcp.json", ".immunos/installed/cursor.json"]
    assert "immunos" in json.loads(cursor.read_text(encoding="utf-8"))["mcpServers"]
