"""Settings as typed: ``NAME=VALUE``; a task type's model is an entry of one setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError, Problem, shown
from immunos_mcp.rules import setting_changes, settings

if TYPE_CHECKING:
    from immunos_mcp.rules.setting_kinds import SettingChangeValue


def split(name: str) -> tuple[str, str | None]:
    """Split ``task_mappings.debug`` into the setting and its entry; most settings have none."""
    setting, dot, entry = name.partition(".")
    return setting, entry if dot else None


def without_entries(name: str, setting: str) -> Problem:
    """Return the problem of ``session_limit.debug``: a setting with an entry that it cannot have."""
    message = f"{setting} has no entries; only {settings.MAPPINGS} does (got {shown(name)})"
    return Problem("setting", name, message=message)


def assignments(texts: list[str]) -> dict[str, SettingChangeValue]:
    """Return the changes that ``NAME=VALUE`` texts ask for; a single one may come as two texts.

    Raises:
        InvalidInputError: a text is not an assignment, or a setting is invalid.
    """
    if len(texts) == 2 and "=" not in texts[0]:
        texts = ["=".join(texts)]
    changes: dict[str, SettingChangeValue] = {}
    mappings: dict[str, str | None] = {}
    named: set[tuple[str, str | None]] = set()
    for assignment in texts:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InvalidInputError(Problem("setting", assignment, "NAME=VALUE"))
        setting, entry = split(name)
        setting = setting_changes.full_name(setting)
        if (setting, entry) in named:
            message = f"setting {shown(name)} is given more than once"
            raise InvalidInputError(Problem("setting", assignment, message=message))
        named.add((setting, entry))
        if entry is None:
            changes[setting] = setting_changes.parse(setting, text)
        elif setting == settings.MAPPINGS:
            mappings[entry] = None if text == "null" else text
        else:
            raise InvalidInputError(without_entries(name, setting))
    if mappings:
        whole = changes.get(settings.MAPPINGS, {})
        if isinstance(whole, Mapping):
            changes[settings.MAPPINGS] = {**whole, **mappings}
    return changes
