"""Settings and their history as text for a terminal. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from immunos_mcp.cli.terminal import table
from immunos_mcp.rules.formatting import second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.history import SettingChange
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
    return table(
        ("time (UTC)", "client", "setting", "before", "after"),
        (
            (
                second(change.changed_at),
                change.client,
                change.setting,
                change.before or _unset(change.setting),
                change.after or _unset(change.setting),
            )
            for change in changes
        ),
    )


def _unset(setting: str) -> str:
    return "(none)" if "." in setting else "(default)"
