"""How the ledger stores times: ISO 8601, UTC, milliseconds, sortable as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far ahead of the clock something may have happened before the clock must have been wrong."""


def utc_now() -> datetime:
    """Return the current time, with its time zone."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """Format a time as the ledger stores it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_stored(moment: datetime) -> datetime:
    """Return a time at the precision that the ledger stores."""
    return datetime.fromisoformat(utc_text(moment))


def moment_of(text: str | None) -> datetime | None:
    """Parse a stored time."""
    return None if text is None else datetime.fromisoformat(text)
