"""A server for all teams of a database: the token says whose team is meant, and nothing leaks to another."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgspec
import postgresql_server
import pytest
import wire
from http_servers import ANYWHERE, asking, client_of, connected, serving
from identity_providers import AUDIENCE, providing
from sdk_clients import answer

from immunos_mcp.gateway_messages import (
    PATH,
    GatewayRequest,
    PassedCall,
    PushedResponse,
    PushedUsage,
)
from immunos_mcp.http.teams import Setup, Teams
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger, team_ledgers
from immunos_mcp.people import People, hash_of
from immunos_mcp.router import Router
from immunos_mcp.rules.roles import Role

if TYPE_CHECKING:
    import httpx2

    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.http.options import HttpOptions

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

WITH_TOKENS = ANYWHERE._replace(needs_tokens=True)
LATELY = datetime.now(UTC) - timedelta(minutes=10)
MARK = "zinnober"
"""In whatever the first team has and the other must not see, except what its session is called."""
SESSION = "night"


class Member(NamedTuple):
    team: str
    name: str
    role: Role
    token: str

    @property
    def header(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


def two_teams() -> tuple[DatabaseAddress, DatabaseAddress]:
    """Return the address of two teams, ``default`` and ``blue``, as its owner and as a server has it."""
    from immunos_mcp.ledger.connections.postgresql_migration import add_team

    owner = postgresql_server.empty_ledger()
    add_team(owner, "blue")
    return owner, postgresql_server.as_server(owner)


def member_of(served: DatabaseAddress, team: str, role: Role, name: str) -> Member:
    with inline_ledger(served._replace(team=team, names_team=True)) as ledger:
        run_sync(People(ledger).add(name, role))
        return Member(
            team, name, role, run_sync(People(ledger).create_token(name, "t", None)).token
        )


def tool(name: str, **arguments: Any) -> tuple[str, str, dict[str, Any]]:
    return ("POST", "/mcp", asking("tools/call", name=name, arguments=arguments))


def reading(uri: str) -> tuple[str, str, dict[str, Any]]:
    return ("POST", "/mcp", asking("resources/read", uri=uri))


def passed(name: Any, **arguments: Any) -> tuple[str, str, dict[str, Any]]:
    message = GatewayRequest(1, call=PassedCall(name, arguments, wants_settings=True))
    return ("POST", PATH, msgspec.to_builtins(message))


ASKED = (
    tool("route_task", task_type="debug", classification="critical", explain=True),
    tool("route_task", task_type="debug", classification="critical", session=SESSION),
    tool("record_usage", decision_id=1, outcome="success"),
    tool("record_usage", model="claude-x", input_tokens=1, output_tokens=1, request_id=MARK),
    tool("get_session_status"),
    tool("get_session_status", session=SESSION),
    tool("update_config", dry_run=True, session_limit=250_000),
    tool("update_config", session_limit=250_000),
    tool("reset_session", session=SESSION),
    tool("reset_session"),
    reading("immunos://status"),
    reading("immunos://config"),
    reading(f"immunos://session/{SESSION}/status"),
    ("POST", "/mcp", asking("tools/list")),
    ("POST", "/mcp", asking("resources/list")),
    passed("get_session_status", session=SESSION),
    passed("route_task", task_type="debug", classification="critical"),
    passed("record_usage", decision_id=1, outcome="success"),
    ("GET", PATH, None),
    ("GET", "/report", None),
    ("GET", "/metrics", None),
)
"""What each role of the other team asks for."""

SEEDED = 7_654_321
"""Tokens that the first team used, and a setting of its own."""


async def seed(client: httpx2.AsyncClient, admin: Member) -> None:
    """Let the first team use everything, all of it marked."""
    response = PushedResponse(
        f"msg_{MARK}", LATELY, "claude-sonnet-4-5", SEEDED, label=MARK, request_id=f"r_{MARK}"
    )
    usage = GatewayRequest(1, ("claude-code",), PushedUsage((response,)))
    sent = await client.post(PATH, content=msgspec.json.encode(usage), headers=admin.header)
    assert sent.json()["new"] == 1
    async with connected(str(client.base_url).rstrip("/"), "legacy", **admin.header) as theirs:
        await answer(theirs, "update_config", claude_model=f"claude-{MARK}")
        await answer(
            theirs, "route_task", task_type=MARK, classification="critical", session=SESSION
        )
        await answer(theirs, "route_task", task_type=MARK, classification="critical")
        await answer(
            theirs,
            "record_usage",
            model=f"claude-{MARK}",
            input_tokens=SEEDED,
            output_tokens=0,
            request_id=MARK,
            session=SESSION,
        )


SEEN = """
SELECT (SELECT json_agg(session_id || name || coalesce(ended_at, '') || claude_input_tokens) FROM immunos_mcp_session WHERE team_id = 1),
    (SELECT count(*) FROM immunos_mcp_decision WHERE team_id = 1), (SELECT json_agg(value ORDER BY key) FROM settings WHERE team_id = 1),
    (SELECT count(*) FROM immunos_mcp_usage WHERE team_id = 1), (SELECT count(*) FROM immunos_mcp_audit WHERE team_id = 1),
    (SELECT json_agg(coalesce(outcome, '')) FROM immunos_mcp_decision WHERE team_id = 1)
