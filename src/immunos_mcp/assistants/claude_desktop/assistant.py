"""Claude Desktop's file and the entry in it, as its documentation of 2026 has them."""

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
    folder = application_folder(setup.environment) / "Claude"
    entry = Entry(("mcpServers", NAME), setup.launch.server())
    return (Configuration(folder / "claude_desktop_config.json", (entry,)),)


ASSISTANT = Assistant("claude-desktop", "Claude Desktop", configurations)
