"""Where the SQL of one database differs from another's: the connection and a few named fragments.

Operations use what is here and standard SQL besides.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Connection(sqlite3.Connection):
    """What an operation runs on: a connection in the transaction that the ledger began for it.

    A class of its own because ``sqlite3.Connection`` cannot be referred to weakly.
    """


IN_LIST = "IN (SELECT value FROM json_each(?))"
"""A condition: the value is one of those that ``list_parameter`` put into one parameter."""


def list_parameter(values: Iterable[str | None]) -> str:
    """Return the parameter of ``IN_LIST``; as many values as there are take one statement."""
    return json.dumps([*values])


def foreign_changes(connection: Connection) -> int:
    """Return a number that differs from the last one if another connection committed since."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
