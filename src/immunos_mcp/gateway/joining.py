"""Joining a team, leaving it, and sending a history to one without joining."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import Struct

from immunos_mcp.gateway import requests
from immunos_mcp.gateway.team import PUSH_SECONDS
from immunos_mcp.gateway_messages import (
    MOST_RESPONSES,
    VERSION,
    GatewayRequest,
    HandedOverTask,
    PassedCall,
    PushedModelTotal,
    PushedPlanUsage,
    PushedRequest,
    PushedResponse,
    PushedTotal,
    PushedUsage,
    SentEngine,
)
from immunos_mcp.ledger.joined_team import (
    JoinedTeam,
    joined_team,
    usage_from,
)
from immunos_mcp.ledger.unpushed import Place, history_page, newest_response

if TYPE_CHECKING:
    from datetime import datetime

    from immunos_mcp.gateway.connection import TeamServer
    from immunos_mcp.gateway_messages import GatewayIdentity
    from immunos_mcp.ledger.connections.ledger import Ledger

FIRST_SECONDS = 10.0
"""How long a server may take to say whose token it has."""

_SENT = (
    ("responses that assistants logged", PushedResponse),
    ("requests that telemetry reported", PushedRequest),
    ("totals of conversations", PushedTotal),
    ("a total's models", PushedModelTotal),
    ("your subscription's limits", PushedPlanUsage),
    ("tasks that your local models did", HandedOverTask),
    (
        "calls of tools and commands: decisions, reports, status, settings, resets with their reason",
        PassedCall,
    ),
    ("your local engine, with such a call", SentEngine),
    ("all of that in a request", GatewayRequest),
    ("its usage", PushedUsage),
)


class Offer(NamedTuple):
    """What joining would mean.

    Attributes:
        team: the team, as it would be stored.
        role: what the person may do there.
        example: the newest response as it would be sent; ``None``: there is none yet.
        is_renewal: whether this ledger has joined that server already.
    """

    team: JoinedTeam
    role: str
    example: PushedResponse | None
    is_renewal: bool


class JoinAnswer(Struct, frozen=True):
    """What ``join`` and ``leave`` answer.

    Attributes:
        url: where the team's server is.
        team: what it calls the team.
        person: whose token it is; absent: the server asks for none.
        role: what the person may do.
        usage_from: from when usage is sent.
        sends_labels: whether the names of project folders are sent.
        new: how many responses were new to the team; absent: not known.
        unsent: rows that wait for the team, or were never sent.
    """

    url: str
    team: str
    person: str | None = None
    role: str | None = None
    usage_from: datetime | None = None
    sends_labels: bool | None = None
    new: int | None = None
    unsent: int | None = None


class SentAnswer(Struct, frozen=True):
    """What ``sync --to`` answers.

    Attributes:
        url: where usage was sent.
        new: how many responses and requests were new there, or had grown.
        imported: what ``sync`` answers.
    """

    url: str
    new: int
    imported: object


async def offer(
    ledger: Ledger,
    url: str,
    identity: GatewayIdentity,
    session: str,
    now: datetime,
    *,
    sends_labels: bool,
) -> Offer:
    """Return what joining a server would mean, which has said whose token it is."""
    known = await ledger.read(joined_team)
    is_renewal = known is not None and known.url == url
    since = await ledger.read(usage_from, session, now)
    team = JoinedTeam(
        os.urandom(8).hex(),
        url,
        identity.team,
        identity.person or "",
        now,
        known.usage_from if known is not None and is_renewal else since,
        sends_labels,
    )
    newest = await ledger.read(newest_response)
    example = None if newest is None else PushedResponse.of(newest)
    if example is not None and not sends_labels:
        example = msgspec.structs.replace(example, label=None)
    return Offer(team, identity.role, example, is_renewal)


def preview(offered: Offer) -> str:
    """Return what would be sent, field by field, and who could see it."""
    team = offered.team
    who = f" You are {team.person} ({offered.role})." if team.person else ""
    lines = [f"Team {team.team} at {team.url}.{who}", "", "These fields are sent, and no others:"]
    for what, kind in _SENT:
        fields = [*kind.__struct_fields__]
        if not team.sends_labels and "label" in fields:
            fields.remove("label")
        lines.append(f"  {what}: {', '.join(fields)}")
    if team.sends_labels:
        lines.append("A label is the last component of a project folder; --no-labels sends none.")
    lines.append("Never: paths, file names, prompts, or any text of a conversation.")
    if offered.example is not None:
        shown = msgspec.json.encode(offered.example).decode()
        lines += ["", "Your newest response, as it would be sent:", f"  {shown}"]
    since = f"{team.usage_from.astimezone():%Y-%m-%d %H:%M}"
    lines += [
        "",
        f"Usage is sent from {since} on, with each decision and about once a minute besides.",
        "You, and the leads and admins of the team, see your figures; everybody in it sees its sums.",
    ]
    return "\n".join(lines)


async def send_history(
    ledger: Ledger,
    server: TeamServer,
    assistants: tuple[str, ...],
    since: datetime | None,
    *,
    sends_labels: bool,
) -> int:
    """Send all usage since a time (``None``: all) to a server; return how much was new there.

    What the server has already changes nothing there, so this may be repeated.
    """
    new = 0
    place: Place | None = Place()
    while place is not None:
        page = await ledger.read(history_page, place, since, MOST_RESPONSES)
        place = page.next_place
        if page.usage.is_empty() and place is not None:
            continue
        usage = requests.pushed_usage(page.usage, sends_labels=sends_labels, is_last=place is None)
        request = requests.understood(GatewayRequest(VERSION, assistants=assistants, usage=usage))
        reply = await server.ask(requests.encoded(request), PUSH_SECONDS)
        new += reply.new
    return new
