"""How the ledger stores times: ISO 8601, UTC, milliseconds, sortable as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.json import Encoder

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far ahead of the clock something may have happened before the clock must have been wrong."""


_encode = Encoder().encode


def utc_now() -> datetime:
    """Return the current time, with its time zone."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """Format a time as the ledger stores it."""
    utc = moment.astimezone(UTC)
    # isoformat() takes four times as long, and a history has a hundred thousand of them.
    text = _encode(utc).decode()
    return f"{text[1:24]}Z" if utc.microsecond else f"{text[1:20]}.000Z"


def as_stored(moment: datetime) -> datetime:
    """Return a time at the precision that the ledger stores."""
    return datetime.fromisoformat(utc_text(moment))


def moment_of(text: str | None) -> datetime | None:
    """Parse a stored time."""
    return None if text is None else datetime.fromisoformat(text)
