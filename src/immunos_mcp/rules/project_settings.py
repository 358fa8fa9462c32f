"""Settings that hold in one project folder and below, over those that hold everywhere. Pure.

A call belongs to folders: the one it comes from first, then those of its files. What holds for it is what
was set for the nearest folder that the first one is in. Of what restricts handing tasks over, the
strictest holds of all the folders.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp.answers.settings import SettingInFolder
from immunos_mcp.domain import EnginesAllowed, HandoverChoice
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, Problem
from immunos_mcp.rules.setting_changes import apply, full_name, parse, to_text
from immunos_mcp.rules.setting_kinds import TaskMappings
from immunos_mcp.rules.settings import MAPPINGS, ROWS, values
from immunos_mcp.rules.task_types import meant_mappings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings

SettingsByFolder: TypeAlias = "Mapping[str, Mapping[str, str]]"
"""What was set for each folder, as stored: its task mappings are those that differ, as JSON."""

Origins: TypeAlias = "Mapping[str, str]"
"""The folder that a setting comes from, or one task mapping as ``task_mappings.debug``."""

STRICTEST: Mapping[str, str] = MappingProxyType(
    {"handover": HandoverChoice.NEVER, "engines_allowed": EnginesAllowed.THIS_MACHINE}
)
"""The values that restrict where tasks go."""

REMOVED = "null"
"""What stands for the models of a task mapping that a folder removes."""

IGNORES_CASE = sys.platform in {"darwin", "win32"}
"""Whether paths that differ in case only are one file on this system, as a rule."""


class InPlace(Struct, frozen=True):
    """The settings that hold for a call, and where those come from that a folder has of its own."""

    settings: Settings
    origins: Origins


def is_in(place: str, folder: str, *, ignores_case: bool = IGNORES_CASE) -> bool:
    """Return whether a place is a folder or below it; both are absolute and without links."""
    outer, inner = (f"{each.replace(os.sep, '/').rstrip('/')}/" for each in (folder, place))
    if ignores_case:
        outer, inner = (unicodedata.normalize("NFC", each).casefold() for each in (outer, inner))
    return inner.startswith(outer)


def folders_around(place: str, folders: Iterable[str]) -> list[str]:
    """Return the folders that a place is in, the nearest last."""
    return sorted((folder for folder in folders if is_in(place, folder)), key=_depth)


def _depth(folder: str) -> int:
    return len(folder.rstrip("/"))


def settings_at(
    places: Sequence[str], everywhere: Settings, by_folder: SettingsByFolder
) -> InPlace:
    """Return the settings that hold for a call that belongs to some places.

    Raises:
        InvalidStoredSettingsError: they do not go together.
    """
    if not by_folder or not places:
        return InPlace(everywhere, {})
    found = _nearest(places[0], everywhere, by_folder)
    for place in places[1:]:
        found = _restricted(found, place, everywhere, by_folder)
    return found


def _nearest(place: str, everywhere: Settings, by_folder: SettingsByFolder) -> InPlace:
    changes: dict[str, SettingChangeValue] = {}
    mapped: dict[str, str | None] = {}
    origins: dict[str, str] = {}
    for folder in folders_around(place, by_folder):
        for name, value in changes_of(by_folder[folder]).items():
            if name == MAPPINGS and not isinstance(value, int | float | str):
                mapped.update(value)
                changes[MAPPINGS] = mapped
                origins.update(dict.fromkeys((f"{MAPPINGS}.{each}" for each in value), folder))
            else:
                changes[name], origins[name] = value, folder
    try:
        return InPlace(apply(everywhere, changes) if changes else everywhere, origins)
    except InvalidInputError as error:
        raise InvalidStoredSettingsError(
            f"the settings of {place} do not go together: {error}; correct those of its folder with"
            " `immunos-mcp config set` or `config unset` and --project"
        ) from None


def _restricted(
    found: InPlace, place: str, everywhere: Settings, by_folder: SettingsByFolder
) -> InPlace:
    """Return settings with the restrictions of another place as well."""
    around = folders_around(place, by_folder)
    for name, strictest in STRICTEST.items():
        own = next((folder for folder in reversed(around) if name in by_folder[folder]), None)
        value = getattr(everywhere, name) if own is None else by_folder[own][name]
        if value == strictest != getattr(found.settings, name):
            # A folder that is allowed more than holds everywhere is so for its own files alone.
            origins = {**found.origins, name: own or ""}
            found = InPlace(replace(found.settings, **{name: strictest}), origins)
    return found


def changes_of(stored: Mapping[str, str]) -> dict[str, SettingChangeValue]:
    """Return what was set for a folder; what this version does not know is left out."""
    return {
        name: parse(name, text)
        for name, text in stored.items()
        if name in ROWS and not ROWS[name].is_shared
    }


def changed(
    folder: str,
    changes: Mapping[str, SettingChangeValue],
    everywhere: Settings,
    by_folder: SettingsByFolder,
) -> SettingsByFolder:
    """Return what is set for each folder once changes are made to one of them; mappings merge.

    Raises:
        InvalidInputError: it names every setting that is invalid, or the same everywhere.
        InvalidStoredSettingsError: the settings of a folder below would not go together any more.
    """
    wanted = {full_name(name): value for name, value in changes.items()}
    _check_unshared(wanted)
    stored = dict(by_folder.get(folder, {}))
    # What does not go together now may do so afterwards.
    rest = {name: text for name, text in stored.items() if name == MAPPINGS or name not in wanted}
    before = settings_at((folder,), everywhere, {**by_folder, folder: rest}).settings
    wanted = {**meant_mappings(wanted, before)}
    after = apply(before, wanted)
    for name, value in wanted.items():
        if name == MAPPINGS:
            stored[name] = _merged_mappings(stored.get(name), value)
        else:
            stored[name] = to_text(getattr(after, name))
    updated = {**by_folder, folder: stored}
    check(everywhere, updated)
    return updated


def _check_unshared(names: Iterable[str]) -> None:
    problems = [
        Problem(name, name, message=f"{name} is the same in every folder; set it without --project")
        for name in names
        if ROWS[name].is_shared
    ]
    if problems:
        raise InvalidInputError(*problems)


def _merged_mappings(stored: str | None, change: object) -> str:
    kind = ROWS[MAPPINGS].kind
    assert isinstance(kind, TaskMappings)
    return _mappings_text({**stored_mappings(stored), **kind.check(MAPPINGS, change)})


def _mappings_text(mappings: Mapping[str, str | None]) -> str:
    import json

    return json.dumps(mappings, separators=(",", ":"), ensure_ascii=False)


def unset(
    folder: str, names: Iterable[str], everywhere: Settings, by_folder: SettingsByFolder
) -> SettingsByFolder:
    """Return what is set for each folder once some of a folder's own settings are taken back.

    A name such as ``task_mappings.debug`` takes back that one mapping.

    Raises:
        InvalidInputError: there is no such setting.
        InvalidStoredSettingsError: the rest would not go together.
    """
    stored = dict(by_folder.get(folder, {}))
    prefix = f"{MAPPINGS}."
    for given in names:
        if not given.startswith(prefix):
            stored.pop(full_name(given), None)
            continue
        mappings = stored_mappings(stored.pop(MAPPINGS, None))
        mappings.pop(given.removeprefix(prefix), None)
        if mappings:
            stored[MAPPINGS] = _mappings_text(mappings)
    others = {each: own for each, own in by_folder.items() if each != folder}
    updated = {**others, folder: stored} if stored else others
    check(everywhere, updated)
    return updated


def stored_mappings(text: str | None) -> dict[str, str | None]:
    """Return the mappings that a folder has of its own; ``None`` removes one."""
    found = None if text is None else parse(MAPPINGS, text)
    return {} if found is None or isinstance(found, int | float | str) else {**found}


def own_settings(stored: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what a folder has of its own as text, task mappings one by one."""
    for name, text in stored.items():
        if name == MAPPINGS:
            for task_type, models in stored_mappings(text).items():
                yield f"{MAPPINGS}.{task_type}", models or REMOVED
        else:
            yield name, text


