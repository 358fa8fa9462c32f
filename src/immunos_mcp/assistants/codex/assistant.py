"""Codex's configuration file and entry, in its format of 2026."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME, toml_edit
from immunos_mcp.assistants.configuration import Assistant, Configuration, Entry
from immunos_mcp.options import home_folder

if TYPE_CHECKING:
    from immunos_mcp.assistants.configuration import Setup


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its configuration file with our entry."""
    folder = Path(setup.environment.get("CODEX_HOME") or home_folder() / ".codex").absolute()
    # Codex sends its first request after a second without a server that is not required.
    entry = Entry(("mcp_servers", NAME), {**setup.launch.server(), "required": True})
    return (Configuration(folder / "config.toml", (entry,), syntax=toml_edit),)


ASSISTANT = Assistant("codex", "Codex", configurations, program="codex", patience=1.0)
