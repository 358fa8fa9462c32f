"""How clients begin: the real server is there at once, and takes either opening or both."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp
import pytest
import warm_starts
import wire

if TYPE_CHECKING:
    from collections.abc import Callable

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {**wire.CLIENT_INFO, "name": "stateless"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HANDSHAKE = {
    "protocolVersion": wire.HANDSHAKE_VERSION,
    "capabilities": {"roots": {"listChanged": True}},
    "clientInfo": wire.CLIENT_INFO,
}
TASK = {"task_type": "debug", "classification": "routine"}
TRACED = (sys.executable, "-X", "importtime", "-m", "immunos_mcp")
"""The program, which writes to standard error what it imports."""


def has_loaded_sdk(server: wire.ServerProcess) -> bool:
    return "mcp_types" in server.stderr()


def opened(server: wire.ServerProcess) -> list[int]:
    """Send both openings and all that is listed, without waiting; return the ids."""
    return [
        server.post("server/discover", {"_meta": ENVELOPE}),
        server.post("initialize", HANDSHAKE),
        server.post("ping"),
        *(
            server.post(method, params)
            for method in ("tools/list", "resources/list", "prompts/list")
            for params in ({"_meta": ENVELOPE}, {})
        ),
    ]


def test_a_client_that_only_asks_what_there_is_never_waits_for_the_sdk(home: Path) -> None:
    with wire.ServerProcess(home, program=TRACED) as server:
        asked = opened(server)
        server.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert server.finish() == 0
        answers = [server.receive() for _ in asked]
        assert [answer["id"] for answer in answers] == asked
        assert all("result" in answer for answer in answers)
        assert not has_loaded_sdk(server)
    assert not wire.ledger_path(home).exists()


def test_a_quiet_client_finds_the_sdk_loaded(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()
        # Only the SDK knows this one.
        listed = server.request("resources/templates/list")["result"]["resourceTemplates"]
        assert [template["name"] for template in listed] == ["session_status"]
        assert server.finish() == 0


def test_who_went_away_at_once_leaves_nothing_behind(home: Path) -> None:
    with wire.ServerProcess(home, program=TRACED) as server:
        assert server.finish() == 0
        assert not has_loaded_sdk(server)


def call(server: wire.ServerProcess, *, stateless: bool) -> dict[str, Any]:
    params: dict[str, Any] = {"name": "route_task", "arguments": TASK}
    if stateless:
        params["_meta"] = ENVELOPE
    result: dict[str, Any] = server.request("tools/call", params)["result"]
    return result["structuredContent"]


def call_stateless(server: wire.ServerProcess) -> None:
    call(server, stateless=True)


def call_after_handshake(server: wire.ServerProcess) -> None:
    call(server, stateless=False)


def discover(server: wire.ServerProcess) -> None:
    result = server.request("server/discover", {"_meta": ENVELOPE})["result"]
    assert "tools" in result["capabilities"]


def shake_hands(server: wire.ServerProcess) -> None:
    result = server.request("initialize", HANDSHAKE)["result"]
    assert result["protocolVersion"] == wire.HANDSHAKE_VERSION
    server.send({"jsonrpc": "2.0", "method": "notifications/initialized"})


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((discover, shake_hands), id="both at once"),
        pytest.param((shake_hands, discover), id="both at once, the handshake first"),
        pytest.param(
            (discover, call_stateless, shake_hands),
            id="a handshake after stateless calls",
        ),
        pytest.param(
            (
                shake_hands,
                call_after_handshake,
                discover,
                call_stateless,
            ),
            id="an envelope after calls of the handshake era",
        ),
    ],
)
def test_both_openings_are_served_in_any_order(
    home: Path, forked: tuple[str, ...], steps: tuple[Callable[[wire.ServerProcess], object], ...]
) -> None:
    with wire.ServerProcess(home, program=forked) as server:
        for step in steps:
            step(server)
        ids = [call(server, stateless=era)["decision_id"] for era in (True, False, True)]
        assert ids == [*range(ids[0], ids[0] + 3)]
        assert server.heard == []
        assert server.finish() == 0
        assert server.stderr() == ""


def test_a_handshake_that_was_answered_early_is_answered_once(
    home: Path, forked: tuple[str, ...]
) -> None:
    with wire.ServerProcess(home, program=forked) as server:
        server.post("initialize", HANDSHAKE)
        server.post("tools/call", {"name": "route_task", "arguments": TASK})
        answers = [server.receive() for _ in range(2)]
        assert [answer["id"] for answer in answers] == [1, 2]
        again = server.request("initialize", HANDSHAKE)
        assert server.finish() == 0
        assert server.heard == []
        assert "error" in again or again["result"]["protocolVersion"] == wire.HANDSHAKE_VERSION


def test_who_listened_before_the_sdk_was_there_is_told_once(
    home: Path, forked: tuple[str, ...]
) -> None:
    with wire.ServerProcess(home, program=forked) as server:
        wanted = {"resourcesListChanged": True, "toolsListChanged": True}
        listening = server.post(
            "subscriptions/listen", {"_meta": ENVELOPE, "notifications": wanted}
        )
        assert call(server, stateless=True)["decision_id"] == 1
        assert server.finish() == 0
        server.wait_for(listening)
        (told,) = server.heard
        assert told["method"] == "notifications/subscriptions/acknowledged"
        assert told["params"]["notifications"] == wanted
        assert server.stderr() == ""


def test_the_id_of_a_listener_that_was_cancelled_early_is_free_again(
    home: Path, forked: tuple[str, ...]
) -> None:
    with wire.ServerProcess(home, program=forked) as server:
        wanted = {"toolsListChanged": True}
        listening = server.post(
            "subscriptions/listen", {"_meta": ENVELOPE, "notifications": wanted}
        )
        cancelled = {"method": "notifications/cancelled", "params": {"requestId": listening}}
        server.send({"jsonrpc": "2.0", **cancelled})
        listed = {"method": "resources/templates/list", "params": {"_meta": ENVELOPE}}
        server.send({"jsonrpc": "2.0", "id": listening, **listed})
        assert "resourceTemplates" in server.wait_for(listening)["result"]
        assert server.finish() == 0


def test_what_came_before_the_handshake_is_refused_by_the_sdk(
    home: Path, forked: tuple[str, ...]
) -> None:
    with wire.ServerProcess(home, program=forked) as server:
        assert "error" in server.request("tools/list")
        server.initialize()
        assert server.request("tools/list")["result"]["tools"]


def another_sdk(folder: Path) -> str:
    """Let an import find the SDK under another version; return what to put on the path."""
    (folder / "mcp").symlink_to(Path(mcp.__file__).parent)
    metadata = folder / "mcp-9.9.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mcp\nVersion: 9.9.9\n")
    return str(folder)


def test_another_versions_answers_are_recorded_once_and_used_from_then_on(
    home: Path, tmp_path: Path
) -> None:
    variables = {"PYTHONPATH": another_sdk(tmp_path)}
    cache = home / ".cache" / "immunos-mcp"
    with wire.ServerProcess(home, variables=variables) as server:
        slow = server.initialize()
        slow_tools = server.request("tools/list")["result"]
        while not any(cache.glob("*-9.9.9.json")):
            server.request("ping")
        assert server.finish() == 0
        assert server.stderr() == ""
    with wire.ServerProcess(home, program=TRACED, variables=variables) as server:
        asked = [server.post("initialize", HANDSHAKE), server.post("tools/list")]
        assert server.finish() == 0
        assert [server.wait_for(number)["result"] for number in asked] == [slow, slow_tools]
        assert not has_loaded_sdk(server)
    assert version("mcp") != "9.9.9"


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    home: Path, tmp_path: Path, forked: tuple[str, ...]
) -> None:
    (home / ".cache").write_text("a file", encoding="utf-8")
    path = another_sdk(tmp_path)
    if warm_starts.is_forked(forked):
        forked = warm_starts.command(f"import sys; sys.path.insert(0, {path!r})")
    with wire.ServerProcess(home, program=forked, variables={"PYTHONPATH": path}) as server:
        server.initialize()
        assert call(server, stateless=False)["decision_id"] == 1
        assert server.finish() == 0
        assert server.stderr() == ""


def test_a_message_without_end_is_refused_and_the_next_is_served(
    home: Path, forked: tuple[str, ...]
) -> None:
    with wire.ServerProcess(home, program=forked) as server:
        server.initialize()
        padding = b'{"jsonrpc":"2.0","id":"long","method":"ping","params":{"x":"'
        server.send_line(padding + b"x" * (17 * 2**20) + b'"}}')
        refused = server.wait_for("long")
        assert "at most" in refused["error"]["message"]
        assert call(server, stateless=False)["decision_id"] == 1
