"""One client's messages and two runs of the SDK's server: who gets what, and what comes back."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp_types as mcp
import pytest
from mcp.server.lowlevel import Server

from immunos_mcp.server.standard_streams import LONGEST_LINE, Line
from immunos_mcp.server.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "client", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "client", "version": "1"},
}


class Client:
    """Stands for standard input and output: what the test sends, and what it is sent."""

    def __init__(self) -> None:
        self.has_sent = False
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def wire(self) -> Wire:
        return Wire(cast("Any", self), cast("Any", self))

    async def lines(self) -> AsyncIterator[Line]:
        while (line := await self._lines.get()) is not None:
            yield line

    def send(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        self._answers.put_nowait(json.loads(line))

    def put(self, message: object, *, is_answered: bool = False) -> None:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self._lines.put_nowait(Line(text, is_answered=is_answered))

    def ask(self, method: str, params: object, request_id: object) -> None:
        self.put({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})

    def cut_off(self, text: bytes) -> None:
        self._lines.put_nowait(Line(text, is_whole=False))

    async def answer(self) -> dict[str, Any]:
        with anyio.fail_after(30):
            return await self._answers.get()

    def close(self) -> None:
        self._lines.put_nowait(None)


class Waiting:
    """A server with one tool, which waits until its call is cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.changed = anyio.Event()
        self.server: Server[Any] = Server("waiting", on_call_tool=self._wait)
        self.server.middleware.clear()

    async def _wait(self, _context: object, params: mcp.CallToolRequestParams) -> Any:
        if params.name == "half a pair":
            return mcp.CallToolResult(content=[mcp.TextContent(type="text", text="\ud800")])
        self.begun.append(params.name)
        self.changed.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.append(params.name)
            self.changed.set()

    async def until(self, names: list[str], what: list[str]) -> None:
        with anyio.fail_after(30):
            while what != names:
                self.changed = anyio.Event()
                await self.changed.wait()


async def test_a_cancellation_reaches_the_run_that_has_the_request() -> None:
    client, waiting = Client(), Waiting()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.wire().serve, waiting.server)
        client.ask("initialize", HANDSHAKE, 0)
        assert "result" in await client.answer()
        client.ask("tools/call", {"name": "stateless", "_meta": ENVELOPE}, "s")
        client.ask("tools/call", {"name": "handshake"}, "h")
        await waiting.until(["stateless", "handshake"], waiting.begun)
        for request_id, cancelled in (
            (True, []),
            ("s", ["stateless"]),
            ("h", ["stateless", "handshake"]),
        ):
            client.put(
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": {"requestId": request_id},
                }
            )
            await waiting.until(cancelled, waiting.cancelled)
        client.close()


async def test_an_answer_that_was_sent_before_is_dropped_once() -> None:
    client, waiting = Client(), Waiting()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.wire().serve, waiting.server)
        handshake = {"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": HANDSHAKE}
        client.put(handshake, is_answered=True)
        client.ask("ping", {}, 8)
        assert await client.answer() == {"jsonrpc": "2.0", "id": 8, "result": {}}
        client.ask("ping", {}, 7)
        assert await client.answer() == {"jsonrpc": "2.0", "id": 7, "result": {}}
        client.close()


@pytest.mark.parametrize(
    ("line", "request_id", "code"),
    [
        (b"{", None, mcp.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":5,', 5, mcp.PARSE_ERROR),
        (b"[]", None, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":"x","method":5}', "x", mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 1.5, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":9,"method":"ping","params":[]}', 9, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1e400,"method":"ping"}', None, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', None, mcp.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":01,"method":"ping"}', None, mcp.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":"a\tb","method":"ping"}', None, mcp.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":"\xff","method":"ping"', None, mcp.PARSE_ERROR),
        (b"[" * 100_000, None, mcp.PARSE_ERROR),
    ],
)
async def test_a_line_that_is_no_message_is_answered_with_an_error(
    line: bytes, request_id: object, code: int
) -> None:
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.wire().serve, Waiting().server)
        client.put(line)
        refused = await client.answer()
        assert (refused["id"], refused["error"]["code"]) == (request_id, code)
        client.put(b"  ")
        client.cut_off(b'{"jsonrpc":"2.0","id":"long","method":"ping"')
        refused = await client.answer()
        assert refused["id"] == "long"
        assert str(LONGEST_LINE) in refused["error"]["message"]
        client.close()


@pytest.mark.parametrize("request_id", [0, -1, 1.0, 1e30, 2**70, "", "x" * 300, "\u2028"])
async def test_an_id_of_any_legal_kind_is_answered(request_id: object) -> None:
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.wire().serve, Waiting().server)
        client.ask("initialize", HANDSHAKE, request_id)
        assert (await client.answer())["id"] == request_id
        client.ask("ping", {}, request_id)
        assert await client.answer() == {"jsonrpc": "2.0", "id": request_id, "result": {}}
        client.close()


async def test_half_a_surrogate_pair_in_an_answer_becomes_a_question_mark() -> None:
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.wire().serve, Waiting().server)
        client.ask("tools/call", {"name": "half a pair", "_meta": ENVELOPE}, 1)
        answer = await client.answer()
        assert answer["result"]["content"][0]["text"] == "?"
        client.close()


async def test_the_end_of_input_waits_for_what_was_asked_and_ends_what_listens() -> None:
    client, waiting = Client(), Waiting()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.wire().serve, waiting.server)
            client.ask("initialize", HANDSHAKE, 0)
            client.ask("ping", {}, 1)
            client.close()
    assert [(await client.answer())["id"] for _ in range(2)] == [0, 1]


class Rambling(Client):
    """Sends empty lines after its messages, until it has an answer."""

    lines_sent = 0

    async def lines(self) -> AsyncIterator[Line]:
        async for line in super().lines():
            yield line
        while not self.has_sent and self.lines_sent < 100_000:
            self.lines_sent += 1
            yield Line(b"")

    def send(self, line: bytes) -> None:
        super().send(line)
        self.has_sent = True


async def test_lines_without_messages_keep_nobody_from_an_answer() -> None:
    client = Rambling()
    client.ask("initialize", HANDSHAKE, 0)
    client.close()
    await client.wire().serve(Waiting().server)
    assert (await client.answer())["id"] == 0
    assert client.lines_sent < 100_000
