"""The settings that a project folder has of its own, in words. Pure, and quick to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from immunos_mcp.rules.settings import Settings


def own_text(settings: Settings, origins: Mapping[str, str]) -> str | None:
    """Return what project folders have set that holds, such as ``handover=never (/apps/a)``.

    ``origins`` are the folders by setting; ``None``: no folder has set anything.
    """
    return ", ".join(_one(settings, name, folder) for name, folder in origins.items()) or None


def _one(settings: Settings, name: str, folder: str) -> str:
    setting, dot, entry = name.partition(".")
    value = getattr(settings, setting)
    shown = value.get(entry, "null") if dot else value
    return f"{name}={shown} ({folder or 'everywhere'})"
