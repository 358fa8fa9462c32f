"""The answers about people, their tokens, and what was done."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class PersonAnswer(Struct, frozen=True):
    """Somebody who may have tokens; ``disabled_at`` is absent as long as they are good."""

    name: str
    role: str
    created_at: datetime
    disabled_at: datetime | None = None


class TokenAnswer(Struct, frozen=True):
    """A token, without the token itself, which is stored nowhere.

    Attributes:
        token_id: what it is called by, the beginning of its hash.
        person: whose it is.
        label: what it is for.
        created_at: since when it is good.
        expires_at: until when; absent: for ever.
        revoked_at: since when it is not good any more; absent: it is.
    """

    token_id: str
    person: str
    label: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class NewTokenAnswer(Struct, frozen=True):
    """A token that was just made; this is the only time that it is shown."""

    token: str
    token_id: str
    person: str
    expires_at: datetime | None = None


class AuditEntry(Struct, frozen=True):
    """Something that was done; ``person`` is absent where it was done at the ledger itself."""

    at: datetime
    action: str
    detail: str
    person: str | None = None
