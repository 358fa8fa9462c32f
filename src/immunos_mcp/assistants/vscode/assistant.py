"""Visual Studio Code's configuration file and entry, in its documented format of 2026."""

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
    """Return its configuration file with our entry."""
    file = application_folder(setup.environment) / "Code" / "User" / "mcp.json"
    entry = Entry(("servers", NAME), {"type": "stdio", **setup.launch.server()})
    return (Configuration(file, (entry,)),)


ASSISTANT = Assistant("vscode", "VS Code", configurations, program="code")
