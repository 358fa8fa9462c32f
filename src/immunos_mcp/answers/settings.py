"""The answers about settings."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Difference(Struct, frozen=True):
    """One setting before and after; a mapping that was absent or removed has ``None`` there."""

    before: int | float | str | None = None
    after: int | float | str | None = None


class DryRunEffect(Struct, frozen=True):
    """What changed settings would have changed in the newest decisions.

    Attributes:
        decisions: how many logged decisions were decided again.
        changed: how many of them would have another model.
        moved_to_ollama: of those, how many would move to Ollama.
        moved_to_claude: of those, how many would move to Claude.
        kept_tokens: budget tokens of Claude that decisions moved to Ollama would have saved.
        spent_tokens: budget tokens that decisions moved to Claude would have spent.
    """

    decisions: int
    changed: int
    moved_to_ollama: int
    moved_to_claude: int
    kept_tokens: int = 0
    spent_tokens: int = 0


class ConfigAnswer(Struct, frozen=True):
    """What ``update_config`` answers.

    Attributes:
        changes: each setting that differs, before and after.
        settings: the settings now in force, or that would be; without constants of the track record
            that have their defaults.
        dry_run: true when nothing was stored.
        rehearsal: the effect that the change would have had on recent decisions, on a dry run.
    """

    changes: Mapping[str, Difference]
    settings: Mapping[str, int | float | str | Mapping[str, str]]
    dry_run: bool | None = None
    rehearsal: DryRunEffect | None = None


class SettingInFolder(Struct, frozen=True):
    """A setting as it holds in a project folder.

    Attributes:
        value: what holds.
        project: the folder that it was set for; absent: it holds everywhere.
    """

    value: int | float | str
    project: str | None = None


class FolderSettings(Struct, frozen=True):
    """What was set for one project folder and all below it.

    Attributes:
        project: the folder.
        settings: the settings that it has of its own, as text.
        missing: true if there is no such folder any more.
    """

    project: str
    settings: Mapping[str, str]
    missing: bool | None = None
