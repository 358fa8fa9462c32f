"""The teams that a server serves, each with use cases, changes and pages of its own."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import anyio

from immunos_mcp.archive import Archive
from immunos_mcp.faults import keep_running
from immunos_mcp.http.access import Holder, known_token, person_of
from immunos_mcp.http.gateway import Desk
from immunos_mcp.people import TOKEN_PREFIX, People, hash_of
from immunos_mcp.persons_router import PersonsRouter
from immunos_mcp.receiving import PushedSession, Receiver
from immunos_mcp.router import Router
from immunos_mcp.server.notifications import StatusNotifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.domain import Engine
    from immunos_mcp.http.identity_provider import IdentityProvider
    from immunos_mcp.ledger.connections.ledger import Ledger, ThreadedLedger
    from immunos_mcp.ledger.connections.teams import TeamLedger, TeamLedgers
    from immunos_mcp.rules.roles import Person
    from immunos_mcp.server.tool_call import HttpRequest

    EngineNow = Callable[[], Engine]


def _nothing_reads(_ledger: Ledger) -> None:
    """Say that no logs are read."""


class Setup(NamedTuple):
    """What all teams of a server have in common.

    Attributes:
        session: the session of calls that name none.
        follower_of: returns what reads the usage that is logged on this machine into a ledger, if anything is to.
        engine: returns the state of this machine's engine; ``None``: clients' engines are elsewhere.
    """

    session: str
    follower_of: Callable[[Ledger], Follower | None] = _nothing_reads
    engine: EngineNow | None = None


class Team:
    """One team of a server.

    Attributes:
        name: what the team is called.
        people: the team's people.
        archive: makes its reports.
        changes: tells of changes of its ledger.
    """

    def __init__(self, name: str, ledger: ThreadedLedger, setup: Setup) -> None:
        """Serve the team of a ledger."""
        self.name = name
        self.people = People(ledger)
        self._follower = setup.follower_of(ledger)
        self.archive = Archive(ledger, follower=self._follower)
        self._ledger = ledger
        self._session = setup.session
        self._pushed_session = PushedSession(setup.session)
        self._own = self._router_at(None, setup.engine, None)

        @lru_cache(maxsize=1000)
        def router_of(person: Person) -> Router:
            return self._router_at(person, setup.engine, None)

        self._router_of = router_of
        self.changes = StatusNotifier(self._own.list_revisions, setup.session)

    def router_for(self, person: Person | None) -> Router:
        """Return the use cases for a person; ``None``: for whoever can open the ledger."""
        return self._own if person is None else self._router_of(person)

    def desk_for(self, person: Person | None) -> Desk:
        """Return what a person's gateway works with."""

        def router_at(engine: Engine | None, label: str | None) -> Router:
            return self._router_at(person, None if engine is None else lambda: engine, label)

        if person is None:
            receiver = Receiver(self._ledger, self._pushed_session)
        else:
            own = self._ledger.for_person(person.person_id)
            receiver = Receiver(own, self._pushed_session, person.person_id)
        return Desk(self.name, person, receiver, router_at)

    def _router_at(
        self, person: Person | None, engine: EngineNow | None, label: str | None
    ) -> Router:
        follower = self._follower
        if person is None:
            return Router(
                self._ledger,
                self._session,
                follower=follower,
                engine=engine,
                folder=label,
                places=() if label is None else (label,),
            )
        own = self._ledger.for_person(person.person_id)
        return PersonsRouter(
            person, own, self._session, follower=follower, engine=engine, folder=label
        )


class Teams:
    """The teams of a server, each known from when somebody of it was first seen."""

    def __init__(
        self,
        ledgers: TeamLedgers,
        setup: Setup,
        provider: IdentityProvider | None = None,
    ) -> None:
        """Serve teams.

        Args:
            ledgers: finds their ledgers.
            setup: what they have in common.
            provider: knows whom tokens name that are not ours; ``None``: there are none.
        """
        self._ledgers = ledgers
        self._setup = setup
        self._provider = provider
        self._tasks: TaskGroup | None = None
        self._known: dict[str, Team] = {}
        self._unnamed = ""

    async def holder(self, token: str) -> Holder | None:
        """Return who holds a token, one of ours or of the identity provider; ``None``: it is not good."""
        if self._provider is None or token.startswith(TOKEN_PREFIX):
            team = self._team(await self._ledgers.of_token(hash_of(token)))
            person = None if team is None else await team.people.holder(token)
        else:
            named = await self._provider.named(token)
            if named is None:
                return None
            team = self._team(await self._ledgers.named(named.team))
            person = None if team is None else await team.people.named(named.person)
        return None if team is None or person is None else Holder(person, team.name)

    async def begin(self) -> None:
        """Find out whether the ledgers can be used, and which team requests without a token are of."""
        await self.check()
        team = self._team(await self._ledgers.named(None))
        self._unnamed = "" if team is None else team.name

    async def check(self) -> None:
        """Find out whether the ledgers can be used."""
        await self._ledgers.check()

    async def run(self) -> None:
        """Watch the ledgers for those who listen to changes, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for team in self._known.values():
                tasks.start_soon(_watch, team)
            self._tasks = tasks
            await anyio.sleep_forever()

    def of(self, request: HttpRequest | None) -> Team:
        """Return the team of whoever sent a request."""
        known = known_token(request)
        return self._known[self._unnamed if known is None else known.team]

    def router_of(self, request: HttpRequest | None) -> Router:
        """Return the use cases for whoever sent a request."""
        return self.of(request).router_for(person_of(request))

    def changes_of(self, request: HttpRequest | None) -> StatusNotifier:
        """Return what tells of changes in the team of whoever sent a request."""
        return self.of(request).changes

    def desk_of(self, request: HttpRequest) -> Desk:
        """Return what the gateway of whoever sent a request works with."""
        return self.of(request).desk_for(person_of(request))

    def _team(self, found: TeamLedger | None) -> Team | None:
        if found is None:
            return None
        team = self._known.get(found.name)
        if team is None:
            team = self._known[found.name] = Team(*found, self._setup)
            if self._tasks is not None:
                self._tasks.start_soon(_watch, team)
        return team


async def _watch(team: Team) -> None:
    await keep_running("changes", team.changes.run)
