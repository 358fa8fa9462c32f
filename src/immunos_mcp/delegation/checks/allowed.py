"""The commands that the user allowed to check answers with, by name, for each project.

They are in a file of this machine and user, not in the ledger: what is in the ledger can be changed by
any client and be shared, and these are programs that run here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.assistants import regular_files
from immunos_mcp.delegation.checks import registry
from immunos_mcp.errors import InvalidInputError, OutputError, Problem, unknown
from immunos_mcp.options import NoHomeError, home_folder
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "{path}"
"""What stands in a command for the file with the answer."""

LONGEST_COMMAND = 1_000
LARGEST = 2**20
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

Projects = dict[str, dict[str, str]]
"""Commands by name, for each project folder."""


class Allowed(NamedTuple):
    """A command that the user allowed.

    Attributes:
        name: what callers ask for it by.
        command: as the user gave it.
        project: the folder it is allowed for.
    """

    name: str
    command: str
    project: Path

    @property
    def words(self) -> list[str]:
        """The program and its arguments."""
        return shlex.split(self.command)


def store() -> Path:
    """Return the file that they are kept in."""
    return home_folder() / ".immunos" / "checks.json"


def commands(project: Path) -> Mapping[str, Allowed]:
    """Return the commands of a project, by name."""
    found = _read().get(str(project), {})
    return {name: Allowed(name, command, project) for name, command in sorted(found.items())}


def add(project: Path, name: str, command: str) -> Allowed:
    """Allow a command, or replace the one of the name.

    Raises:
        InvalidInputError: the name or the command is invalid.
    """
    if not _NAME.fullmatch(name) or name in registry.NAMES:
        builtin = ", ".join(registry.NAMES)
        expected = f"lower-case letters, digits, - and _, at most 32, and none of {builtin}"
        raise InvalidInputError(Problem("name", name, expected))
    _check_command(command)
    projects = _read()
    projects.setdefault(str(project), {})[name] = command
    _write(projects)
    return Allowed(name, command, project)


def remove(project: Path, name: str) -> None:
    """Allow a command no longer.

    Raises:
        InvalidInputError: there is none of the name.
    """
    projects = _read()
    found = projects.get(str(project), {})
    if name not in found:
        raise InvalidInputError(unknown("name", "check", name, found))
    del found[name]
    _write({folder: each for folder, each in projects.items() if each})


def _check_command(command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as error:
        message = f"command: cannot be split into words ({error})"
        raise InvalidInputError(Problem("command", command, message=message)) from None
    if not words or len(command) > LONGEST_COMMAND or not is_printable(command):
        expected = f"a program with its arguments, at most {LONGEST_COMMAND} printable characters"
        raise InvalidInputError(Problem("command", command, expected))
    if PATH in words[0]:
        raise InvalidInputError(Problem("command", command, f"a program first, then {PATH}"))


def _read() -> Projects:
    try:
        file = store()
    except NoHomeError:
        return {}
    try:
        return _projects(json.loads(regular_files.content(file, LARGEST)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        message = f"{file} cannot be read ({error}); correct or delete it"
        raise InvalidInputError(Problem("checks", None, message=message)) from None


def _projects(found: object) -> Projects:
    import msgspec

    return msgspec.convert(found, Projects)


def _write(projects: Projects) -> None:
    file = store()
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".checks-", dir=file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(projects, stream, indent=2, sort_keys=True)
        Path(name).replace(file)
    except OSError as error:
        raise OutputError(f"{file} cannot be written ({error.strerror})") from error
