"""The entries that an assistant's configuration needs, and how to recognise ours. Pure."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import json_edit
from immunos_mcp.assistants.documents import items, member
from immunos_mcp.options import TOKEN, home_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.documents import Syntax
    from immunos_mcp.assistants.findings import AssistantState, DoctorContext, Finding

PROGRAM = "immunos-mcp"
_MODULE = "immunos_mcp"
_WRAPPERS = frozenset({"env", "pipx", "uv", "uvx"})


@dataclass(frozen=True, slots=True)
class Launch:
    """How an assistant starts the program.

    Attributes:
        command: the program, with its full path if known.
        arguments: for every command: the ledger and the session.
        serving_arguments: for the server only.
    """

    command: str
    arguments: tuple[str, ...] = ()
    serving_arguments: tuple[str, ...] = ()

    def server(self) -> dict[str, Json]:
        """Return the server's command and arguments, in the form common to all assistants."""
        return {"command": self.command, "args": [*self.arguments, *self.serving_arguments]}


@dataclass(frozen=True, slots=True)
class Setup:
    """How an assistant is to be set up.

    Attributes:
        launch: how it starts the program.
        environment: environment variables, which determine where its files are.
        telemetry: whether it should also export its requests, if it can.
        url: the server over HTTP that it uses instead of starting one; empty: it starts one.
        is_removal: whether the entries are to be removed, however it was set up.
    """

    launch: Launch
    environment: Mapping[str, str]
    telemetry: bool = False
    url: str = ""
    is_removal: bool = False


def server_at(url: str, token: str) -> dict[str, Json]:
    """Return the entry of a server over HTTP, in the form common to many assistants.

    Args:
        url: where it is.
        token: what the assistant replaces by the token, which is in no file.
    """
    return {"url": url, "headers": {"Authorization": f"Bearer {token}"}}


def url_of(entry: Json) -> str | None:
    """Return the URL of an entry that we made for a server over HTTP; ``None``: it is none."""
    bearer = member(entry, ("headers", "Authorization"))
    url = member(entry, ("url",))
    is_ours = isinstance(bearer, str) and TOKEN in bearer.upper().replace("-", "_")
    return url if is_ours and isinstance(url, str) else None


def command_line(entry: Json) -> list[str]:
    """Return the program that an entry starts and its arguments; none if it starts no program."""
    command, arguments = _part(entry, "command"), _part(entry, "args")
    if isinstance(command, str):
        return [command, *(str(word) for word in items(arguments))]
    return [str(word) for word in items(command)]


def own_environment(entry: Json) -> dict[str, str]:
    """Return the environment variables that an entry gives to its server."""
    given = _part(entry, "env") or _part(entry, "environment")
    return {name: str(text) for name, text in given.items()} if isinstance(given, dict) else {}


def _part(entry: Json, name: str) -> Json:
    """Return a part of an entry, which some assistants keep one level further down."""
    return member(member(entry, ("transport",)) or entry, (name,))


def is_our_server(entry: Json) -> bool:
    """Return whether an entry starts this program, or is one of ours for a server over HTTP."""
    return starts_program(command_line(entry)) or url_of(entry) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that a configuration file needs.

    Attributes:
        path: the keys that lead to it.
        value: its value, or one item of the list at that path.
        yields: whether to keep a different value that is already there.
        recognise: decides whether a different value is an outdated one of ours.
        without_ours: for list items: returns the list without our items.
        marker: the value is ours only if this path exists too; empty: always.
    """

    path: tuple[str, ...]
    value: Json
    yields: bool = False
    recognise: Callable[[Json], bool] = is_our_server
    without_ours: Callable[[Sequence[Json]], list[Json]] | None = None
    marker: tuple[str, ...] = ()

    def is_ours(self, existing: Json) -> bool:
        """Return whether an existing value is ours, even if outdated."""
        return existing == self.value or self.recognise(existing)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration file of an assistant, the entries it needs, and its syntax.

    Attributes:
        is_plain_json: whether the assistant cannot read comments, trailing commas and byte order marks.
    """

    file: Path
    entries: tuple[Entry, ...]
    syntax: Syntax = json_edit
    is_plain_json: bool = False


def _has_no_plugin(_documents: Sequence[Json]) -> bool:
    return False


def _nothing_found(_seen: object) -> Iterator[Finding]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Assistant:
    """An assistant that can be set up and diagnosed; each has a folder and is listed in the registry.

    Attributes:
        name: its name for ``install``.
        title: what people call it.
        configurations: returns its files and their entries; the file with the server's entry is first.
        program: the command whose presence shows that it is installed, if there is one.
        patience: how many seconds it waits for a server, if that was measured.
        has_plugin: decides from the content of its files whether a plugin provides the server.
        findings: the doctor's findings in its files, other than the server's entry.
        log_findings: the doctor's findings in the logs that its usage is read from.
        takes_url: whether it can be set up for a server over HTTP.
    """

    name: str
    title: str
    configurations: Callable[[Setup], tuple[Configuration, ...]]
    program: str = ""
    patience: float | None = None
    has_plugin: Callable[[Sequence[Json]], bool] = _has_no_plugin
    findings: Callable[[AssistantState], Iterator[Finding]] = _nothing_found
    log_findings: Callable[[DoctorContext], Iterator[Finding]] = _nothing_found
    takes_url: bool = False


def starts_program(words: Sequence[str]) -> bool:
    """Return whether a command line starts this program, directly or through Python or a runner."""
    if not words:
        return False
    names = [_name(word) for word in words]
    if names[0] == PROGRAM:
        return True
    if names[0].startswith("python"):
        return _MODULE in words and words[words.index(_MODULE) - 1] == "-m"
    return names[0] in _WRAPPERS and (PROGRAM in names or _MODULE in names)


def server_arguments(words: Sequence[str]) -> list[str] | None:
    """Return this program's arguments in a command line; ``None``: a runner hides them."""
    if not starts_program(words):
        return None
    if _MODULE in words:
        return list(words[words.index(_MODULE) + 1 :])
    return list(words[1:]) if _name(words[0]) not in _WRAPPERS else None


def _name(word: str) -> str:
    return word.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")


def words_of(command: str) -> list[str]:
    """Split a shell command line into words, even if its quotes are unbalanced."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def application_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder where desktop applications store their settings."""
    if sys.platform == "darwin":
        return home_folder() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(environment.get("APPDATA") or home_folder() / "AppData" / "Roaming")
    return Path(environment.get("XDG_CONFIG_HOME") or home_folder() / ".config")
