"""Who may do what, where several people share a ledger. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from immunos_mcp.errors import NotAllowedError


class Role(StrEnum):
    """What a person is in the team."""

    MEMBER = "member"
    LEAD = "lead"
    ADMIN = "admin"


class Person(NamedTuple):
    """Somebody who calls with a token.

    Attributes:
        person_id: the ledger's id.
        name: what the person is called; also the name of the session that is the person's own.
        role: what the person may do.
    """

    person_id: int
    name: str
    role: Role


def sees_everybody(person: Person | None) -> bool:
    """Return whether a person may see what others used; ``None``: the ledger's owner."""
    return person is None or person.role is not Role.MEMBER


def require_reset(person: Person | None, session: str, team_session: str) -> None:
    """Raise ``NotAllowedError`` unless a person may close a session; ``None``: the ledger's owner.

    The team's session is nobody's own, whatever a person is called.
    """
    if person is None or person.role is not Role.MEMBER:
        return
    if session == person.name != team_session:
        return
    own = f"your own session {person.name!r}"
    raise NotAllowedError(
        f"a member may reset only {own}; ask a lead or an admin to reset this one"
    )


def require_settings_change(person: Person | None) -> None:
    """Raise ``NotAllowedError`` unless a person may change settings; ``None``: the ledger's owner."""
    if person is None or person.role is not Role.MEMBER:
        return
    raise NotAllowedError(
        "a member may only try changes with dry_run; ask a lead or an admin to change settings"
    )
