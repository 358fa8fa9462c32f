"""What differs between databases: the connection and a few named SQL fragments.

Otherwise, operations use standard SQL.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Connection(sqlite3.Connection):
    """A connection inside the transaction that the ledger began for an operation.

    A subclass because ``sqlite3.Connection`` does not support weak references.

    Attributes:
        last_uses: what the budgets' use was found to be, with all that it follows from.
    """

    last_uses: tuple[object, object] | None = None


IN_LIST = "IN (SELECT value FROM json_each(?))"
"""A condition: the value is in the list that ``list_parameter`` encodes as one parameter."""


def list_parameter(values: Iterable[str | int | None]) -> str:
    """Encode values as the parameter of ``IN_LIST``; one statement handles any number of them."""
    return json.dumps([*values])


def foreign_changes(connection: Connection) -> int:
    """Return a number that changes whenever another connection commits."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def change_mark(connection: Connection) -> tuple[int, int]:
    """Return two numbers, one of which changes with every change of the ledger by anybody.

    They are comparable as long as the connection is open.
    """
    return foreign_changes(connection), connection.total_changes
