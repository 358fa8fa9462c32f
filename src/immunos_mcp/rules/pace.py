"""How fast a session is spending its budget: an exponentially decaying sum, pure.

One number per session answers "tokens per minute of late" without reading the log: every token
weighs ``exp(-age / TIME_CONSTANT)``. The sum is linear, so records may arrive in any order, and a
correction is one more (possibly negative) addition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from immunos_mcp.domain import Pace

if TYPE_CHECKING:
    from datetime import datetime

TIME_CONSTANT_MINUTES = 10.0
"""Age at which a token weighs 1/e: long enough to bridge a turn, short enough to mean "of late"."""

SHORTEST_SESSION_MINUTES = 1.0
"""A session younger than this has no pace: one response would stand for a whole minute."""


def _weight(earlier: datetime, later: datetime) -> float:
    return math.exp(-(later - earlier).total_seconds() / 60 / TIME_CONSTANT_MINUTES)


def add(pace: Pace, tokens: int, at: datetime) -> Pace:
    """Return ``pace`` with budget tokens that were spent at a moment, earlier ones included."""
    if pace.at is None:
        return Pace(float(tokens), at)
    if at <= pace.at:
        return Pace(pace.tokens + tokens * _weight(at, pace.at), pace.at)
    return Pace(pace.tokens * _weight(pace.at, at) + tokens, at)


def tokens_per_minute(pace: Pace, started_at: datetime, now: datetime) -> float | None:
    """Return the recent pace in budget tokens a minute, or ``None`` where it is unknown.

    A session younger than the time constant is averaged over its own age, not over a past that it
    does not have.
    """
    age_minutes = (now - started_at).total_seconds() / 60
    if pace.at is None or age_minutes < SHORTEST_SESSION_MINUTES:
        return None
    decayed = pace.tokens * _weight(min(pace.at, now), now)
    covered_minutes = TIME_CONSTANT_MINUTES * -math.expm1(-age_minutes / TIME_CONSTANT_MINUTES)
    return max(0.0, decayed / covered_minutes)


def minutes_until(threshold: int, session_tokens: int, per_minute: float) -> int | None:
    """Return whole minutes, rounded up, until a threshold is reached at a steady pace.

    ``None`` when it has been reached already or when the pace is under a token a minute.
    """
    if session_tokens >= threshold or per_minute < 1:
        return None
    return math.ceil((threshold - session_tokens) / per_minute)
