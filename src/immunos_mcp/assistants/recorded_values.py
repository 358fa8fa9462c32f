"""The values in the records of assistants' logs, checked before they are stored. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immunos_mcp.domain import MAXIMUM_TOKENS

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json

LONGEST_NAME = 200
LONGEST_FOLDER = 2**15

_DRAWN = ("chatcmpl-", "resp_", "msg_")
"""How ids begin of which some engines draw the rest: a few digits, so that they soon repeat."""

_DRAWN_DIGITS = 6


def count(value: Json, largest: int = MAXIMUM_TOKENS) -> int:
    """Return a count; a missing one is 0.

    Raises:
        ValueError: it is no count.
    """
    if value is None:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest:
        return value
    raise ValueError("not a count")


def text(value: Json, longest: int = LONGEST_NAME) -> str | None:
    """Return text that can be stored; ``None``: there is none. Longer text becomes its checksum."""
    if not isinstance(value, str) or not value:
        return None
    if len(value) > longest:
        import hashlib  # it takes longer to import than a transcript to read

        return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    # Half a surrogate pair has no UTF-8.
    return value.encode("utf-8", "backslashreplace").decode()


def name(value: Json) -> str:
    """Return a name that has to be there.

    Raises:
        ValueError: it is missing.
    """
    found = text(value)
    if found is None:
        raise ValueError("a name is missing")
    return found


def response_name(value: Json, written_at: Json) -> str:
    """Return a response's id; one that other responses may have too is completed by its time.

    Raises:
        ValueError: it is missing.
    """
    found = name(value)
    return f"{found} {text(written_at)}" if _is_drawn(found) else found


def _is_drawn(found: str) -> bool:
    for beginning in _DRAWN:
        rest = found.removeprefix(beginning)
        if rest != found:
            return rest.isdecimal() and rest.isascii() and len(rest) <= _DRAWN_DIGITS
    return False


def moment(value: Json) -> datetime:
    """Return a moment that was written down as ISO 8601 or in milliseconds since 1970.

    Raises:
        ValueError: it is missing, has no time zone, or is out of range.
    """
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value / 1000, UTC)
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            if found.tzinfo is not None:
                return found.astimezone(UTC)
    except (OverflowError, OSError):
        pass
    raise ValueError("a moment is missing, has no time zone, or is out of range")
