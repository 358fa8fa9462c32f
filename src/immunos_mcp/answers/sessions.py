"""The answers about sessions."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class ResetAnswer(Struct, frozen=True):
    """What ``reset_session`` answers; the ``closed_`` fields are absent when none was open."""

    session_id: int
    closed_session_id: int | None = None
    closed_tokens: int | None = None
    closed_kept_local_tokens: int | None = None
    closed_decisions: int | None = None


class BindAnswer(Struct, frozen=True):
    """A binding: a session name, and the only project folder that it counts."""

    session: str
    folder: str


class SessionSummary(Struct, frozen=True):
    """A session in the history; ``session_tokens`` are budget tokens."""

    session_id: int
    session: str
    started_at: datetime
    session_tokens: int
    kept_local_tokens: int
    decisions: int
    usage_records: int
    ended_at: datetime | None = None
    end_reason: str | None = None
