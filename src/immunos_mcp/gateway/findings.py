"""What doctor finds out about the joined team."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.assistants.findings import Finding, Verdict
from immunos_mcp.errors import NotAllowedError
from immunos_mcp.gateway.connection import BriefConnection, TeamAwayError
from immunos_mcp.gateway.membership import read_token
from immunos_mcp.ledger.joined_team import waiting_for_team

if TYPE_CHECKING:
    from pathlib import Path

    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.joined_team import Waiting

PROBE_SECONDS = 5.0


async def team_finding(ledger: Ledger, token_file: Path) -> Finding:
    """Return whether the joined team's server answers and takes the token, and how much waits for it."""
    waiting = await ledger.read(waiting_for_team)
    if waiting is None:
        seen = f"{token_file} is there, but no team is joined"
        return Finding("team", Verdict.WARN, seen, f"join the team again, or delete {token_file}")
    url = waiting.team.url
    token = read_token(token_file)
    if token is None:
        seen = f"the token for {url} cannot be read in {token_file}"
        return Finding("team", Verdict.FAIL, seen, f"immunos-mcp join {url}")
    try:
        identity = BriefConnection(url, token).identity(PROBE_SECONDS)
    except TeamAwayError as error:
        seen = f"{error}; decisions are made here{_waits(waiting)}"
        return Finding("team", Verdict.WARN, seen, "check the network, or ask who runs the server")
    except NotAllowedError as error:
        return Finding("team", Verdict.FAIL, f"{url} does not accept the token", str(error))
    failed_at = waiting.team.failed_at
    if failed_at is not None:
        at = f"{failed_at.astimezone():%Y-%m-%d %H:%M:%S}"
        seen = f"{url} answers now, but a request at {at} failed{_waits(waiting)}"
        return Finding("team", Verdict.WARN, seen, "the next call asks it again; its log says more")
    who = f" as {identity.person} ({identity.role})" if identity.person else ""
    return Finding("team", Verdict.OK, f"{identity.team} at {url}{who}{_waits(waiting)}")


def _waits(waiting: Waiting) -> str:
    reached = waiting.team.reached_at
    since = "never" if reached is None else f"at {reached.astimezone():%Y-%m-%d %H:%M}"
    if not waiting.rows:
        return "; it has all usage"
    return f"; rows of usage that wait for it: {waiting.rows:,}; it last answered {since}"
