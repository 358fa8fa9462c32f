"""Whatever line a client sends, the next one is answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import wire
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import json_values, mutated

if TYPE_CHECKING:
    from pathlib import Path

ENVELOPE = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "client", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}


def message(method: str, params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": "x", "method": method, "params": params}).encode()


CALL = {"name": "route_task", "arguments": {"task_type": "debug", "classification": "routine"}}
MESSAGES = [
    message("tools/call", CALL),
    message("tools/call", {**CALL, **ENVELOPE}),
    message("resources/read", {"uri": "immunos://status"}),
    message("server/discover", ENVELOPE),
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}',
    b'{"jsonrpc":"2.0","id":"x","result":{}}',
]


def test_any_line_leaves_the_server_able_to_answer_the_next(home: Path) -> None:
    with wire.ServerProcess(home) as server:
        server.initialize()

        @settings(max_examples=max(100, settings().max_examples))
        @given(mutated(MESSAGES) | st.builds(message, st.text(max_size=9), json_values))
        @example(b"[" * 100_000)
        @example(message("tools/call", {"name": "route_task", "arguments": {"session": "\ud800"}}))
        def send(line: bytes) -> None:
            server.send_line(line)
            assert server.request("ping")["result"] == {}

        send()
        assert (server.finish(), server.stderr()) == (0, "")
