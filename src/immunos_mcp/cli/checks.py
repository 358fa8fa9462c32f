"""The command ``checks`` and its actions: commands that may check answers of local models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import EXIT_FINE, folder, print_text

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.delegation.checks.allowed import Allowed

WARNING = (
    "Note: this command will execute code that a local model wrote, with your rights. It runs in a copy of"
    " the project, which is no sandbox."
)


def _project(given: Namespace) -> Path:
    return Path(given.project or folder("."))


def _add(given: Namespace) -> int:
    from immunos_mcp.delegation.checks import allowed

    added = allowed.add(_project(given), given.check, given.shell_words)
    told = f"{added.name} is allowed in {added.project}: {added.command}"
    print_text(to_json(_as_answer(added)) if given.json else told)
    print(WARNING, file=sys.stderr)
    return EXIT_FINE


def _list(given: Namespace) -> int:
    from immunos_mcp.delegation.checks import allowed

    found = allowed.commands(_project(given)).values()
    lines = [f"{each.name}: {each.command}" for each in found]
    none = f"no commands are allowed in {_project(given)}; add one with `immunos-mcp checks add`"
    told = to_json((*map(_as_answer, found),)) if given.json else "\n".join(lines) or none
    print_text(told)
    return EXIT_FINE


def _remove(given: Namespace) -> int:
    from immunos_mcp.delegation.checks import allowed

    allowed.remove(_project(given), given.check)
    told = {"removed": given.check}
    print_text(to_json(told) if given.json else f"{given.check} is no longer allowed")
    return EXIT_FINE


def _as_answer(allowed: Allowed) -> dict[str, str]:
    return {
        "name": allowed.name,
        "command": allowed.command,
        "project": str(allowed.project),
    }


def _add_project(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--project", type=folder, metavar="FOLDER", help="the project (default: this folder)"
    )


def _add_add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("check", metavar="NAME")
    parser.add_argument(
        "shell_words",
        metavar="COMMAND",
        help="program and arguments in quotes, run without a shell; {path} is the file with the answer",
    )
    _add_project(parser)


def _add_remove_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("check", metavar="NAME")
    _add_project(parser)


_ACTIONS = (
    Command(
        "add",
        "allow a command, which will execute code that local models wrote with your rights",
        'checks add tests "pytest -q {path}"',
        _add,
        _add_add_arguments,
    ),
    Command("list", "show the allowed commands", "checks list", _list, _add_project),
    Command(
        "remove", "allow a command no longer", "checks remove tests", _remove, _add_remove_arguments
    ),
)


def _list_by_default(parser: ArgumentParser) -> None:
    parser.set_defaults(project=None)


COMMANDS = (
    Command(
        "checks",
        "allow commands that check answers of local models",
        "checks list",
        _list,
        _list_by_default,
        _ACTIONS,
    ),
)
