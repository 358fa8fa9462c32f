"""The live screen in a terminal: it shows what others do, keeps to its size, and leaves no trace."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import wire
from terminals import Terminal

from immunos_mcp.cli.main import main
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def watch(home: Path, *more: str, **variables: str) -> Terminal:
    return Terminal(("-m", "immunos_mcp", "watch", *more), wire.environment(home, **variables))


@pytest.fixture
def used(ledger_file: Path) -> Path:
    """A ledger with two budgets and some usage."""
    with InlineSqliteLedger(ledger_file) as ledger:
        router = Router(ledger, "default")
        budgets = "daily=20 usd/day; week=5M tokens/week"
        run_sync(router.update_config({"budgets": budgets}, "test"))
        run_sync(router.record_usage("claude-sonnet-4-5", 150_000, 10_000))
        run_sync(router.record_usage("qwen2.5-coder:7b", 2_000, 500))
    return ledger_file


def route(ledger_file: Path, task_type: str) -> None:
    with InlineSqliteLedger(ledger_file) as ledger:
        run_sync(Router(ledger, "default").route_task(task_type, "creative"))


def test_it_shows_what_others_do_in_any_size_and_leaves_the_terminal_as_it_was(
    home: Path, used: Path
) -> None:
    with watch(home) as terminal:
        screen = terminal.wait_for(lambda shown: "q quits" in shown)
        assert {"?1049"} <= terminal.modes
        assert [len(line) for line in terminal.lines] == [80] * 24
        assert re.search(r"session +█+\S* +80%! +160k of 200k tokens", screen)
        assert re.search(r"daily .* 3%  +\$0\.60 of 20 usd/day", screen)
        assert re.search(r"week .* 3\.2%  +160k of 5M tokens/week", screen)
        assert "Today by assistant, project, model and agent: 160k tokens, $0.60" in screen
        assert "kept local 2.5k tokens, $0.01 at Claude's list price" in screen
        assert "No decisions yet" in screen
        assert COLOUR.search(terminal.written)
        route(used, "novel_writing")
        terminal.wait_for(lambda shown: "novel_writing" in shown)
        terminal.resize(100, 12)
        terminal.wait_for(lambda shown: {len(line) for line in shown.split("\n")} == {100})
        assert len(terminal.lines) == 12
        # A frame is one write: it begins and ends with the marks of a synchronised update.
        assert terminal.written.count("\x1b[?2026h") == terminal.written.count("\x1b[H")
        terminal.type("xq")
        assert terminal.ended() == 0
        assert terminal.modes == {"?7", "?25"}
        assert terminal.now() == terminal.attributes


def test_a_ledger_that_comes_later_is_shown_and_ctrl_c_ends(home: Path, ledger_file: Path) -> None:
    with watch(home, NO_COLOR="1") as terminal:
        screen = terminal.wait_for(lambda shown: "q quits" in shown)
        assert "there is no ledger" in screen
        assert not ledger_file.exists()
        route(ledger_file, "novel_writing")
        terminal.wait_for(lambda shown: "novel_writing" in shown and "no ledger" not in shown)
        assert not COLOUR.search(terminal.written)
        terminal.type("\x03")
        assert terminal.ended() == 0
        assert terminal.now() == terminal.attributes


def once(home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "immunos_mcp", "watch", *more),
        env=wire.environment(home),
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=30,
    )


def test_a_snapshot_needs_no_terminal(home: Path, used: Path) -> None:
    route(used, "novel_writing")
    shown = once(home, "--once")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\x1b" not in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "novel_writing" in shown.stdout


def test_subagents_are_told_apart(used: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conversation, now = "475b4040-009a", utc_now()
    with InlineSqliteLedger(used) as ledger:
        for number, agent in enumerate((None, "a2f3e483ed", "b7")):
            name, tokens = f"m{number}", 1000 * (number + 1)
            response = MeasuredUsage(name, now, "claude-haiku-4-5", tokens, folder="/home/me/app")
            own = response._replace(conversation=conversation, agent=agent)
            run_sync(ledger.write(ingest, [own]))
    assert main(["watch", "--json", "--db", str(used)]) == 0
    agents = json.loads(capsys.readouterr().out)["today"]["agents"]
    assert [(each["name"], each["budget_tokens"]) for each in agents] == [
        ("", 160_000),
        ("475b4040-009a/b7", 3000),
        ("475b4040-009a/a2f3e483ed", 2000),
        ("475b4040-009a", 1000),
    ]
    assert main(["watch", "--once", "--db", str(used)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for written in ("475b/b7", "475b/a2f3e", "475b4040", "claude-code", " haiku-4-5"):
        assert written in shown


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["watch", *arguments]) == 1
    return capsys.readouterr().err


def test_what_is_missing_is_said(
    used: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "use `immunos-mcp watch --once` without one" in fails(capsys)
    missing = used.with_name("missing.db")
    assert f"there is no ledger {missing}" in fails(capsys, "--once", "--db", str(missing))
    assert not missing.exists()
    with closing(sqlite3.connect(used, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert "another program" in fails(capsys, "--once", "--db", str(used))
    for module in [name for name in sys.modules if name.startswith(("rich", "immunos_mcp.cli.f"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert "pip install 'immunos-mcp[watch]'" in fails(capsys, "--once", "--db", str(used))
    assert main(["watch", "--json", "--db", str(used)]) == 0
    seen: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert seen["today"]["total"] == {"name": "", "budget_tokens": 160_000, "usd": 0.6}
    assert seen["status"]["session_tokens"] == 160_000
