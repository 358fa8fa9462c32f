"""How the ledger spells a moment: ISO 8601, UTC, milliseconds, sortable as text."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """Spell a moment as it is stored."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_stored(moment: datetime) -> datetime:
    """Return the moment that is read back after storing this one."""
    return datetime.fromisoformat(utc_text(moment))


def moment_of(text: str | None) -> datetime | None:
    """Read a moment that was stored."""
    return None if text is None else datetime.fromisoformat(text)
