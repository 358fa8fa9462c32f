"""Visual Studio Code's file and the entry in it, as its documentation of 2026 has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME
from immunos_mcp.assistants.configuration import (
    Assistant,
    Configuration,
    Entry,
    application_folder,
)

if TYPE_CHECKING:
    from immunos_mcp.assistants.configuration import Setup


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its file with what the router needs there."""
    file = application_folder(setup.environment) / "Code" / "User" / "mcp.json"
    entry = Entry(("servers", NAME), {"type": "stdio", **setup.launch.server()})
    return (Configuration(file, (entry,)),)


ASSISTANT = Assistant("vscode", "VS Code", configurations, program="code")
