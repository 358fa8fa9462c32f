"""The settings of each past decision, with changes applied. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError
from immunos_mcp.rules import setting_changes
from immunos_mcp.rules.project_settings import is_in, origins_of
from immunos_mcp.rules.settings import MAPPINGS

if TYPE_CHECKING:
    from immunos_mcp.replay.history import History, SettingsOf
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings

Changes = Mapping[str, "SettingChangeValue"]


def changed_settings(past: History, changes: Changes, project: str | None = None) -> SettingsOf:
    """Return a function from a decision to its settings with the changes applied.

    What a project folder had of its own holds against changes that were made everywhere, or for a folder
    above it. If the changes conflict with the settings of that time, they are applied to the current
    settings.

    Args:
        past: the logged past.
        changes: new values by setting.
        project: the folder that they are made for; ``None``: everywhere.
    """
    named = {setting_changes.full_name(name): value for name, value in changes.items()}

    @cache
    def changed(policy_id: int, folder: str | None, setting_folders: str | None) -> Settings:
        made = _made_for(named, project, folder, setting_folders)
        if not made and named:
            return past.policies[policy_id]
        try:
            return setting_changes.apply(past.policies[policy_id], made)
        except InvalidInputError:
            return setting_changes.apply(past.current, made)

    return changed


def _made_for(
    changes: Changes, project: str | None, folder: str | None, setting_folders: str | None
) -> Changes:
    """Return which of the changes would have held for a decision."""
    if project is not None and (folder is None or not is_in(folder, project)):
        return {}
    if setting_folders is None:
        return changes
    origins = origins_of(setting_folders)

    def holds(name: str) -> bool:
        own = origins.get(name)
        # A restriction that other folders' files brought along stays, and so does what is set nearer.
        return own is None or (own != "" and project is not None and is_in(project, own))

    made: dict[str, SettingChangeValue] = {}
    for name, value in changes.items():
        if name == MAPPINGS and isinstance(value, Mapping):
            mappings = {each: new for each, new in value.items() if holds(f"{MAPPINGS}.{each}")}
            if mappings:
                made[name] = mappings
        elif holds(name):
            made[name] = value
    return made
