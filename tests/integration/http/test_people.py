"""Tokens and roles: who gets in, what each may do, and how fast a token that is revoked ends."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
import wire
from http_servers import (
    ANYWHERE,
    asking,
    client_of,
    connected,
    put_a_folder_in_place_of,
    serving,
)
from sdk_clients import answer, read_json, text_of

from immunos_mcp.http import access
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.of_person import LedgerOfPerson
from immunos_mcp.ledger.ingestion import ingest
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.people import People
from immunos_mcp.router import Router
from immunos_mcp.rules.roles import Person, Role

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.client import Client

    from immunos_mcp.answers.people import NewTokenAnswer

pytestmark = pytest.mark.anyio

WITH_TOKENS = ANYWHERE._replace(needs_tokens=True)
TASK = {"task_type": "debug", "classification": "routine"}
USAGE = {"model": "claude-sonnet-4.5", "input_tokens": 54_321, "output_tokens": 0}
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def token_of(file: Path, name: str, role: str = "member") -> NewTokenAnswer:
    with InlineSqliteLedger(file) as ledger:
        run_sync(People(ledger).add(name, role))
        return run_sync(People(ledger).create_token(name, "test", None))


async def test_only_a_token_opens_the_tools_and_the_metrics(ledger_file: Path) -> None:
    token = token_of(ledger_file, "ada").token
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {token}"},
        {"authorization": f"Bearer {token}x"},
        {"authorization": f"Bearer {token[:-1]}"},
        {"authorization": f"Bearer {'x' * 9000}"},
        {"cookie": f"immunos_token={token}x"},
    )
    async with serving(ledger_file, WITH_TOKENS) as served, client_of(served.url) as client:
        for headers in wrong:
            for method, path in (("POST", "/mcp"), ("GET", "/metrics")):
                refused = await client.request(
                    method, path, headers=headers, json=asking("tools/list")
                )
                assert refused.status_code == 401, headers
                assert refused.headers["www-authenticate"].startswith("Bearer error=")
                assert "resource_metadata" not in refused.headers["www-authenticate"]
        good = {"authorization": f"Bearer {token}"}
        assert (await client.get("/metrics", headers=good)).status_code == 200
        listed = await client.post("/mcp", headers=good, json=asking("tools/list"))
        assert len(listed.json()["result"]["tools"]) == 5
        assert (await client.get("/healthz")).status_code == 200
        by_cookie = {"cookie": f"immunos_token={token}"}
        sent = await client.post("/mcp", headers=by_cookie, json=asking("tools/list"))
        assert sent.status_code == 401, "other pages can make a browser send it"
    assert token not in "\n".join(wire.dump(ledger_file))


async def refused(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return text_of(result)


async def test_a_member_changes_nothing_of_the_teams(ledger_file: Path) -> None:
    authorization = f"Bearer {token_of(ledger_file, 'ada').token}"
    async with (
        serving(ledger_file, WITH_TOKENS) as served,
        connected(served.url, "auto", authorization=authorization) as client,
    ):
        await answer(client, "route_task", **TASK)
        await answer(client, "record_usage", model="m", input_tokens=1, output_tokens=1)
        assert "a member may reset only" in await refused(client, "reset_session")
        assert "a member may reset only" in await refused(client, "reset_session", session="bob")
        changed = await refused(client, "update_config", session_limit=300_000)
        assert changed == (
            "a member may only try changes with dry_run; ask a lead or an admin to change settings"
        )
        assert (await answer(client, "update_config", session_limit=300_000, dry_run=True))[
            "dry_run"
        ]
        assert (await read_json(client, "immunos://config"))["session_limit"] == 200_000
        await answer(client, "reset_session", session="ada")
    names = wire.rows(ledger_file, "SELECT name, end_reason FROM immunos_mcp_session ORDER BY 1")
    assert names == [("ada", None), ("default", None)]


@pytest.mark.parametrize("role", ["lead", "admin"])
async def test_a_lead_changes_the_teams_budget_and_the_audit_says_so(
    ledger_file: Path, home: Path, role: str
) -> None:
    authorization = f"Bearer {token_of(ledger_file, 'eve', role).token}"
    async with (
        serving(ledger_file, WITH_TOKENS) as served,
        connected(served.url, "legacy", authorization=authorization) as client,
    ):
        await answer(client, "update_config", session_limit=300_000)
        await refused(client, "update_config", budgets="x=1 usd/day of nobody")
        await answer(client, "reset_session")
    (who,) = wire.rows(ledger_file, "SELECT client FROM immunos_mcp_setting_change")[0]
    assert who.endswith(" (eve)")
    deeds = wire.run_json(home, "audit", "--limit", "2")  # and none that was not done
    assert [(each["person"], each["action"], each["detail"]) for each in deeds] == [
        ("eve", "reset_session", "default"),
        ("eve", "update_config", "session_limit"),
    ]


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired"])
async def test_a_token_that_is_good_no_more_ends_within_half_a_minute(
    ledger_file: Path, how: str
) -> None:
    made = token_of(ledger_file, "ada")
    now, seconds = [NOW], [0.0]
    with InlineSqliteLedger(ledger_file) as ledger:
        people = People(ledger, lambda: now[0])
        if how == "expired":
            made = await people.create_token("ada", "short", 1)

        async def holder(token: str) -> access.Holder | None:
            person = await people.holder(token)
            return None if person is None else access.Holder(person, "default")

        verifier = access.Verifier(holder, lambda: seconds[0])
        known = await verifier.verify_token(made.token)
        assert known is not None
        assert known.person == Person(1, "ada", Role.MEMBER)
        assert made.token not in repr(known)
        if how == "revoked":
            await people.revoke_token(made.token_id)
        elif how == "disabled":
            await people.disable("ada")
        else:
            now[0] += timedelta(days=1)
        seconds[0] += access.CACHE_SECONDS - 0.1
        assert await verifier.verify_token(made.token) is not None
        seconds[0] += 0.2
        assert await verifier.verify_token(made.token) is None
        if how == "disabled":
            await people.add("ada", "lead")
            seconds[0] += access.CACHE_SECONDS
            enabled = await verifier.verify_token(made.token)
            assert enabled is not None
            assert enabled.person.role is Role.LEAD


async def test_a_token_that_is_used_too_often_has_to_wait_and_others_do_not(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "BURST_SECONDS", 2)
    tokens = [token_of(ledger_file, name).token for name in ("ada", "bob")]
    limited = WITH_TOKENS._replace(rate_limit=1)
    async with serving(ledger_file, limited) as served:
        for token in tokens:
            async with client_of(served.url, authorization=f"Bearer {token}") as client:
                answers = [await client.get("/metrics") for _ in range(4)]
                assert [each.status_code for each in answers[:2]] == [200, 200]
                assert answers[-1].status_code == 429
                assert answers[-1].headers["retry-after"] == "1"


async def test_where_tokens_cannot_be_checked_nobody_gets_in(ledger_file: Path) -> None:
    token = token_of(ledger_file, "ada").token
    async with (
        serving(ledger_file, WITH_TOKENS) as served,
        client_of(served.url, authorization=f"Bearer {token}") as client,
    ):
        put_a_folder_in_place_of(ledger_file)
        unavailable = await client.post("/mcp", json=asking("tools/list"))
        assert unavailable.status_code == 503
        assert str(ledger_file) not in unavailable.text


async def test_the_report_is_shown_to_those_who_logged_in(ledger_file: Path) -> None:
    token = token_of(ledger_file, "ada").token
    async with serving(ledger_file, WITH_TOKENS) as served, client_of(served.url) as client:
        for path in ("/", "/report", "/events"):
            asked = await client.get(path)
            assert asked.status_code == 401
            assert 'name="token"' in asked.text
        form = {"content-type": "application/x-www-form-urlencoded"}
        wrong = await client.post("/login", content="token=%00%FF", headers=form)
        assert (wrong.status_code, wrong.headers.get("set-cookie")) == (401, None)
        elsewhere = {**form, "origin": "https://evil.example"}
        assert (
            await client.post("/login", content=f"token={token}", headers=elsewhere)
        ).status_code == 403
        right = await client.post("/login", content=f"token={token}", headers=form)
        assert (right.status_code, right.headers["location"]) == (303, "/report")
        shown = await client.get("/report?since=2026-01-01")
        assert shown.status_code == 200
        assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
        assert "Session default" in shown.text
        assert (await client.get("/report?since=2026-01-01")).text == shown.text
        changed = asking("tools/call", name="record_usage", arguments=USAGE)
        authorized = {"authorization": f"Bearer {token}"}
        assert (await client.post("/mcp", headers=authorized, json=changed)).status_code == 200
        assert "54,321" in (await client.get("/report?since=2026-01-01")).text
        assert (await client.get("/report?since=soon")).status_code == 400
        left = await client.post("/logout")
        assert left.status_code == 303
        assert (await client.get("/report")).status_code == 401


async def test_members_see_their_own_usage_and_the_team_s_and_leads_everybody_s(
    ledger_file: Path,
) -> None:
    roles = {"ada": "member", "bob": "member", "eve": "lead"}
    tokens = {name: token_of(ledger_file, name, role).token for name, role in roles.items()}
    with InlineSqliteLedger(ledger_file) as ledger:
        budgets = "own=1000000 tokens/month each; bob=2000000 tokens/month of bob"
        run_sync(Router(ledger, "default").update_config({"budgets": budgets}, "test"))
        for person, used in enumerate((111_111, 222_222), start=1):
            own = LedgerOfPerson(ledger, person)
            usage = MeasuredUsage(f"m{person}", datetime.now(UTC), "gpt-5", used, folder="webshop")
            run_sync(own.write(ingest, [usage]))
            run_sync(Router(own, ("ada", "bob")[person - 1]).reset_session())
    shown: dict[str, tuple[str, list[str]]] = {}
    async with serving(ledger_file, WITH_TOKENS) as served:
        for name in ("ada", "eve", "bob", "ada"):
            async with client_of(served.url, authorization=f"Bearer {tokens[name]}") as client:
                page = (await client.get("/report")).text
                table = await client.get("/people.csv?since=2026-01-01T00:00:00Z")
                assert table.headers["content-type"].startswith("text/csv")
                shown[name] = page, table.text.splitlines()[1:]
        async with client_of(served.url) as client:
            assert (await client.get("/people.csv")).status_code == 401
    for name, (page, table) in shown.items():
        assert "333,333" in page, "the team's sum"
        others = {"ada", "bob"} - {name}
        for other in others:
            is_seen = name == "eve"
            assert (f">{other}<" in page) == is_seen
            assert (f"own/{other}" in page) == is_seen
            assert any(f",{other}," in line for line in table) == is_seen
    assert "2000000 tokens/month of bob" in shown["bob"][0]
    assert "tokens/month of bob" not in shown["ada"][0]
    (line,) = shown["ada"][1]
    assert line.split(",", 1)[1].startswith("ada,claude-code,webshop,gpt-5,111111,0,0,0,1,")
    assert len(shown["eve"][1]) == 2


async def test_an_open_page_is_told_of_changes_and_of_the_end(
    ledger_file: Path, home: Path
) -> None:
    token = token_of(ledger_file, "ada").token
    async with (
        serving(ledger_file, WITH_TOKENS) as served,
        client_of(served.url, authorization=f"Bearer {token}") as client,
        client.stream("GET", "/events") as events,
    ):
        lines = events.aiter_lines()
        assert await anext(lines) == ": listening"
        await anyio.to_thread.run_sync(
            lambda: wire.run_json(home, "config", "set", "session_limit=300000")
        )
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            assert "event: change" in [await anext(lines) for _ in range(2)]
            served.end()
            assert "event: change" not in [line async for line in lines][3:]


def test_people_and_tokens_are_managed_on_the_command_line(home: Path, ledger_file: Path) -> None:
    assert wire.run_json(home, "person", "list") == []
    assert wire.run_json(home, "person", "add", "ada", "--role", "lead")["role"] == "lead"
    made = wire.run_json(home, "token", "create", "ada", "--label", "laptop", "--days", "90")
    assert made["token"].startswith("immunos_")
    assert len(made["token"]) >= 51
    told = wire.run(home, "token", "create", "ada")
    assert told.stdout.splitlines()[0].startswith("immunos_")
    assert wire.run_json(home, "token", "revoke", made["token_id"])["revoked_at"]
    listed = wire.run(home, "token", "list").stdout
    assert made["token"] not in listed
    assert "revoked" in listed
    assert "ada: lead" in wire.run(home, "person", "list").stdout
    assert wire.run(home, "person", "disable", "ada").returncode == 0
    disabled = wire.run(home, "token", "create", "ada")
    assert (disabled.returncode, disabled.stdout) == (2, "")
    assert "ada is disabled" in disabled.stderr
    assert wire.run(home, "token", "create", "bob").returncode == 2
    assert wire.run(home, "token", "revoke", "bob").returncode == 2
    assert "person disable ada" in wire.run(home, "audit").stdout
    assert stat.S_IMODE(ledger_file.stat().st_mode) == 0o600
