"""What an assistant's configuration has to hold for the router, and how ours is recognised there. Pure."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from immunos_mcp.assistants import json_edit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from immunos_mcp.assistants.documents import Json, Syntax
    from immunos_mcp.assistants.findings import AssistantState, DoctorContext, Finding

PROGRAM = "immunos-mcp"
_MODULE = "immunos_mcp"
_WRAPPERS = frozenset({"env", "pipx", "uv", "uvx"})


@dataclass(frozen=True, slots=True)
class Launch:
    """How an assistant starts the program.

    Attributes:
        command: the program, in full where that is known.
        arguments: what every use of it needs: where the ledger is, which session.
        serving_arguments: what only the server takes.
    """

    command: str
    arguments: tuple[str, ...] = ()
    serving_arguments: tuple[str, ...] = ()

    def server(self) -> dict[str, Json]:
        """Return what starts the server, in the words that all assistants share."""
        return {"command": self.command, "args": [*self.arguments, *self.serving_arguments]}


@dataclass(frozen=True, slots=True)
class Setup:
    """What an assistant is set up with.

    Attributes:
        launch: how it starts the program.
        environment: the variables that say where its files are.
        telemetry: whether it should export its requests too, where it can.
    """

    launch: Launch
    environment: Mapping[str, str]
    telemetry: bool = False


def is_our_server(there: Json) -> bool:
    """Return whether an entry starts this program."""
    if not isinstance(there, dict) or not isinstance(there.get("command"), str):
        return False
    arguments = there.get("args")
    words = arguments if isinstance(arguments, list) else []
    return starts_program([cast("str", there["command"]), *(str(word) for word in words)])


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that a configuration file has to hold.

    Attributes:
        path: the names that lead to it.
        value: what stands there, or one item of the list that does.
        yields: whether another value that stands there already is left alone.
        recognise: tells whether another value is ours too, though outdated.
        without_ours: of an item of a list: takes our items out of the list.
        marker: the value is ours only where something is at this path too; empty: in any case.
    """

    path: tuple[str, ...]
    value: Json
    yields: bool = False
    recognise: Callable[[Json], bool] = is_our_server
    without_ours: Callable[[Sequence[Json]], list[Json]] | None = None
    marker: tuple[str, ...] = ()

    def is_ours(self, there: Json) -> bool:
        """Return whether what stands in this entry's place is of this program, be it outdated."""
        return there == self.value or self.recognise(there)


@dataclass(frozen=True, slots=True)
class Configuration:
    """An assistant's file, what it has to hold, and how it is spelled."""

    file: Path
    entries: tuple[Entry, ...]
    syntax: Syntax = json_edit


def _has_no_plugin(_documents: Sequence[Json]) -> bool:
    return False


def _nothing_found(_seen: object) -> Iterator[Finding]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Assistant:
    """An assistant that can be set up and looked at; each has a folder, and the registry names it.

    Attributes:
        name: as ``install`` takes it.
        configurations: its files, the one with the server's entry first, each with what it needs.
        program: the command that shows that it is installed, where one does.
        has_plugin: tells from what its files hold whether a plugin brings the server.
        findings: what the doctor finds in its files beyond the server's entry.
        log_findings: what the doctor finds in the logs that its usage is read from.
    """

    name: str
    configurations: Callable[[Setup], tuple[Configuration, ...]]
    program: str = ""
    has_plugin: Callable[[Sequence[Json]], bool] = _has_no_plugin
    findings: Callable[[AssistantState], Iterator[Finding]] = _nothing_found
    log_findings: Callable[[DoctorContext], Iterator[Finding]] = _nothing_found


def starts_program(words: Sequence[str]) -> bool:
    """Return whether a command line starts this program, by itself or through Python or a runner."""
    if not words:
        return False
    names = [_name(word) for word in words]
    if names[0] == PROGRAM:
        return True
    if names[0].startswith("python"):
        return _MODULE in words and words[words.index(_MODULE) - 1] == "-m"
    return names[0] in _WRAPPERS and (PROGRAM in names or _MODULE in names)


def server_arguments(words: Sequence[str]) -> list[str] | None:
    """Return what a command line gives to this program; ``None`` where a runner hides that."""
    if not starts_program(words):
        return None
    if _MODULE in words:
        return list(words[words.index(_MODULE) + 1 :])
    return list(words[1:]) if _name(words[0]) not in _WRAPPERS else None


def _name(word: str) -> str:
    return word.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")


def words_of(command: str) -> list[str]:
    """Return the words of a shell's command line, be its quotes in order or not."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def application_folder(environment: Mapping[str, str]) -> Path:
    """Return where desktop applications keep their settings."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(environment.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
