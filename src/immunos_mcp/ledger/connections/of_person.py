"""A ledger as one of the people who share it uses it: what they store says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.dialect import Connection

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class LedgerOfPerson:
    """Another ledger, on which one person acts; closing it is left to who opened that."""

    def __init__(self, ledger: Ledger, person_id: int) -> None:
        self._ledger = ledger
        self._person_id = person_id

    @property
    def replacements(self) -> int:
        """How often it turned out to be another database."""
        return self._ledger.replacements

    async def read(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run a read-only operation on one snapshot."""
        return await self._ledger.read(_as_person, self._person_id, operation, *arguments, **named)

    async def write(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run an operation that may write; either all of its changes are stored or none."""
        return await self._ledger.write(_as_person, self._person_id, operation, *arguments, **named)

    async def write_soon(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Like ``write``, but wait about a second at most for other writers.

        Raises:
            LedgerBusyError: they take longer.
        """
        return await self._ledger.write_soon(
            _as_person, self._person_id, operation, *arguments, **named
        )

    async def compact(self) -> None:
        """Return the space of deleted rows to the file system."""
        await self._ledger.compact()


def _as_person(
    connection: Connection,
    person_id: int,
    operation: Callable[Concatenate[Connection, Parameters], Result],
    /,
    *arguments: Parameters.args,
    **named: Parameters.kwargs,
) -> Result:
    """Run an operation on a connection that knows who acts."""
    connection.person_id = person_id
    try:
        return operation(connection, *arguments, **named)
    finally:
        connection.person_id = None
