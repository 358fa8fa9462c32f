"""What becomes of settings: changed, tried out, listed."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Difference(Struct, frozen=True):
    """One setting before and after; a mapping that was absent or removed has ``None`` there."""

    before: int | float | str | None = None
    after: int | float | str | None = None


class Rehearsal(Struct, frozen=True):
    """What changed settings would have made of the decisions logged last.

    Attributes:
        decisions: how many logged decisions were decided again.
        changed: how many of them would have named another model.
        moved_to_ollama: of those, how many would have left Claude.
        moved_to_claude: of those, how many would have come to Claude.
        kept_tokens: budget tokens of Claude that those would have kept which would have left it.
        spent_tokens: budget tokens that those would have spent which would have come to it.
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
        rehearsal: what the change would have made of recent decisions, on a dry run.
    """

    changes: Mapping[str, Difference]
    settings: Mapping[str, int | float | str | Mapping[str, str]]
    dry_run: bool | None = None
    rehearsal: Rehearsal | None = None