def settings_in_folder(settings: Settings, origins: Origins) -> dict[str, SettingInFolder]:
    """Return settings with the folders that they come from, task mappings one by one."""
    found: dict[str, SettingInFolder] = {}
    for name, value in values(settings).items():
        if isinstance(value, int | float | str):
            found[name] = SettingInFolder(value, origins.get(name))
            continue
        entries = {f"{MAPPINGS}.{task_type}": models for task_type, models in value.items()}
        gone = {name: REMOVED for name in origins if name.startswith(f"{MAPPINGS}.")}
        for entry, models in {**gone, **entries}.items():
            found[entry] = SettingInFolder(models, origins.get(entry))
    return found


def check(everywhere: Settings, by_folder: SettingsByFolder) -> None:
    """Check that the settings of each folder go together.

    Raises:
        InvalidStoredSettingsError: those of a folder, which it names, do not.
    """
    for folder in by_folder:
        settings_at((folder,), everywhere, by_folder)


@lru_cache(maxsize=64)
def origins_text(origins: tuple[tuple[str, str], ...]) -> str | None:
    """Encode where settings come from; ``None``: no folder has any of its own."""
    import json

    return json.dumps(dict(origins), sort_keys=True, separators=(",", ":")) if origins else None


@lru_cache(maxsize=64)
def origins_of(text: str) -> Origins:
    """Decode what ``origins_text`` encodes."""
    import json

    return MappingProxyType(json.loads(text))