"""


async def test_nothing_of_a_team_is_seen_or_changed_by_any_role_of_another() -> None:
    owner, served = two_teams()
    admin = member_of(served, "default", Role.ADMIN, f"{MARK}-admin")
    strangers = [member_of(served, "blue", role, f"{role}-blue") for role in Role]
    async with serving(served, WITH_TOKENS) as server, client_of(server.url) as client:
        await seed(client, admin)
        before = postgresql_server.rows(owner, SEEN)
        for stranger in strangers:
            for method, path, body in ASKED:
                answered = await client.request(method, path, json=body, headers=stranger.header)
                asked = (stranger.role, path, json.dumps(body)[:200])
                assert answered.status_code == 200, (asked, answered.text)
                told = answered.text.replace(",", "")
                for secret in (MARK, str(SEEDED), 'team="default"'):
                    assert secret not in told, (asked, secret, answered.text[:2000])
            assert postgresql_server.rows(owner, SEEN) == before, stranger.role
        own = await client.get("/report", headers=admin.header)
        assert f"{SEEDED:,}" in own.text
        figures = (await client.get("/metrics", headers=admin.header)).text
        assert 'tool="route_task"' in figures
        assert "blue" not in figures


async def test_a_change_is_told_to_the_team_that_it_concerns() -> None:
    _, served = two_teams()
    ada = member_of(served, "default", Role.LEAD, "ada")
    bob = member_of(served, "blue", Role.LEAD, "bob")
    async with (
        serving(served, WITH_TOKENS) as server,
        client_of(server.url) as client,
        client.stream("GET", "/events", headers=ada.header) as hers,
        client.stream("GET", "/events", headers=bob.header) as his,
        connected(server.url, "auto", **bob.header) as listening,
        listening.listen(
            resource_subscriptions=["immunos://status", "immunos://config"]
        ) as changes,
        connected(server.url, "auto", **ada.header) as changing,
    ):
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            of_ada, of_bob = hers.aiter_lines(), his.aiter_lines()
            assert [await anext(of_ada), await anext(of_bob)] == [": listening"] * 2
            await answer(changing, "route_task", task_type="debug", classification="routine")
            # An empty line ends an event.
            assert [await anext(of_ada) for _ in range(2)] == ["", "event: change"]
            # What he is told of first is not her status, but what another server changes in his team later.
            with inline_ledger(served._replace(team="blue")) as ledger:
                await Router(ledger, "default").update_config({"claude_model": "claude-x"}, "t")
            changed: Any = await anext(aiter(changes))
            assert changed.uri == "immunos://config"
            assert [await anext(of_bob) for _ in range(2)] == ["", "event: change"]


async def test_a_server_for_one_team_takes_no_token_of_another() -> None:
    _, served = two_teams()
    tokens = {team: member_of(served, team, Role.ADMIN, "ada") for team in ("default", "blue")}
    one = served._replace(team="blue", names_team=True)
    async with serving(one, WITH_TOKENS) as server, client_of(server.url) as client:
        for team, status in (("default", 401), ("blue", 200)):
            told = await client.get(PATH, headers=tokens[team].header)
            assert told.status_code == status
        assert told.json()["team"] == "blue"


async def test_whoever_does_not_know_a_token_sees_none_of_any_team() -> None:
    owner, served = two_teams()
    known = member_of(served, "blue", Role.ADMIN, "ada")
    member_of(served, "default", Role.ADMIN, "eve")
    look = "SELECT count(*) FROM immunos_mcp.immunos_mcp_token"
    change = "UPDATE immunos_mcp.immunos_mcp_token SET revoked_at = 'now'"
    import psycopg

    with psycopg.connect(served.text) as connection:
        for hashed, visible in (("", 0), ("%", 0), ("a" * 64, 0), (hash_of(known.token), 1)):
            connection.execute("SELECT set_config('immunos.token_hash', %s, true)", (hashed,))
            assert connection.execute(look).fetchone() == (visible,), hashed
            assert connection.execute(change).rowcount == 0, "it may be read only"
        for table in ("immunos_mcp_person", "immunos_mcp_team", "immunos_mcp_decision"):
            counting = f"SELECT count(*) FROM immunos_mcp.{table}"
            assert connection.execute(counting.encode()).fetchone() == (0,), table
    async with team_ledgers(served, every_team=True) as ledgers:
        teams = Teams(ledgers, Setup("default"))
        assert await teams.holder("immunos_nobody") is None
        holder = await teams.holder(known.token)
        assert holder is not None
        assert (holder.person.name, holder.team) == ("ada", "blue")
    assert len(postgresql_server.rows(owner, "SELECT 1 FROM immunos_mcp_token")) == 2


async def test_a_providers_token_names_the_team_by_a_claim() -> None:
    _, served = two_teams()
    for team in ("default", "blue"):
        member_of(served, team, Role.MEMBER, "ada")
    member_of(served, "blue", Role.MEMBER, "bob")
    with providing() as provider:
        accepting = WITH_TOKENS._replace(issuer=provider.url, audience=AUDIENCE)
        by_claim = accepting._replace(team_claim="team")
        one = served._replace(team="blue", names_team=True)
        told: list[tuple[DatabaseAddress, HttpOptions, list[tuple[dict[str, Any], str | None]]]] = [
            (
                served,
                by_claim,
                [
                    ({"team": "blue"}, "blue"),
                    ({"team": "default"}, "default"),
                    ({"team": "default", "sub": "bob"}, None),
                    ({"team": "red"}, None),
                    ({"team": ["blue"]}, None),
                    ({}, None),
                ],
            ),
            (served, accepting, [({"team": "blue"}, "default")]),
            (one, accepting, [({"team": "default"}, "blue")]),
            (one, by_claim, [({"team": "default"}, None), ({"team": "blue"}, "blue")]),
        ]
        for address, options, tokens in told:
            async with serving(address, options) as server, client_of(server.url) as client:
                for claims, team in tokens:
                    header = {"authorization": f"Bearer {provider.token(**claims)}"}
                    answered = await client.get(PATH, headers=header)
                    assert answered.status_code == (401 if team is None else 200), claims
                    assert team is None or answered.json()["team"] == team
