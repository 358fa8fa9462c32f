"""The server as a whole: who it is, what starting it does, and calls that overlap."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import wire
from sdk_clients import ERAS, Era, answer, connected, in_process

import immunos_mcp

if TYPE_CHECKING:
    from pathlib import Path


CLAUDE = "claude-sonnet-4.5"
TASK = {"task_type": "code_review", "classification": "routine"}
TOKENS: wire.JsonObject = {"model": CLAUDE, "input_tokens": 1, "output_tokens": 1}


@pytest.mark.anyio
@ERAS
async def test_a_client_is_told_who_the_server_is_and_how_to_use_it_well(
    home: Path, era: Era
) -> None:
    async with connected(home, era) as client:
        told = client.server_info
        assert told is not None
        assert (told.name, told.title, told.version) == (
            "immunos",
            "immunos: token budget router",
            immunos_mcp.__version__,
        )
        assert told.icons is not None
        (icon,) = told.icons
        assert icon.src.startswith("data:image/svg+xml;base64,")
        assert client.instructions is not None
        assert len(client.instructions.split()) <= 120
        for word in ("route_task", "record_usage", "obey", "decision_id"):
            assert word in client.instructions
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe
        assert capabilities.prompts is not None


def test_starting_listing_and_looking_creates_no_session_and_not_even_a_file(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        for method in ("tools/list", "resources/list", "resources/templates/list", "ping"):
            assert "result" in server.request(method)
        assert server.request("tools/call", {"name": "no_such_tool"})["error"]["code"] == -32602
        server.refusal("route_task", task_type="", classification="routine")
        assert list(home.iterdir()) == []
        status = server.answer("get_session_status")
        assert "session_id" not in status
        assert "started_at" not in status
        server.request("resources/read", {"uri": "immunos://status"})
        server.request("resources/read", {"uri": "immunos://config"})
        server.answer("update_config", session_limit=300_000, dry_run=True)
        assert server.finish() == 0
    file = wire.ledger_path(home)
    assert wire.rows(file, "SELECT * FROM immunos_mcp_session") == []
    assert wire.rows(file, "SELECT * FROM settings") == []


def test_the_session_of_calls_that_name_none_is_the_option_s(home: Path) -> None:
    with wire.ServerProcess(home, variables={"IMMUNOS_SESSION": "mine"}) as server:
        server.initialize()
        server.answer("record_usage", model=CLAUDE, input_tokens=5, output_tokens=0)
        server.answer("record_usage", model=CLAUDE, input_tokens=7, output_tokens=0, session="b")
        status = server.answer("get_session_status")
        assert (status["session"], status["session_tokens"]) == ("mine", 5)
        contents = server.request("resources/read", {"uri": "immunos://status"})["result"]
        assert json.loads(contents["contents"][0]["text"]) == status
        listed = wire.run_json(home, "history", "sessions")
        assert [session["session"] for session in listed] == ["b", "mine"]


@pytest.mark.anyio
async def test_tool_calls_of_one_client_may_overlap(tmp_path: Path) -> None:
    async with in_process(tmp_path / "ledger.db", "legacy") as client:
        answers = await asyncio.gather(
            *(answer(client, "record_usage", **TOKENS) for _ in range(40))
        )
        assert sorted(recorded["session_tokens"] for recorded in answers) == list(range(2, 82, 2))
