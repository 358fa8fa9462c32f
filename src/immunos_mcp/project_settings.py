"""The use cases of settings that hold in one project folder and below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.answers.settings import FolderSettings
from immunos_mcp.ledger.project_settings import (
    change_project_settings,
    preview_project_settings,
    settings_for,
    unset_project_settings,
)
from immunos_mcp.ledger.stored_settings import settings_by_folder
from immunos_mcp.rules.project_settings import own_settings, settings_in_folder
from immunos_mcp.rules.setting_changes import config_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from immunos_mcp.answers.settings import ConfigAnswer, SettingInFolder
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings

DRY_RUN_DECISIONS = 1000
"""How many of the newest decisions a dry run decides again, of all sessions."""


class ProjectSettings:
    """What project folders have set for themselves; only the command line changes it.

    Every method raises ``InvalidInputError`` for invalid arguments, naming each, and the ledger's errors.
    After an error nothing has changed.
    """

    def __init__(
        self,
        ledger: Ledger,
        default_session: str,
        clock: Callable[[], datetime],
        places: tuple[str, ...],
    ) -> None:
        """Create the use cases.

        Args:
            ledger: where everything is stored.
            default_session: the session of calls that name none.
            clock: the time, aware.
            places: the folders that calls come from.
        """
        self._ledger = ledger
        self._default_session = default_session
        self._clock = clock
        self._places = places

    async def here(self, session: str | None = None, *places: str) -> Settings:
        """Return the settings that hold for a call, which belongs to other places as well."""
        name = session or self._default_session
        return (await self._ledger.read(settings_for, name, *self._places, *places)).settings

    async def change(
        self,
        folder: str,
        changes: Mapping[str, SettingChangeValue],
        client: str,
        *,
        dry_run: bool = False,
    ) -> ConfigAnswer:
        """Change a folder's own settings, all or none; a dry run only returns what would change.

        Args:
            folder: the folder, absolute and without links.
            changes: new values by setting; task mappings merge, and ``None`` removes one there.
            client: who asks, for the settings' history.
            dry_run: change nothing, and decide the newest decisions of the folder again instead.
        """
        if not dry_run:
            done = await self._ledger.write(
                change_project_settings, folder, changes, client, self._clock()
            )
            return config_answer(done.before, done.after)
        from immunos_mcp.ledger.history import replay
        from immunos_mcp.replay.changed_settings import changed_settings
        from immunos_mcp.replay.summary import dry_run_summary

        would = await self._ledger.read(preview_project_settings, folder, changes)
        effect = await self._ledger.read(
            replay,
            lambda past: dry_run_summary(past, changed_settings(past, changes, folder)),
            newest=DRY_RUN_DECISIONS,
        )
        answer = config_answer(would.before, would.after)
        return replace(answer, dry_run=True, rehearsal=effect)

    async def unset(self, folder: str, names: tuple[str, ...], client: str) -> ConfigAnswer:
        """Take back some of a folder's own settings, all or none."""
        done = await self._ledger.write(
            unset_project_settings, folder, names, client, self._clock()
        )
        return config_answer(done.before, done.after)

    async def at(self, folder: str) -> dict[str, SettingInFolder]:
        """Return the settings that hold in a folder, each with where it comes from."""
        in_force = await self._ledger.read(settings_for, None, folder)
        return settings_in_folder(in_force.settings, in_force.origins)

    async def all(self) -> tuple[FolderSettings, ...]:
        """Return what each folder has of its own, by folder."""
        by_folder = await self._ledger.read(settings_by_folder)
        return tuple(_of_folder(folder, own) for folder, own in by_folder.items())


def _of_folder(folder: str, own: Mapping[str, str]) -> FolderSettings:
    missing = None if Path(folder).is_dir() else True
    return FolderSettings(folder, dict(own_settings(own)), missing)
