"""opencode's configuration file and entry (seen with 1.18.33)."""

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
    home = Path(setup.environment.get("XDG_CONFIG_HOME") or home_folder() / ".config").absolute()
    launch = setup.launch
    command: list[Json] = [launch.command, *launch.arguments, *launch.serving_arguments]
    entry = Entry(("mcp", NAME), {"type": "local", "command": command})
    return (Configuration(_file(home / "opencode"), (entry,)),)


def _file(folder: Path) -> Path:
    """Return the file that opencode reads; where there are two, the one that wins."""
    commented = folder / "opencode.jsonc"
    return commented if commented.is_file() else folder / "opencode.json"


ASSISTANT = Assistant("opencode", "opencode", configurations, program="opencode")
