"""Answers in which a model repeats itself until it is stopped. Pure."""

from __future__ import annotations

LONGEST_UNIT = 400
"""Characters of what is repeated."""

FEWEST_REPEATS = 8
SHORTEST_LOOP = 400
"""Characters of all repeats: a line of dashes or a few equal rows of a table are no loop."""


def ends_in_loop(text: str) -> bool:
    """Return whether a text ends with the same words again and again."""
    end = text.rstrip()[-(LONGEST_UNIT * FEWEST_REPEATS) :]
    return any(_repeats(end, unit) for unit in range(1, min(LONGEST_UNIT, len(end) // 2) + 1))


def _repeats(end: str, unit: int) -> bool:
    """Return whether the end of a text has a period of so many characters, long enough for a loop."""
    span = max(SHORTEST_LOOP, unit * FEWEST_REPEATS)
    if len(end) < span or end[-1] != end[-1 - unit]:
        return False
    tail = end[-span:]
    return tail[unit:] == tail[:-unit] and any(map(str.isalnum, tail[:unit]))
