"""Copilot CLI's configuration file and entry (seen with 1.0.102)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME
from immunos_mcp.assistants.configuration import Assistant, Configuration, Entry
from immunos_mcp.options import home_folder

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.configuration import Setup


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its configuration file with our entry."""
    folder = Path(setup.environment.get("COPILOT_HOME") or home_folder() / ".copilot").absolute()
    tools: list[Json] = ["*"]
    server: dict[str, Json] = {"type": "local", **setup.launch.server(), "tools": tools}
    return (Configuration(folder / "mcp-config.json", (Entry(("mcpServers", NAME), server),)),)


ASSISTANT = Assistant("copilot", "Copilot CLI", configurations, program="copilot")
