"""The address of a ledger on PostgreSQL, which is never shown with its password."""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_TEAM = "default"
"""The team of an address that names none."""


class DatabaseAddress(NamedTuple):
    """Where a database is, and whose ledger in it is meant; shown without user and password.

    Attributes:
        text: the address as the database's own programs take it.
        team: the name of the team.
        names_team: whether the address says which team; a server without that serves every one.
    """

    text: str
    team: str = DEFAULT_TEAM
    names_team: bool = False

    def __repr__(self) -> str:
        """Return the host, the database and the team."""
        from urllib.parse import urlsplit

        parts = urlsplit(self.text)
        team = "" if self.team == DEFAULT_TEAM else f"?team={self.team}"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{team}"

    def __str__(self) -> str:
        """Return what ``repr`` does."""
        return repr(self)

    @property
    def has_password(self) -> bool:
        """Whether the password is in it."""
        return bool(self.secrets)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a message must not have: the password, as written and as meant."""
        from urllib.parse import parse_qsl, unquote, urlsplit

        parts = urlsplit(self.text)
        user = parts.netloc.rpartition("@")[0]
        named = [value for name, value in parse_qsl(parts.query) if "password" in name]
        given = (user.partition(":")[2], *named)
        return tuple({word for text in given if text for word in (text, unquote(text))})


def parse(text: str) -> DatabaseAddress | None:
    """Return an address, with the team that it names as ``?team=NAME``; ``None``: it has no such form."""
    from urllib.parse import parse_qsl, quote, urlencode, urlsplit

    try:
        parts = urlsplit(text)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return None
    named = [value for name, value in query if name == "team"]
    team = named[-1] if named else DEFAULT_TEAM
    if not is_team_name(team) or parts.fragment or not text.isprintable():
        return None
    rest = urlencode([pair for pair in query if pair[0] != "team"], quote_via=quote)
    place = text.partition("?")[0]
    return DatabaseAddress(f"{place}?{rest}" if rest else place, team, bool(named))


def is_team_name(text: str) -> bool:
    """Return whether a team may have a name: a short word of a few safe signs."""
    return (
        0 < len(text) <= 64 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    )
