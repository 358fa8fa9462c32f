"""Qwen Code's configuration file and entry (seen with 0.24.4)."""

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
    folder = Path(setup.environment.get("QWEN_HOME") or home_folder() / ".qwen").absolute()
    # Otherwise the model sees only the names of the tools and cannot call them at once.
    entry = Entry(("mcpServers", NAME), {**setup.launch.server(), "alwaysLoadTools": True})
    return (Configuration(folder / "settings.json", (entry,)),)


ASSISTANT = Assistant("qwen", "Qwen Code", configurations, program="qwen")
