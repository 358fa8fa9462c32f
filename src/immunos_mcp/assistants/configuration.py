"""What each client's configuration has to hold for the router, and where that is. Pure.

Places and shapes follow the clients' documentation of 2026; Claude Code's and Codex's were seen.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from immunos_mcp.assistants.json_edit import Json

NAME = "immunos"
"""The router's name in every client."""

PROGRAM = "immunos-mcp"
_MODULE = "immunos_mcp"
_WRAPPERS = frozenset({"env", "pipx", "uv", "uvx"})

HOOK_TOOL = "claude_code_hook"
"""The tool that Claude Code's hooks call; not listed, so that it costs no context."""

HOOK_SECONDS = 5
HOOK_MATCHERS: dict[str, str | None] = {
    "UserPromptSubmit": None,
    "PreToolUse": "Agent|Task",
    "PostToolBatch": None,
    "SubagentStop": None,
    "Stop": None,
}
"""The events of Claude Code that call the router, and the tools that an event is limited to."""

TELEMETRY: dict[str, str] = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    "IMMUNOS_TELEMETRY": "on",
}
"""The variables that make Claude Code export its requests to the router."""


class Client(StrEnum):
    """The clients that can be set up."""

    CLAUDE_CODE = "claude-code"
    CLAUDE_DESKTOP = "claude-desktop"
    VSCODE = "vscode"
    CURSOR = "cursor"
    CODEX = "codex"


@dataclass(frozen=True, slots=True)
class Launch:
    """How a client starts the program.

    Attributes:
        command: the program, in full where that is known.
        arguments: what every use of it needs: where the ledger is, which session.
        serving_arguments: what only the server takes.
    """

    command: str
    arguments: tuple[str, ...] = ()
    serving_arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that a configuration file has to hold.

    Attributes:
        path: the names that lead to it.
        value: what stands there, or one item of the list that does.
        is_item: whether it is an item of a list.
        yields: whether another value that stands there already is left alone.
    """

    path: tuple[str, ...]
    value: Json
    is_item: bool = False
    yields: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """A client's file, and what it has to hold."""

    file: Path
    entries: tuple[Entry, ...]
    is_toml: bool = False


def configurations(
    client: Client, launch: Launch, environment: Mapping[str, str], *, telemetry: bool = False
) -> tuple[Configuration, ...]:
    """Return the files of a client, each with what the router needs there."""
    server: dict[str, Json] = {
        "command": launch.command,
        "args": [*launch.arguments, *launch.serving_arguments],
    }
    match client:
        case Client.CLAUDE_CODE:
            folder = claude_code_folder(environment)
            top = folder if environment.get("CLAUDE_CONFIG_DIR") else folder.parent
            settings = [
                *(
                    Entry(("hooks", event), hook_group(event), is_item=True)
                    for event in HOOK_MATCHERS
                ),
                status_line(launch),
            ]
            if telemetry:
                settings += (
                    Entry(("env", name), text, yields=True) for name, text in TELEMETRY.items()
                )
            return (
                Configuration(
                    top / ".claude.json",
                    (Entry(("mcpServers", NAME), {"type": "stdio", **server, "alwaysLoad": True}),),
                ),
                Configuration(folder / "settings.json", tuple(settings)),
            )
        case Client.CLAUDE_DESKTOP:
            file = _application_folder(environment) / "Claude" / "claude_desktop_config.json"
            return (Configuration(file, (Entry(("mcpServers", NAME), server),)),)
        case Client.VSCODE:
            file = _application_folder(environment) / "Code" / "User" / "mcp.json"
            return (Configuration(file, (Entry(("servers", NAME), {"type": "stdio", **server}),)),)
        case Client.CURSOR:
            file = Path.home() / ".cursor" / "mcp.json"
            return (Configuration(file, (Entry(("mcpServers", NAME), server),)),)
        case Client.CODEX:
            folder = Path(environment.get("CODEX_HOME") or Path.home() / ".codex").absolute()
            entry = Entry(("mcp_servers", NAME), server)
            return (Configuration(folder / "config.toml", (entry,), is_toml=True),)


def status_line(launch: Launch) -> Entry:
    """Return the entry that shows the budget under Claude Code's prompt, where nothing else is."""
    words = [launch.command, *launch.arguments, "statusline"]
    command = shlex.join(words)
    return Entry(("statusLine",), {"type": "command", "command": command}, yields=True)


def hook_group(event: str, server: str = NAME) -> dict[str, Json]:
    """Return what an event of Claude Code has to hold: one call of the running server."""
    hook: dict[str, Json] = {
        "type": "mcp_tool",
        "server": server,
        "tool": HOOK_TOOL,
        "input": {"event": event},
        "timeout": HOOK_SECONDS,
    }
    matcher = HOOK_MATCHERS[event]
    group: dict[str, Json] = {} if matcher is None else {"matcher": matcher}
    return {**group, "hooks": [hook]}


def claude_code_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of Claude Code's settings."""
    configured = environment.get("CLAUDE_CONFIG_DIR")
    return Path(configured).absolute() if configured else Path.home() / ".claude"


def has_plugin(settings: Json) -> bool:
    """Tell whether Claude Code's settings switch our plugin on."""
    enabled = settings.get("enabledPlugins") if isinstance(settings, dict) else None
    return isinstance(enabled, dict) and any(
        name.partition("@")[0] == NAME and bool(on) for name, on in enabled.items()
    )


def is_ours(there: Json, entry: Entry) -> bool:
    """Tell whether what stands in an entry's place is of this program, be it outdated."""
    if there == entry.value:
        return True
    if not isinstance(there, dict) or not isinstance(there.get("command"), str):
        return False
    command = cast("str", there["command"])
    if entry.yields:
        words = _split(command)
        return starts_program(words) and "statusline" in words
    arguments = there.get("args")
    words = arguments if isinstance(arguments, list) else []
    return starts_program([command, *(str(word) for word in words)])


def starts_program(words: Sequence[str]) -> bool:
    """Tell whether a command line starts this program, by itself or through Python or a runner."""
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


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def is_our_hook(hook: Json) -> bool:
    """Tell whether a hook of Claude Code calls the server that was set up under our name."""
    return isinstance(hook, dict) and (hook.get("server"), hook.get("tool")) == (NAME, HOOK_TOOL)


def without_our_hooks(groups: Sequence[Json]) -> list[Json]:
    """Return an event's groups of hooks without ours; groups that held nothing else are gone."""
    left: list[Json] = []
    for group in groups:
        hooks = group.get("hooks") if isinstance(group, dict) else None
        if not isinstance(group, dict) or not isinstance(hooks, list):
            left.append(group)
            continue
        others = [hook for hook in hooks if not is_our_hook(hook)]
        if others or not hooks:
            left.append(group if others == hooks else {**group, "hooks": others})
    return left


def _application_folder(environment: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(environment.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    return Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
