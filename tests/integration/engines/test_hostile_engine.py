"""What an engine may send: whatever it is, the client ends in time with an answer or an error."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from immunos_mcp.domain import EngineState, LocalModel
from immunos_mcp.engines import connection, responses
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.protocol import ChatRequest
from immunos_mcp.engines.responses import ChatCounts, EngineError, EngineUnreachableError
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger.engines import engine_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from anyio.abc import SocketStream

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 %d x\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"
FINAL = b'{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":6}\n'


@asynccontextmanager
async def sending(chunks: Iterable[bytes], status: int = 200) -> AsyncGenerator[Ollama]:
    """Run an engine that answers every request with the same bytes."""

    async def answer(stream: SocketStream) -> None:
        async with stream:
            try:
                await stream.receive()
                await stream.send(HEAD % status)
                for chunk in chunks:
                    await stream.send(chunk)
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass  # the client has had enough

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with anyio.fail_after(60):
            async with Ollama(address(f"127.0.0.1:{port}")) as engine:
                yield engine
        tasks.cancel_scope.cancel()


async def said(engine: Ollama, **more: Any) -> tuple[str, ChatCounts]:
    request = ChatRequest(
        model="m",
        messages=({"role": "user", "content": "x"},),
        num_ctx=2048,
        num_predict=9,
        silence_seconds=30,
        **more,
    )
    pieces: list[str] = []
    counts = await engine.chat(request, pieces.append)
    return "".join(pieces), counts


@pytest.mark.parametrize("separator", ["\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\r"])
async def test_a_stream_is_split_at_newlines_only(separator: str) -> None:
    content = f"line one{separator}line two"
    raw = json.dumps({"message": {"content": content}}, ensure_ascii=False)
    if separator in "\u0085\u2028\u2029":
        assert separator in raw
    line = raw.encode() + b"\n"
    # A chunk ends anywhere, also within a character.
    async with sending([line[:30], line[30:] + FINAL]) as engine:
        assert await said(engine) == (content, ChatCounts(5, 6, is_complete=True))


async def test_a_last_line_needs_no_newline() -> None:
    async with sending([FINAL.rstrip()]) as engine:
        assert (await said(engine))[1] == ChatCounts(5, 6, is_complete=True)


async def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    async with sending([b'{"message":{"content":"a\\ud800b"}}\n', FINAL]) as engine:
        assert (await said(engine))[0] == "a?b"


@pytest.mark.parametrize(
    ("count", "known"),
    [
        ("7", 7),
        ("7.0", 7),
        ("-1", 0),
        ("1e400", 0),
        ("NaN", 0),
        (str(2**64), 0),
        ("true", 0),
        ('"7"', 0),
    ],
)
async def test_a_count_that_cannot_be_true_is_not_counted_and_known_as_such(
    count: str, known: int
) -> None:
    final = b'{"done":true,"done_reason":"stop","prompt_eval_count":%b}\n' % count.encode()
    async with sending([final]) as engine:
        expected = ChatCounts(known, 0, is_complete=True, is_reported=known > 0)
        assert (await said(engine))[1] == expected


ENDLESS = {
    "a line": [b'{"message":{"content":"', *repeat(b"x" * 2**16, 4 * responses.LARGEST_LINE >> 16)],
    "blank lines": repeat((b" " * 63 + b"\n") * 2**10),
    "pieces": repeat(b'{"message":{"content":"' + b"x" * 2**16 + b'"}}\n'),
    "thoughts": repeat(b'{"message":{"thinking":"' + b"x" * 2**16 + b'"}}\n'),
}


@pytest.mark.parametrize("chunks", ENDLESS.values(), ids=ENDLESS)
async def test_a_stream_without_end_is_broken_off(
    chunks: Iterable[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than there may be, since it is all read here.
    monkeypatch.setattr(responses, "LARGEST_STREAM", 2**21)
    async with sending(chunks) as engine:
        with pytest.raises(EngineUnreachableError, match=r"like Ollama: .* more than"):
            await said(engine)


async def test_a_listing_or_a_description_without_end_is_broken_off() -> None:
    async with sending(repeat(b" " * 2**16)) as engine:
        seen = await engine.probe()
        assert (seen.state, seen.words) == (EngineState.NOT_OLLAMA, "more than 8 MiB")
        with pytest.raises(EngineUnreachableError, match="more than 8 MiB"):
            await engine.context_length(LocalModel("m"))


@pytest.mark.parametrize("think", [None, True])
async def test_of_an_error_without_end_the_beginning_is_read(think: bool | None) -> None:
    async with sending(chain([b"broken \x1b[2J"], repeat(b"x" * 2**16)), status=500) as engine:
        with pytest.raises(EngineError, match="HTTP 500") as failed:
            await said(engine, think=think)
        assert len(str(failed.value)) < 400


async def test_a_response_that_drips_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SHOW_SECONDS", 0.2)

    async def drip(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(HEAD % 200)
            try:
                while True:
                    await stream.send(b" ")
                    await anyio.sleep(0.01)
            except anyio.BrokenResourceError:
                pass

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, drip)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with Ollama(address(f"127.0.0.1:{port}")) as engine:
            with anyio.fail_after(30), pytest.raises(EngineError, match="nothing for too long"):
                await engine.context_length(LocalModel("m"))
        tasks.cancel_scope.cancel()


async def test_a_listing_is_kept_whatever_it_says() -> None:
    entries = [
        {
            "name": "a:1",
            "size": 2**70,
            "details": {"context_length": 2**80, "parameter_size": "\ud800"},
        },
        {"name": "b\udc00", "digest": "x" * 1_000, "capabilities": ["\ud800", 5]},
        {"name": "c" * 201},
        {"name": 5},
        5,
    ]
    listing = {"version": "\ud800" * 5_000, "models": entries * 1000}
    async with sending([json.dumps(listing).encode()]) as engine:
        seen = await engine.probe()
    assert seen.state is EngineState.UP
    assert seen.models["a:1"] == LocalModel("a:1", parameter_size="?", is_loaded=True)
    assert sorted(seen.models) == ["a:1", "b?:latest"]
    assert len(engine_text(seen)) < 5_000


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "①", "h/user@x", "http://u:p/w@h"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="OLLAMA_HOST: must be an address"):
        address(text)
