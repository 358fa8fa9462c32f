"""Claude Desktop's configuration file and entry, in its documented format of 2026."""

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
    folder = application_folder(setup.environment) / "Claude"
    entry = Entry(("mcpServers", NAME), setup.launch.server())
    file = folder / "claude_desktop_config.json"
    return (Configuration(file, (entry,), is_plain_json=True),)


ASSISTANT = Assistant("claude-desktop", "Claude Desktop", configurations)
