"""What the import layers cannot say: that commands stay light, and that importing does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import wire

import immunos_mcp

PACKAGE = Path(immunos_mcp.__file__).parent


def run(home: Path, code: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        env=wire.environment(home),
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=wire.TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_command_imports_neither_the_protocol_nor_an_event_loop(home: Path) -> None:
    code = (
        "import sys; from immunos_mcp.cli import main as cli;"
        " assert cli.main(['route', '--task-type', 'x', '--classification', 'routine']) == 0;"
        " assert cli.main(['status']) == 0;"
        " assert cli.main(['sync', '--all']) == 0;"
        " heavy = {'mcp', 'mcp_types', 'pydantic', 'pydantic_core', 'anyio', 'asyncio', 'aiosqlite', 'psycopg',"
        " 'immunos_mcp.database_address', 'tomlkit', 'immunos_mcp.assistants.configuration'};"
        " print(sorted(heavy & set(sys.modules)))"
    )
    assert run(home, code).splitlines()[-1] == "[]"


def test_a_command_imports_the_modules_of_no_other_group(home: Path) -> None:
    code = (
        "import sys; from immunos_mcp.cli import main as cli, program;"
        " assert cli.main(['status']) == 0;"
        " others = {f'immunos_mcp.cli.{name}' for name in program.MODULES.values()};"
        " print(sorted((others | {'shtab', 'immunos_mcp.engines.ollama'}) & set(sys.modules)))"
    )
    assert run(home, code).splitlines()[-1] == "['immunos_mcp.cli.session']"


UNUSED = {
    "statusline": ("argparse", "immunos_mcp.rules.formatting"),
    "sync --all": ("immunos_mcp.cli.terminal", "immunos_mcp.rules.roles"),
}
"""What these commands do not import besides what neither of them does."""


@pytest.mark.parametrize("command", UNUSED)
def test_frequent_commands_import_what_they_use(home: Path, command: str) -> None:
    code = (
        "import os, sys; from immunos_mcp.__main__ import main;"
        f" sys.argv = ['immunos-mcp', *'{command}'.split()];"
        f" unused = {{*{UNUSED[command]}, 'decimal', 'uuid', 'urllib.parse', 'signal', 'json',"
        " *(f'immunos_mcp.{name}' for name in ('rules.policy', 'rules.track_record', 'rules.budget_windows',"
        " 'rules.project_settings', 'rules.task_types', 'ledger.changed_settings', 'ledger.decisions',"
        " 'answers.sessions', 'answers.settings', 'answers.history', 'answers.routing'))};"
        " end, os._exit = os._exit, lambda code:"
        " (print(sorted(unused & set(sys.modules)), flush=True), end(code));"
        " main()"
    )
    assert run(home, code, "{}").splitlines()[-1] == "[]"


def test_what_is_left_out_of_a_library_is_there_once_it_is_used(home: Path) -> None:
    code = (
        "import sys, types; from immunos_mcp import lean_imports as lean;"
        # As if a later version used more of it: it is loaded as a whole.
        " lean._load('msgspec', {'uuid': types.SimpleNamespace()}); assert 'msgspec' not in sys.modules;"
        " lean.load_msgspec(); lean.load_pathlib(); lean.load_argparse();"
        " import argparse, decimal, msgspec, pathlib, uuid;"
        " print(decimal.Decimal(3), uuid.UUID(int=3), pathlib.Path('/a b').as_uri())"
    )
    assert run(home, code) == "3 00000000-0000-0000-0000-000000000003 file:///a%20b\n"


def test_importing_every_module_prints_nothing_and_makes_nothing(home: Path) -> None:
    modules = [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
        # They need a package that not everybody has.
        if not file.name.startswith("postgresql")
    ]
    assert "immunos_mcp.server.app" in modules
    assert run(home, "import " + ", ".join(sorted(modules))) == ""
    assert list(home.iterdir()) == []


def test_only_a_reports_page_loads_templates_and_charts(home: Path) -> None:
    code = (
        "import sys; from immunos_mcp.cli import main as cli;"
        " loaded = lambda: sorted({'jinja2', 'pygal'} & set(sys.modules));"
        " told = [(form, cli.main(['report', '--format', form]), loaded())"
        " for form in ('text', 'csv', 'html')];"
        " print(); print(told)"
    )
    told = "[('text', 0, []), ('csv', 0, []), ('html', 0, ['jinja2', 'pygal'])]"
    assert run(home, code).splitlines()[-1] == told
