"""Settings of project folders in the ledger: what each has of its own, and who changed it.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.errors import InvalidStoredSettingsError
from immunos_mcp.ledger.changed_settings import SettingsChanged, log_changes
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.sessions import find_open
from immunos_mcp.ledger.stored_settings import (
    effective_settings,
    settings_by_folder,
    settings_in_force,
)
from immunos_mcp.rules.project_settings import REMOVED, changed, settings_at, stored_mappings, unset
from immunos_mcp.rules.settings import MAPPINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.ledger.stored_settings import InForce
    from immunos_mcp.rules.project_settings import SettingsByFolder
    from immunos_mcp.rules.setting_kinds import SettingChangeValue


def settings_for(connection: Connection, name: str | None, *places: str) -> InForce:
    """Return the settings that hold for calls in a session, or in none, that belong to some places."""
    session = None if name is None else find_open(connection, name)
    return settings_in_force(connection).at(*places, None if session is None else session.folder)


def change_project_settings(
    connection: Connection,
    folder: str,
    changes: Mapping[str, SettingChangeValue],
    client: str,
    now: datetime,
) -> SettingsChanged:
    """Change a folder's own settings, and record what was changed, when and by which client.

    Raises:
        InvalidInputError: some values are invalid; the error names every one.
        InvalidStoredSettingsError: the settings of a folder would not go together.
    """
    everywhere, by_folder = effective_settings(connection), settings_by_folder(connection)
    updated = changed(folder, changes, everywhere, by_folder)
    _store(connection, folder, by_folder.get(folder, {}), updated.get(folder, {}), client, now)
    return _difference(connection, folder, by_folder, updated)


def preview_project_settings(
    connection: Connection, folder: str, changes: Mapping[str, SettingChangeValue]
) -> SettingsChanged:
    """Return what ``change_project_settings`` would change; raises the same errors."""
    by_folder = settings_by_folder(connection)
    updated = changed(folder, changes, effective_settings(connection), by_folder)
    return _difference(connection, folder, by_folder, updated)


def unset_project_settings(
    connection: Connection, folder: str, names: tuple[str, ...], client: str, now: datetime
) -> SettingsChanged:
    """Take back some of a folder's own settings.

    Raises:
        InvalidInputError: there is no such setting.
        InvalidStoredSettingsError: the settings left would not go together.
    """
    everywhere, by_folder = effective_settings(connection), settings_by_folder(connection)
    updated = unset(folder, names, everywhere, by_folder)
    _store(connection, folder, by_folder.get(folder, {}), updated.get(folder, {}), client, now)
    return _difference(connection, folder, by_folder, updated)


def _difference(
    connection: Connection, folder: str, before: SettingsByFolder, after: SettingsByFolder
) -> SettingsChanged:
    everywhere = effective_settings(connection)
    now = settings_at((folder,), everywhere, after).settings
    try:
        return SettingsChanged(settings_at((folder,), everywhere, before).settings, now)
    except InvalidStoredSettingsError:
        return SettingsChanged(now, now)


def _store(
    connection: Connection,
    folder: str,
    stored: Mapping[str, str],
    updated: Mapping[str, str],
    client: str,
    now: datetime,
) -> None:
    for name in sorted({*stored, *updated}):
        was, text = stored.get(name), updated.get(name)
        if was == text:
            continue
        if text is None:
            connection.execute(
                "DELETE FROM immunos_mcp_project_setting WHERE folder = ? AND setting = ?",
                (folder, name),
            )
        else:
            connection.execute(
                "INSERT INTO immunos_mcp_project_setting (folder, setting, value, updated_at)"
                " VALUES (?, ?, ?, ?) ON CONFLICT (folder, setting)"
                " DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
                (folder, name, text, utc_text(now)),
            )
        log_changes(connection, _entries(name, was, text), client, now, folder)


def _entries(
    name: str, before: str | None, after: str | None
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield what a change of a stored text changed: task mappings entry by entry."""
    if name != MAPPINGS:
        yield name, before, after
        return
    old, new = stored_mappings(before), stored_mappings(after)
    for task_type in sorted({*old, *new}):
        was, text = (_mapped(each, task_type) for each in (old, new))
        if was != text:
            yield f"{MAPPINGS}.{task_type}", was, text


def _mapped(mappings: Mapping[str, str | None], task_type: str) -> str | None:
    """Return what a folder maps a task type to; ``null`` where it removes a mapping."""
    return (mappings[task_type] or REMOVED) if task_type in mappings else None
