"""Settings and their history as text for a terminal. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from immunos_mcp.cli.terminal import table
from immunos_mcp.rules.formatting import second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.history import SettingChange
    from immunos_mcp.answers.settings import FolderSettings, SettingInFolder
    from immunos_mcp.rules.setting_kinds import SettingValue


def settings(values: Mapping[str, SettingValue]) -> str:
    """List settings, one a line; each mapping under its own name."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows.extend((f"{name}.{task_type}", model) for task_type, model in value.items())
        else:
            rows.append((name, f"{value:g}" if isinstance(value, float) else str(value)))
    return "\n".join(f"{name} = {text}" for name, text in rows)


def setting_changes(changes: Sequence[SettingChange]) -> str:
    """Format changes of settings as a table."""
    rows = [
        (
            second(change.changed_at),
            change.client,
            change.setting,
            change.before or _unset(change.setting),
            change.after or _unset(change.setting),
            change.project or "",
        )
        for change in changes
    ]
    header = ("time (UTC)", "client", "setting", "before", "after", "project folder")
    # Most people have set nothing for a folder.
    columns = None if any(row[-1] for row in rows) else -1
    return table(header[:columns], (row[:columns] for row in rows))


def _unset(setting: str) -> str:
    return "(none)" if "." in setting else "(default)"


def in_folder(found: Mapping[str, SettingInFolder]) -> str:
    """List the settings that hold in a folder, one a line, with the folder that each was set for."""
    return "\n".join(
        f"{settings({name: each.value})}{'' if each.project is None else f'  (set for {each.project})'}"
        for name, each in found.items()
    )


def projects(found: Sequence[FolderSettings]) -> str:
    """List the folders that have settings of their own."""
    if not found:
        return (
            "No folder has settings of its own; give one some with"
            " `immunos-mcp config set NAME=VALUE --project PATH`"
        )
    return "\n".join(
        f"{each.project}{' (no such folder)' if each.missing else ''}: "
        + ", ".join(f"{name}={value}" for name, value in each.settings.items())
        for each in found
    )
