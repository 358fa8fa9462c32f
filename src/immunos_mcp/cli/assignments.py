"""Settings as they are typed: ``NAME=VALUE``, where a task type's model is a part of one setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidInputError, Problem, shown
from immunos_mcp.rules import setting_changes, settings

if TYPE_CHECKING:
    from immunos_mcp.rules.setting_kinds import SettingChangeValue


def split(name: str) -> tuple[str, str | None]:
    """Divide ``task_mappings.debug`` into the setting and its part; most settings have none."""
    setting, dot, entry = name.partition(".")
    return setting, entry if dot else None


def without_entries(name: str, setting: str) -> Problem:
    """Return the problem of ``session_limit.debug``: a setting with an entry that it cannot have."""
    message = f"{setting} has no entries; only {settings.MAPPINGS} does (got {shown(name)})"
    return Problem("setting", name, message=message)


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
            message = f"setting {shown(name)} is given more than once"
            raise InvalidInputError(Problem("setting", word, message=message))
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
