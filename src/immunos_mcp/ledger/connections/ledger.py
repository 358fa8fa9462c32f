"""What every ledger offers, whatever database is under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.dialect import Connection

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Ledger(Protocol):
    """Runs operations, each in one transaction; opened on first use.

    Every method raises ``LedgerError`` if the database cannot be used, and whatever its operation raises.
    In both cases nothing has changed, unless it is a ``MaybeStoredError``, and a later call tries again.
    """

    @property
    def replacements(self) -> int:
        """How often it turned out to be another database; what was cached of it is out of date then."""
        ...

    async def read(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run a read-only operation on one snapshot."""
        ...

    async def write(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run an operation that may write; either all of its changes are stored or none."""
        ...

    async def write_soon(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Like ``write``, but wait about a second at most for other writers.

        If they take longer, the operation may still run later, so it must be one that may be repeated.

        Raises:
            LedgerBusyError: they take longer.
        """
        ...

    async def compact(self) -> None:
        """Return the space of deleted rows to the file system."""
        ...


class Writing(Protocol):
    """Runs an operation that may write, as ``Ledger.write`` does."""

    async def __call__(
        self,
        operation: Callable[Concatenate[Connection, Parameters], Result],
        /,
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Result:
        """Run an operation; either all of its changes are stored or none."""
        ...


class InlineLedger(Ledger, Protocol):
    """A ledger on the caller's thread; close it after use."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_exception: object) -> None: ...

    def close(self) -> None:
        """Close what is open; closing twice is harmless."""
        ...


class ThreadedLedger(Ledger, Protocol):
    """A ledger that several tasks may call at once; close it after use."""

    def for_person(self, person_id: int) -> Ledger:
        """Return the same ledger, for what one of its team's people does."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_exception: object) -> None: ...
