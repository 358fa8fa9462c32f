"""The registry names the assistants' folders, each of which says the same name."""

from __future__ import annotations

from pathlib import Path

from immunos_mcp import assistants
from immunos_mcp.assistants import registry

FOLDERS = [file.parent for file in Path(assistants.__file__).parent.glob("*/assistant.py")]


def test_every_folder_is_registered_under_the_name_that_it_has() -> None:
    assert {folder.name for folder in FOLDERS} == {
        name.replace("-", "_") for name in registry.NAMES
    }
    assert [registry.assistant(name).name for name in registry.NAMES] == list(registry.NAMES)
