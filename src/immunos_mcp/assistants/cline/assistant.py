"""The Cline CLI's configuration file and entry (seen with 3.0.65)."""

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
    home = home_folder() / ".cline" / "data"
    folder = Path(setup.environment.get("CLINE_DATA_DIR") or home).absolute()
    server: Json = {"transport": {"type": "stdio", **setup.launch.server()}}
    entry = Entry(("mcpServers", NAME), server)
    return (Configuration(folder / "settings" / "cline_mcp_settings.json", (entry,)),)


ASSISTANT = Assistant("cline", "Cline CLI", configurations, program="cline")
