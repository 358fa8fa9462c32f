"""The answers about the gates."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class GatesAnswer(Struct, frozen=True):
    """What the user decided for now, above the settings of the gates.

    Attributes:
        off: whether the gates are off.
        paused: whether work is paused.
        allows_once: whether the next call that would be asked about or denied is let through.
        until: when being off or paused ends; absent: when it is taken back.
    """

    off: bool
    paused: bool
    allows_once: bool
    until: datetime | None = None
