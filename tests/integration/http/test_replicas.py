"""A server over HTTP on a team's ledger in PostgreSQL: who acts is known, and others' changes are seen."""

from __future__ import annotations

import time
from typing import Any

import anyio
import postgresql_server
import pytest
import wire
from http_servers import ANYWHERE, connected, serving
from sdk_clients import answer

from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.people import People
from immunos_mcp.router import Router

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SEEN_WITHIN_SECONDS = 1.0


async def test_a_person_is_known_and_a_change_of_another_server_is_seen_within_a_second() -> None:
    owned = postgresql_server.empty_ledger()
    address = postgresql_server.as_server(owned)
    with inline_ledger(address) as ledger:
        run_sync(People(ledger).add("eve", "member"))
        run_sync(People(ledger).add("ada", "member"))
        token = run_sync(People(ledger).create_token("ada", "test", None)).token
    with_tokens = ANYWHERE._replace(needs_tokens=True)
    async with (
        serving(address, with_tokens) as served,
        connected(served.url, "auto", authorization=f"Bearer {token}") as client,
        client.listen(resource_subscriptions=["immunos://config"]) as changes,
    ):
        await answer(client, "route_task", task_type="debug", classification="routine")
        with inline_ledger(address) as ledger:
            await Router(ledger, "default").update_config({"session_limit": 300_000}, "other")
        begun = time.monotonic()
        with anyio.fail_after(wire.TIMEOUT_SECONDS):
            changed: Any = await anext(aiter(changes))
        assert changed.uri == "immunos://config"
        assert time.monotonic() - begun < SEEN_WITHIN_SECONDS
    rows = postgresql_server.rows(
        owned,
        "SELECT name FROM immunos_mcp_decision JOIN immunos_mcp_person USING (person_id)",
    )
    assert rows == [("ada",)]
