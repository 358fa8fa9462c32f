"""Whose own servers push the usage that assistants log, so that nothing counts twice.

Each function runs inside its caller's transaction and does not end it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger.moments import utc_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.ledger.dialect import Connection

NOBODY = 0
"""Stands for whoever sends requests where no tokens are asked for."""


class Reporter(NamedTuple):
    """Who reports usage: an assistant, by its name in the registry, for a person."""

    person_id: int
    assistant: str


def note_pushing(
    connection: Connection, person_id: int, assistants: Sequence[str], now: datetime
) -> None:
    """Store that a person's own server pushes what these assistants log, from now on."""
    connection.executemany(
        "INSERT INTO immunos_mcp_pushing (person_id, assistant, since) VALUES (?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        [(person_id, assistant, utc_text(now)) for assistant in assistants],
    )


def end_pushing(connection: Connection, person_id: int) -> None:
    """Let what assistants report for a person count again, since nobody pushes what they log."""
    connection.execute("DELETE FROM immunos_mcp_pushing WHERE person_id = ?", (person_id,))


_SELECT_PUSHING = "SELECT 1 FROM immunos_mcp_pushing WHERE person_id = ? AND assistant = ?"


def look_ahead(connection: Connection, reporter: Reporter) -> None:
    """Announce that it will be asked whether the assistant's usage is pushed."""
    connection.ahead(_SELECT_PUSHING, reporter)


def is_pushed(connection: Connection, reporter: Reporter) -> bool:
    """Return whether what the assistant logs is pushed by the person's own server."""
    return connection.execute(_SELECT_PUSHING, reporter).fetchone() is not None
