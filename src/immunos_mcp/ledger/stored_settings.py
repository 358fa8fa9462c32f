"""The settings in the ledger: what holds now, everywhere and in project folders.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from immunos_mcp.ledger.moments import utc_text
from immunos_mcp.rules.setting_changes import from_stored, stored_form

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.project_settings import Origins
    from immunos_mcp.rules.settings import Settings


_SELECT_SETTINGS = "SELECT key, value FROM settings"
_SELECT_ALL = (
    "SELECT key, value, NULL FROM settings"
    " UNION ALL SELECT setting, value, folder FROM immunos_mcp_project_setting"
)
_SELECT_POLICY = "SELECT policy_id FROM immunos_mcp_policy WHERE settings = ?"


def stored_settings(connection: Connection) -> dict[str, str]:
    """Return the settings that differ from the defaults, as stored."""
    return dict(connection.execute(_SELECT_SETTINGS).fetchall())


class InForce:
    """Settings, and where they come from.

    Attributes:
        settings: those that hold.
        origins: the folder of each that a project folder has of its own.
        rows: all that is set, if anything is for a project folder.
    """

    def __init__(
        self, settings: Settings, origins: Origins = MappingProxyType({}), rows: Rows = ()
    ) -> None:
        self.settings = settings
        self.origins = origins
        self.rows = rows

    @cached_property
    def line(self) -> str:
        """The line that ``stored_form`` encodes them as, which only what is stored with them needs."""
        return stored_form(self.settings)

    def at(self, *places: str | None) -> InForce:
        """Return what holds for a call that belongs to some places, of what holds everywhere.

        Raises:
            InvalidStoredSettingsError: the settings of a folder do not go together.
        """
        return _at(self.rows, tuple(filter(None, places))) if self.rows else self


Rows: TypeAlias = "tuple[tuple[str, str, str | None], ...]"
"""Settings with their stored texts and the folders that they were set for; ``None``: everywhere."""


@lru_cache(maxsize=64)
def _at(rows: Rows, places: tuple[str, ...]) -> InForce:
    from immunos_mcp.rules.project_settings import (
        settings_at,  # few folders have settings of their own
    )

    everywhere, by_folder = _parted(rows)
    found = settings_at(places, everywhere, by_folder)
    return InForce(found.settings, MappingProxyType({**found.origins}), rows)


def _parted(rows: Rows) -> tuple[Settings, dict[str, dict[str, str]]]:
    """Return what holds everywhere, and what is set for each folder."""
    by_folder: dict[str, dict[str, str]] = {}
    for name, text, folder in rows:
        if folder is not None:
            by_folder.setdefault(folder, {})[name] = text
    everywhere = tuple((name, text) for name, text, folder in rows if folder is None)
    return _parsed_settings(everywhere), by_folder


@lru_cache(maxsize=16)
def _parsed_settings(rows: tuple[tuple[str, str], ...]) -> Settings:
    return from_stored(dict(rows))


@lru_cache(maxsize=16)
def _in_force(rows: Rows) -> InForce:
    settings, by_folder = _parted(rows)
    return InForce(settings, rows=rows if by_folder else ())


def look_ahead(connection: Connection) -> None:
    """Announce that the settings are needed, and the id that decisions refer to them by."""
    connection.ahead(_SELECT_ALL)
    if connection.last_settings is not None:
        connection.ahead(_SELECT_POLICY, (connection.last_settings,))


def settings_in_force(connection: Connection) -> InForce:
    """Return the settings that hold everywhere, in both forms, and what is set for each folder."""
    return _in_force(tuple(connection.execute(_SELECT_ALL)))


def effective_settings(connection: Connection) -> Settings:
    """Return the current settings, read from the ledger.

    Raises:
        InvalidStoredSettingsError: the ledger holds invalid settings.
    """
    return _parsed_settings(tuple(connection.execute(_SELECT_SETTINGS)))


def settings_by_folder(connection: Connection) -> dict[str, dict[str, str]]:
    """Return what is set for each project folder, as stored."""
    found: dict[str, dict[str, str]] = {}
    rows = connection.execute(
        "SELECT folder, setting, value FROM immunos_mcp_project_setting ORDER BY folder, setting"
    )
    for folder, name, text in rows:
        found.setdefault(folder, {})[name] = text
    return found


def policy_id(connection: Connection, canonical: str, now: datetime) -> int:
    """Return the id of a set of settings (an ``InForce.line``) that decisions refer to."""
    connection.last_settings = canonical
    row = connection.execute(_SELECT_POLICY, (canonical,)).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO immunos_mcp_policy (settings, first_used_at) VALUES (?, ?)"
            " RETURNING policy_id",
            (canonical, utc_text(now)),
        ).fetchone()
    return int(row[0])
