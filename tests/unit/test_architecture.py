"""What the import layers cannot say: that commands stay light, and that importing does nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import wire

import immunos_mcp

PACKAGE = Path(immunos_mcp.__file__).parent


def run(home: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
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
