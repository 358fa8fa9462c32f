"""The ledgers of the teams that a server serves: one team's, or those of all teams of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from immunos_mcp.ledger.stored_settings import effective_settings

if TYPE_CHECKING:
    from immunos_mcp.ledger.connections.ledger import ThreadedLedger


class TeamLedger(NamedTuple):
    """A team's ledger, and the team's name."""

    name: str
    ledger: ThreadedLedger


class TeamLedgers(Protocol):
    """Finds the ledgers of teams; close it after use.

    Every method raises ``LedgerError`` if the database cannot be used.

    Attributes:
        is_one: whether there is one team only.
    """

    is_one: bool

    async def of_token(self, sha256: str) -> TeamLedger | None:
        """Return the ledger of the team that a token may be of whose hash is given; ``None``: of none."""
        ...

    async def named(self, name: str | None) -> TeamLedger | None:
        """Return the ledger of a team (``None``: of the one that is meant if none is named)."""
        ...

    async def check(self) -> None:
        """Find out whether the database can be used."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_exception: object) -> None: ...


class OneTeam:
    """The ledger of a server for one team; ``TeamLedgers`` describes it."""

    is_one = True

    def __init__(self, ledger: ThreadedLedger, name: str) -> None:
        self._team = TeamLedger(name, ledger)

    async def of_token(self, sha256: str) -> TeamLedger | None:  # noqa: ARG002  # as described
        """Return the ledger, which knows by itself whose token it is."""
        return self._team

    async def named(self, name: str | None) -> TeamLedger | None:
        """Return the ledger, unless another team is named."""
        return self._team if name in {None, self._team.name} else None

    async def check(self) -> None:
        """Read the settings."""
        await self._team.ledger.read(effective_settings)

    async def __aenter__(self) -> Self:
        await self._team.ledger.__aenter__()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._team.ledger.__aexit__()
