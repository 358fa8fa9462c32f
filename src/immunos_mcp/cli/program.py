"""The program's own parser, and where each command's module is."""

from __future__ import annotations

import argparse
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from immunos_mcp import __version__
from immunos_mcp.cli.command import PROGRAM, ParserOfCommands, add_option
from immunos_mcp.options import COMMAND_OPTIONS, SERVING_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.cli.command import Command

MODULES = {
    "route": "routing",
    "explain": "routing",
    "record": "routing",
    "outcome": "routing",
    "status": "session",
    "models": "models",
    "config": "settings",
    "budget": "budgets",
    "check": "budgets",
    "blocks": "budgets",
    "off": "gates",
    "on": "gates",
    "allow": "gates",
    "pause": "gates",
    "watch": "watching",
    "reset": "session",
    "history": "session",
    "replay": "replay",
    "sync": "detail",
    "prune": "detail",
    "statusline": "session",
    "bind": "session",
    "delegate": "delegation",
    "tasks": "tasks",
    "checks": "checks",
    "setup": "setup",
    "install": "clients",
    "join": "team",
    "leave": "team",
    "serve": "serving_http",
    "team": "databases",
    "person": "people",
    "token": "people",
    "audit": "people",
    "report": "reporting",
    "export": "reporting",
    "doctor": "clients",
    "db": "databases",
    "completion": "completion",
}
"""The module of each command, in the order of help; only the given command's is imported."""

_EXAMPLES = """\
examples:
  immunos-mcp                                    serve MCP over standard input and output
  immunos-mcp route --task-type code_review --classification routine
  immunos-mcp record --model claude-sonnet-4.5 --input 1200 --output 300
  immunos-mcp status --json
  immunos-mcp config set token_warning_threshold=100000
  immunos-mcp config set task_mappings.translate=qwen2.5:7b
  immunos-mcp reset --reason "new working day"

exit codes: 0 fine, 1 failed, 2 wrong usage; `check` has 3 for a threshold that is reached
"""


def find(name: str) -> Command:
    """Return a command; its module is imported."""
    commands: tuple[Command, ...] = import_module(f"immunos_mcp.cli.{MODULES[name]}").COMMANDS
    return next(command for command in commands if command.name == name)


class ProgramParser(ParserOfCommands):
    """The parser of the whole command line."""

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__(
            prog=PROGRAM,
            whole=whole,
            description="Routes work between Claude and local Ollama models under one token budget. "
            "Without a command it serves MCP over standard input and output.",
            epilog=_EXAMPLES,
        )
        for option in SERVING_OPTIONS:
            add_option(self, option)
        self.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
        commands = {name: partial(find, name) for name in MODULES}
        self.add_commands(commands, "commands", "COMMAND", described=True)

    def in_whole(self) -> argparse.ArgumentParser:
        """Return the parser with the parsers of all commands."""
        return ProgramParser(whole=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line (``None``: the process's); without a command, ``command`` is ``None``.

    Raises:
        UsageError: it is wrong.
        SystemExit: it asks for help or the version, which has been printed.
    """
    flags = {option.name: None for option in (*COMMAND_OPTIONS, *SERVING_OPTIONS)}
    return ProgramParser().parse_args(
        arguments, argparse.Namespace(command=None, json=False, debug=False, **flags)
    )
