"""The use cases of people, their tokens and the audit."""

from __future__ import annotations

import secrets
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from immunos_mcp.answers.people import NewTokenAnswer
from immunos_mcp.ledger import people
from immunos_mcp.ledger.moments import as_stored, utc_now
from immunos_mcp.ledger.people import Deed, audited
from immunos_mcp.rules import inputs, names
from immunos_mcp.rules.roles import Role

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.answers.people import AuditEntry, PersonAnswer, TokenAnswer
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.rules.roles import Person

TOKEN_PREFIX = "immunos_"  # noqa: S105  # only its beginning, by which scanners know it
"""How a token begins."""

_SECRET_BYTES = 32


def hash_of(token: str) -> str:
    """Return what is stored of a token: it is random, so that a plain hash cannot be guessed back."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class People:
    """The people of a ledger.

    Every method raises ``InvalidInputError`` for invalid arguments, naming each, and the ledger's errors.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime] = utc_now) -> None:
        """Create the use cases of a ledger."""
        self._ledger = ledger
        self._clock = clock

    async def add(self, name: str, role: str) -> PersonAnswer:
        """Add a person, or give one that is there another role and enable them again."""
        person = names.check_session_name(name, "person")
        known_role = inputs.member(Role, "role", role)
        now = self._clock()
        deed = Deed(now, "person add", f"{person} {known_role}")
        return await self._ledger.write(audited, deed, people.add_person, person, known_role, now)

    async def disable(self, name: str) -> PersonAnswer:
        """Let none of a person's tokens be good any more."""
        now = self._clock()
        deed = Deed(now, "person disable", name)
        return await self._ledger.write(audited, deed, people.disable_person, name, now)

    async def all(self) -> tuple[PersonAnswer, ...]:
        """Return everybody, by name."""
        return await self._ledger.read(people.list_people)

    async def create_token(self, name: str, label: str, days: int | None) -> NewTokenAnswer:
        """Make a token for a person, which is good for so many days (``None``: for ever)."""
        checked_label = names.check_session_name(label, "label")
        now = as_stored(self._clock())
        expires_at = None if days is None else now + timedelta(days=inputs.days("days", days))
        token = TOKEN_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        hashed = hash_of(token)
        deed = Deed(now, "token create", f"{hashed[: people.ID_CHARACTERS]} {name}")
        made = await self._ledger.write(
            audited, deed, people.add_token, name, hashed, checked_label, expires_at, now
        )
        return NewTokenAnswer(token, made.token_id, name, expires_at)

    async def revoke_token(self, token_id: str) -> TokenAnswer:
        """Let a token be good no more, which servers notice within half a minute."""
        now = self._clock()
        deed = Deed(now, "token revoke", token_id)
        return await self._ledger.write(audited, deed, people.revoke_token, token_id, now)

    async def tokens(self) -> tuple[TokenAnswer, ...]:
        """Return all tokens, oldest first."""
        return await self._ledger.read(people.list_tokens)

    async def holder(self, token: str) -> Person | None:
        """Return who holds a token; ``None``: it is not good."""
        return await self._ledger.read(people.token_holder, hash_of(token), self._clock())

    async def named(self, name: str) -> Person | None:
        """Return the person who has a name, and may act."""
        return await self._ledger.read(people.person_named, name)

    async def audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """Return what was done last, newest first."""
        return await self._ledger.read(people.list_deeds, limit)
