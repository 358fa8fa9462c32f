"""The settings of each past decision, with changes applied. Pure."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError
from immunos_mcp.rules import setting_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from immunos_mcp.replay.history import History
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings


def changed_settings(
    past: History, changes: Mapping[str, SettingChangeValue]
) -> Callable[[int], Settings]:
    """Return a function from a ``policy_id`` to its settings with the changes applied.

    If the changes conflict with the settings of that time, they are applied to the current settings.
    """

    @cache
    def changed(policy_id: int) -> Settings:
        try:
            return setting_changes.apply(past.policies[policy_id], changes)
        except InvalidInputError:
            return setting_changes.apply(past.current, changes)

    return changed
