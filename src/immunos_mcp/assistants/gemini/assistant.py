"""Gemini CLI's configuration file and entry (seen with 0.61.0)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME
from immunos_mcp.assistants.configuration import Assistant, Configuration, Entry
from immunos_mcp.options import home_folder

if TYPE_CHECKING:
    from immunos_mcp.assistants.configuration import Setup


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its configuration file with our entry."""
    home = Path(setup.environment.get("GEMINI_CLI_HOME") or home_folder()).absolute()
    entry = Entry(("mcpServers", NAME), setup.launch.server())
    return (Configuration(home / ".gemini" / "settings.json", (entry,)),)


ASSISTANT = Assistant("gemini", "Gemini CLI", configurations, program="gemini")
