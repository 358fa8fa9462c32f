"""The entries that Claude Code's two configuration files need, in their format of 2026. Pure."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME
from immunos_mcp.assistants.claude_code.hooks import HOOK_EVENTS, hook_group, without_our_hooks
from immunos_mcp.assistants.configuration import (
    Configuration,
    Entry,
    server_at,
    starts_program,
    words_of,
)
from immunos_mcp.options import TOKEN, home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.configuration import Launch, Setup

TELEMETRY: dict[str, str] = {
    "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
    "OTEL_LOGS_EXPORT_INTERVAL": "500",
    "IMMUNOS_TELEMETRY": "on",
}
"""The variables that make Claude Code export its requests to the router."""


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its files: the one with the MCP servers, and the settings."""
    own_folder = setup.environment.get("CLAUDE_CONFIG_DIR")
    folder = Path(own_folder).absolute() if own_folder else home_folder() / ".claude"
    top = folder if own_folder else folder.parent
    server: dict[str, Json] = {"type": "stdio", **setup.launch.server(), "alwaysLoad": True}
    if setup.url:
        # Hooks, status line and logs are for a ledger on this machine.
        at_url = server_at(setup.url, f"${{{TOKEN}}}")
        server = {"type": "http", **at_url, "alwaysLoad": True}
    servers = Entry(("mcpServers", NAME), server)
    main = Configuration(top / ".claude.json", (servers,), is_plain_json=True)
    if setup.url:
        return (main,)
    return (
        main,
        Configuration(folder / "settings.json", tuple(_settings(setup)), is_plain_json=True),
    )


def _settings(setup: Setup) -> Iterator[Entry]:
    for event in HOOK_EVENTS:
        yield Entry(("hooks", event), hook_group(event), without_ours=without_our_hooks)
    yield status_line(setup.launch)
    if not setup.telemetry:
        return
    for name, text in TELEMETRY.items():
        # Without our variable, the others may belong to another program's export.
        yield Entry(("env", name), text, yields=True, marker=("env", "IMMUNOS_TELEMETRY"))


def status_line(launch: Launch) -> Entry:
    """Return the status line entry, which shows the budget unless another status line is set."""
    command = shlex.join([launch.command, *launch.arguments, "statusline"])
    value: Json = {"type": "command", "command": command}
    return Entry(("statusLine",), value, yields=True, recognise=_is_our_status_line)


def _is_our_status_line(entry: Json) -> bool:
    command = entry.get("command") if isinstance(entry, dict) else None
    words = words_of(command) if isinstance(command, str) else []
    return starts_program(words) and "statusline" in words


def has_plugin(documents: Sequence[Json]) -> bool:
    """Return whether the settings enable our plugin."""
    return any(_enables_plugin(document) for document in documents)


def _enables_plugin(document: Json) -> bool:
    enabled = document.get("enabledPlugins") if isinstance(document, dict) else None
    return isinstance(enabled, dict) and any(
        name.partition("@")[0] == NAME and bool(on) for name, on in enabled.items()
    )
