"""Puts the joined team together, for a command and for a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.gateway.connection import BriefConnection, TeamConnection
from immunos_mcp.gateway.team import Team

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.gateway.team import Connect
    from immunos_mcp.ledger.connections.ledger import Ledger


def brief_team(
    ledger: Ledger, token_file: Path, follower: Follower | None, connect: Connect = BriefConnection
) -> Team:
    """Return the team that a ledger has joined, for a command, which has no event loop."""

    def assistants() -> tuple[str, ...]:
        return () if follower is None else follower.assistants()

    return Team(ledger, token_file, connect, assistants)


def lasting_team(ledger: Ledger, token_file: Path, follower: Follower | None) -> Team:
    """Return the same where an event loop runs."""
    return brief_team(ledger, token_file, follower, TeamConnection)
