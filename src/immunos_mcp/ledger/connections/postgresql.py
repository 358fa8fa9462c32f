"""A ledger on PostgreSQL: runs operations of one team, each in one transaction.

Writing transactions take their team's lock first, so that each sees all that was stored before it, and
the log has the order in which decisions saw each other.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Concatenate, NamedTuple, ParamSpec, Self, TypeVar

from immunos_mcp.errors import MaybeStoredError
from immunos_mcp.ledger.connections.postgresql_link import (
    LOSSES,
    Link,
    team_id,
    translated,
    undone,
    words_of,
)
from immunos_mcp.ledger.team_schema import PERSON, TEAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.ledger.connections.postgresql_connection import PostgresqlConnection
    from immunos_mcp.ledger.dialect import Connection

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LOCKS = 0x696D6D75 << 32
CONNECTIONS = 8
OF_ONE_TEAM = CONNECTIONS // 2
_AS_TEAM = f"SELECT set_config('{TEAM}', $1, true), set_config('{PERSON}', $2, true)".encode()
_WITH_LOCK = _AS_TEAM + b", pg_advisory_xact_lock($3)"


class _Kind(NamedTuple):
    """How a transaction is run.

    Attributes:
        begin: begins it.
        is_writing: whether it needs its team's lock.
        patience_seconds: how long it is tried again where the database went away.
        lock_seconds: how long it waits for a lock, if not as long as usual.
    """

    begin: bytes
    is_writing: bool
    patience_seconds: float
    lock_seconds: int | None = None


_READING = _Kind(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", False, 20.0)
# A stricter level would read what was stored before the lock was waited for.
_WRITING = _Kind(b"BEGIN ISOLATION LEVEL READ COMMITTED", True, 4.0)
_SOON = _WRITING._replace(lock_seconds=1)


class Acting(NamedTuple):
    """Whose transactions they are: the ids of a team, and of a person where one is known."""

    team_id: int
    person_id: int | None = None


class PostgresqlLedger(ABC):
    """The ledger of a team, opened on first use."""

    def __init__(self, address: DatabaseAddress, acting: Acting | None = None) -> None:
        """Create the ledger of the team that acts; of the team that the address names, if ``None``."""
        self.address = address
        self.replacements = 0
        self._acting = acting

    async def read(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run a read-only operation on one snapshot."""
        return await self._run(
            lambda link: self._transact(
                link, _READING, lambda it: operation(it, *arguments, **named)
            )
        )

    async def write(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run an operation that may write; either all of its changes are stored or none."""
        return await self._run(
            lambda link: self._transact(
                link, _WRITING, lambda it: operation(it, *arguments, **named)
            )
        )

    async def write_soon(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Like ``write``, but wait a second at most for other writers.

        Raises:
            LedgerBusyError: they take longer.
        """
        return await self._run(
            lambda link: self._transact(link, _SOON, lambda it: operation(it, *arguments, **named))
        )

    async def compact(self) -> None:  # noqa: B027  # nothing is to be done in a subclass either
        """Do nothing: PostgreSQL uses the space of deleted rows again by itself."""

    @abstractmethod
    async def _run(self, work: Callable[[Link], Result]) -> Result:
        """Run ``work`` on the thread that the ledger uses, with the connection of that thread."""

    def _transact(
        self, link: Link, kind: _Kind, operation: Callable[[PostgresqlConnection], Result]
    ) -> Result:
        deadline = time.monotonic() + kind.patience_seconds
        with translated(self.address):
            while True:
                connection = link.connection(deadline)
                try:
                    if self._acting is None:
                        self._acting = Acting(team_id(connection, self.address))
                    return self._attempt(link, connection, kind, self._acting, operation)
                except LOSSES as error:
                    # Nothing was stored, since it was not told to; so it can run again.
                    if not link.is_lost(error) or time.monotonic() >= deadline:
                        raise

    def _attempt(
        self,
        link: Link,
        connection: PostgresqlConnection,
        kind: _Kind,
        acting: Acting,
        operation: Callable[[PostgresqlConnection], Result],
    ) -> Result:
        is_committing = False
        try:
            with undone(connection):
                connection.person_id = acting.person_id
                _begin(connection, kind, acting)
                result = operation(connection)
                is_committing = kind.is_writing
                connection.pipeline.commit()
        except LOSSES as error:
            if not is_committing or not link.is_lost(error):
                raise
            raise MaybeStoredError(
                f"ledger {self.address} did not say whether this was stored"
                f" ({words_of(error, self.address)}); look before you repeat it"
            ) from None
        return result


def begin_writing(connection: PostgresqlConnection, team_id: int) -> None:
    """Begin a transaction that may write what a team has."""
    _begin(connection, _WRITING, Acting(team_id))


def _begin(connection: PostgresqlConnection, kind: _Kind, acting: Acting) -> None:
    connection.begin()
    pipeline = connection.pipeline
    pipeline.is_reading = not kind.is_writing
    pipeline.send(kind.begin)
    if kind.lock_seconds is not None:
        pipeline.send(f"SET LOCAL lock_timeout = '{kind.lock_seconds}s'".encode())
    team, person = str(acting.team_id), str(acting.person_id or "")
    if kind.is_writing:
        # A statement of its own, so that those after it see what was stored before the lock was free.
        pipeline.send(_WITH_LOCK, (team, person, LOCKS + acting.team_id))
    else:
        pipeline.send(_AS_TEAM, (team, person))


class InlinePostgresqlLedger(PostgresqlLedger):
    """The ledger of a command: one connection, on the caller's thread."""

    def __init__(self, address: DatabaseAddress, acting: Acting | None = None) -> None:
        super().__init__(address, acting)
        self._link = Link(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        self._link.close()

    async def _run(self, work: Callable[[Link], Result]) -> Result:
        return work(self._link)


class _Threads:
    """Threads that run operations, each with a connection of its own."""

    def __init__(self, address: DatabaseAddress) -> None:
        self._address = address
        self._executor = ThreadPoolExecutor(CONNECTIONS, "ledger")
        self._own = threading.local()
        self._links: list[Link] = []
        self._was_open = threading.Event()

    async def run(self, work: Callable[[Link], Result]) -> Result:
        """Run ``work`` on the connection of a thread that has nothing else to do."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: work(self._link())
        )

    def _link(self) -> Link:
        link: Link | None = getattr(self._own, "link", None)
        if link is None:
            link = self._own.link = Link(self._address, self._was_open)
            self._links.append(link)
        return link

    def close(self) -> None:
        """Let operations finish, and close all connections."""
        self._executor.shutdown()
        while self._links:
            self._links.pop().close()


class ThreadedPostgresqlLedger(PostgresqlLedger):
    """The ledger of a server: operations run beside each other on several connections."""

    def __init__(
        self,
        address: DatabaseAddress,
        acting: Acting | None = None,
        threads: _Threads | None = None,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        super().__init__(address, acting)
        self._threads = threads or _Threads(address)
        self._turns = turns or asyncio.Semaphore(CONNECTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, also those of ``acting_as``; closing twice is harmless."""
        await asyncio.to_thread(self._threads.close)

    def acting_as(self, acting: Acting, team: str | None = None) -> ThreadedPostgresqlLedger:
        """Return the ledger of another person, or of a team of that name, on the same connections.

        A team has at most so many of them at once that others' operations need not wait for its lock.
        """
        if team is None:
            return ThreadedPostgresqlLedger(self.address, acting, self._threads, self._turns)
        address, turns = self.address._replace(team=team), asyncio.Semaphore(OF_ONE_TEAM)
        return ThreadedPostgresqlLedger(address, acting, self._threads, turns)

    def for_person(self, person_id: int) -> ThreadedPostgresqlLedger:
        """Return the same ledger, for what one of its team's people does; this one was used before."""
        assert self._acting is not None, "a person is known from the ledger"
        return self.acting_as(self._acting._replace(person_id=person_id))

    async def _run(self, work: Callable[[Link], Result]) -> Result:
        async with self._turns:
            return await self._threads.run(work)
