"""The answer of ``prune``."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Pruned(Struct, frozen=True):
    """What ``prune`` answers: how many rows were compacted into totals, or would be.

    Attributes:
        before: rows older than this midnight (UTC).
        decisions: decisions, with their outcomes.
        usage_records: usage of every source.
        dry_run: true when nothing was changed.
    """

    before: datetime
    decisions: int
    usage_records: int
    dry_run: bool | None = None
