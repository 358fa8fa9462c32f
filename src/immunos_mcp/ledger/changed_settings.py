"""Changes of the settings in the ledger, and who made them.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from immunos_mcp.answers.history import SettingChange
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, unknown
from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.ledger.stored_settings import settings_by_folder, stored_settings
from immunos_mcp.rules import budgets
from immunos_mcp.rules.project_settings import check
from immunos_mcp.rules.setting_changes import (
    apply,
    from_stored,
    full_name,
    text_changes,
    to_text,
)
from immunos_mcp.rules.settings import MAPPINGS, ROWS, values
from immunos_mcp.rules.task_types import meant_mappings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings


class SettingsChanged(Struct, frozen=True):
    """The current settings before and after a change."""

    before: Settings
    after: Settings


def change_settings(
    connection: Connection,
    changes: Mapping[str, SettingChangeValue],
    client: str,
    now: datetime,
) -> SettingsChanged:
    """Change the settings, and record what was changed, when and by which client.

    Raises:
        InvalidInputError: some values are invalid; the error names every one.
        InvalidStoredSettingsError: other settings in the ledger are invalid.
    """
    stored = stored_settings(connection)
    changed, updated = _changed(stored, changes)
    check(changed.after, settings_by_folder(connection))
    _check_people(connection, changed)
    _store(connection, stored, updated, client, now)
    if changed.after.budgets:
        from immunos_mcp.ledger.budget_uses import keep_up  # most ledgers have no budgets

        # A long history takes seconds to sum up, which no decision should have to wait for.
        keep_up(connection, changed.after, now)
    return changed


def preview_settings(
    connection: Connection, changes: Mapping[str, SettingChangeValue]
) -> SettingsChanged:
    """Return what ``change_settings`` would change, without changing it; raises the same errors."""
    changed = _changed(stored_settings(connection), changes)[0]
    check(changed.after, settings_by_folder(connection))
    _check_people(connection, changed)
    return changed


def _check_people(connection: Connection, changed: SettingsChanged) -> None:
    """Refuse a new budget of somebody who does not share the ledger."""
    before, after = changed.before.budgets, changed.after.budgets
    if after == before or not budgets.are_of_people(after):
        return
    from immunos_mcp.ledger.people import list_people  # most changes are of nobody's budgets

    people = [each.name for each in list_people(connection)]
    for budget in set(budgets.parsed(after)) - {*budgets.parsed(before)}:
        if budget.person is not None and budget.person not in people:
            raise InvalidInputError(unknown("budgets", "person", budget.person, people))


def _changed(
    stored: Mapping[str, str], changes: Mapping[str, SettingChangeValue]
) -> tuple[SettingsChanged, dict[str, str]]:
    wanted = {full_name(name): value for name, value in changes.items()}
    usable = {name: text for name, text in stored.items() if name == MAPPINGS or name not in wanted}
    before = from_stored(usable if _is_broken(stored) else stored)
    applied = apply(before, meant_mappings(changes, before))
    applied_values = values(applied)
    updated = dict(stored)
    for name in wanted:
        if name != MAPPINGS or applied.task_mappings != before.task_mappings:
            updated[name] = to_text(applied_values[name])
    return SettingsChanged(before, from_stored(updated)), updated


def unset_settings(
    connection: Connection, names: tuple[str, ...], client: str, now: datetime
) -> SettingsChanged:
    """Restore the defaults of some settings.

    A name such as ``task_mappings.debug`` removes that one mapping.

    Raises:
        InvalidInputError: a setting does not exist.
        InvalidStoredSettingsError: the settings left in the ledger would be invalid.
    """
    stored = stored_settings(connection)
    prefix = f"{MAPPINGS}."
    unmapped = {name.removeprefix(prefix): None for name in names if name.startswith(prefix)}
    unwanted = {full_name(name) for name in names if not name.startswith(prefix)}
    updated = {name: text for name, text in stored.items() if name not in unwanted}
    if unmapped:
        mapped = from_stored(updated)
        left = apply(mapped, {MAPPINGS: unmapped})
        if left.task_mappings != mapped.task_mappings:
            updated[MAPPINGS] = to_text(left.task_mappings)
    after = from_stored(updated)
    check(after, settings_by_folder(connection))
    before = after if _is_broken(stored) else from_stored(stored)
    _store(connection, stored, updated, client, now)
    return SettingsChanged(before, after)


def _is_broken(stored: Mapping[str, str]) -> bool:
    try:
        from_stored(stored)
    except InvalidStoredSettingsError:
        return True
    return False


def _store(
    connection: Connection,
    stored: Mapping[str, str],
    updated: Mapping[str, str],
    client: str,
    now: datetime,
) -> None:
    for name in ROWS:
        was, text = stored.get(name), updated.get(name)
        if was == text:
            continue
        if text is None:
            connection.execute("DELETE FROM settings WHERE key = ?", (name,))
        else:
            connection.execute(
                "INSERT INTO settings (key, value, updated_at) VALUES (?, ?, ?) ON CONFLICT (key)"
                " DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
                (name, text, utc_text(now)),
            )
        log_changes(connection, text_changes(name, was, text), client, now, None)


def log_changes(
    connection: Connection,
    changes: Iterable[tuple[str, str | None, str | None]],
    client: str,
    now: datetime,
    folder: str | None,
) -> None:
    """Record changes of settings: the name, and the text before and after."""
    connection.executemany(
        "INSERT INTO immunos_mcp_setting_change"
        " (changed_at, client, setting, value_before, value_after, folder)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (utc_text(now), client, setting, before, after, folder)
            for setting, before, after in changes
        ],
    )


def setting_changes(connection: Connection, limit: int) -> tuple[SettingChange, ...]:
    """Return the newest setting changes, newest first."""
    rows = connection.execute(
        "SELECT changed_at, client, setting, value_before, value_after, folder"
        " FROM immunos_mcp_setting_change ORDER BY change_id DESC LIMIT ?",
        (limit,),
    )
    return tuple(
        SettingChange(datetime.fromisoformat(changed_at), client, setting, before, after, folder)
        for changed_at, client, setting, before, after, folder in rows
    )
