"""Cursor's configuration file and entry, in its documented format of 2026."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME
from immunos_mcp.assistants.configuration import (
    Assistant,
    Configuration,
    Entry,
    server_at,
)
from immunos_mcp.options import TOKEN, home_folder

if TYPE_CHECKING:
    from immunos_mcp.assistants.configuration import Setup


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its configuration file with our entry."""
    at_url = server_at(setup.url, f"${{env:{TOKEN}}}")
    entry = Entry(("mcpServers", NAME), at_url if setup.url else setup.launch.server())
    return (Configuration(home_folder() / ".cursor" / "mcp.json", (entry,)),)


ASSISTANT = Assistant("cursor", "Cursor", configurations, program="cursor", takes_url=True)
