"""Settings as they are typed: ``NAME=VALUE``, where a task type's model is a part of one setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules import setting_changes, settings

if TYPE_CHECKING:
    from immunos_mcp.rules.setting_kinds import SettingChangeValue


def split(name: str) -> tuple[str, str | None]:
    """Divide ``task_mappings.debug`` into the setting and its part; most settings have none."""
    setting, dot, entry = name.partition(".")
    return setting, entry if dot else None


def assignments(words: list[str]) -> dict[str, SettingChangeValue]:
    """Return the changes that words such as ``NAME=VALUE`` ask for; one may be two words.

    Raises:
        InvalidInputError: a word is no assignment, or a setting cannot be taken.
    """
    if len(words) == 2 and "=" not in words[0]:
        words = ["=".join(words)]
    changes: dict[str, SettingChangeValue] = {}
    mappings: dict[str, str | None] = {}
    named: set[tuple[str, str | None]] = set()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidInputError(Problem("setting", word, "NAME=VALUE"))
        setting, entry = split(name)
        setting = setting_changes.full_name(setting)
        if (setting, entry) in named:
            raise InvalidInputError(Problem("setting", word, "each setting once"))
        named.add((setting, entry))
        if entry is None:
            changes[setting] = setting_changes.parse(setting, text)
        elif setting == settings.MAPPINGS:
            mappings[entry] = None if text == "null" else text
        else:
            raise InvalidInputError(Problem("setting", name, f"{setting} without a part"))
    if mappings:
        whole = changes.get(settings.MAPPINGS, {})
        if isinstance(whole, Mapping):
            changes[settings.MAPPINGS] = {**whole, **mappings}
    return changes
