"""Repeats what may have been stored, where it changes nothing the second time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from immunos_mcp.errors import MaybeStoredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.dialect import Connection

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def write_repeatable(
    ledger: Ledger,
    operation: Callable[Concatenate[Connection, Parameters], Result],
    /,
    *arguments: Parameters.args,
    **named: Parameters.kwargs,
) -> Result:
    """Run an operation that may write and changes nothing the second time, and repeat it where it may be stored."""
    try:
        return await ledger.write(operation, *arguments, **named)
    except MaybeStoredError:
        return await ledger.write(operation, *arguments, **named)
