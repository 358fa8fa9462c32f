"""Visual Studio Code's configuration file and entry, in its documented format of 2026."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME
from immunos_mcp.assistants.configuration import (
    Assistant,
    Configuration,
    Entry,
    application_folder,
    server_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.configuration import Setup


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its configuration file with our entry."""
    file = application_folder(setup.environment) / "Code" / "User" / "mcp.json"
    if setup.url:
        # It does not replace environment variables in headers, but asks for inputs and keeps them safe.
        at_url = server_at(setup.url, f"${{input:{INPUT}}}")
        server = Entry(("servers", NAME), {"type": "http", **at_url})
    else:
        server = Entry(("servers", NAME), {"type": "stdio", **setup.launch.server()})
    needs_input = bool(setup.url) or setup.is_removal
    return (Configuration(file, (server, _TOKEN_INPUT) if needs_input else (server,)),)


def _without_our_input(inputs: Sequence[Json]) -> list[Json]:
    return [each for each in inputs if not isinstance(each, dict) or each.get("id") != INPUT]


INPUT = "immunos-token"

_TOKEN_INPUT = Entry(
    ("inputs",),
    {"type": "promptString", "id": INPUT, "description": "immunos-mcp token", "password": True},
    without_ours=_without_our_input,
)

ASSISTANT = Assistant("vscode", "VS Code", configurations, program="code", takes_url=True)
