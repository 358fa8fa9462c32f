"""Standard input: every line once and in order, and no more of them waiting than there is room for."""

from __future__ import annotations

import os
import sys
import threading
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import anyio
import pytest

from immunos_mcp.server import standard_streams
from immunos_mcp.server.opening import Handled
from immunos_mcp.server.standard_streams import Line, StandardInput

if TYPE_CHECKING:
    from collections.abc import Generator

TIMEOUT_SECONDS = 30.0


class Descriptor(NamedTuple):
    number: int

    def fileno(self) -> int:
        return self.number


class Answering:
    """Stands for the opening, which answers whatever begins with ``a``, and for the output."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def handle(self, line: bytes) -> Handled:
        if line.startswith(b"a"):
            return Handled(line, line.startswith(b"ab"), is_urgent=False)
        return Handled(is_urgent=line.startswith(b"u"))

    def send(self, line: bytes) -> None:
        if line:
            self.sent.append(line)


class Pipe:
    """A client's end, and what reads from it."""

    def __init__(self) -> None:
        read, self.client_end = os.pipe()
        self.stdin = Descriptor(read)
        self.answering = Answering()
        self.source = StandardInput(self.answering, self.answering)  # type: ignore[arg-type]

    def write(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[os.write(self.client_end, left) :]

    def close(self) -> None:
        os.close(self.client_end)

    async def read(self) -> list[Line]:
        return [line async for line in self.source.lines()]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Generator[Pipe]:
    made = Pipe()
    monkeypatch.setattr(sys, "stdin", made.stdin)
    yield made
    # A reader that goes on would take what another test writes into a pipe of the same number.
    for reader in threading.enumerate():
        if reader.name == "standard input":
            reader.join(TIMEOUT_SECONDS)
    os.close(made.stdin.number)


@pytest.mark.anyio
async def test_what_is_answered_early_does_not_come_again_unless_the_server_needs_it(
    pipe: Pipe,
) -> None:
    pipe.write(b"a1\nab\nn\na2\nu\n")
    pipe.source.start()
    assert pipe.source.needs_server(TIMEOUT_SECONDS)
    pipe.close()
    assert await pipe.read() == [Line(b"ab", is_answered=True), Line(b"n"), Line(b"u")]
    assert pipe.answering.sent == [b"a1", b"ab", b"a2"]


@pytest.mark.anyio
async def test_who_does_not_read_yet_is_answered_by_the_server(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_streams, "MOST_ANSWERED_EARLY", 4)
    pipe.write(b"a1\na2\na3\nab\n")
    pipe.close()
    pipe.source.start()
    assert pipe.source.needs_server(TIMEOUT_SECONDS)
    assert pipe.answering.sent == [b"a1", b"a2"]
    assert await pipe.read() == [Line(b"a3"), Line(b"ab")]


def test_no_server_is_needed_for_who_has_gone_with_all_answers(pipe: Pipe) -> None:
    pipe.write(b"ab\nn\n")
    pipe.close()
    pipe.source.start()
    assert not pipe.source.needs_server(TIMEOUT_SECONDS)


def test_who_sent_too_long_a_line_is_told_so_by_the_server(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_streams, "LONGEST_LINE", 20)
    pipe.write(b"a" * 21 + b"\n")
    pipe.close()
    pipe.source.start()
    assert pipe.source.needs_server(TIMEOUT_SECONDS)


def test_a_quiet_client_gets_its_server(pipe: Pipe) -> None:
    pipe.source.start()
    assert pipe.source.needs_server(0)
    pipe.close()


@pytest.mark.anyio
async def test_a_client_waits_where_too_much_waits_already(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_streams, "MOST_WAITING", 1000)
    monkeypatch.setattr(standard_streams, "LINE_BYTES", 50)
    lines = [b"u%06d" % number for number in range(50_000)]
    most = 0

    def write() -> None:
        pipe.write(b"\n".join(lines))
        pipe.close()

    writer = Thread(target=write)
    writer.start()
    pipe.source.start()
    assert pipe.source.needs_server(TIMEOUT_SECONDS)
    read: list[bytes] = []
    async for line in pipe.source.lines():
        read.append(line.text)
        most = max(most, pipe.source.waiting_bytes)
    assert read == lines
    assert most <= 1000 + 50 + 7
    writer.join()


@pytest.mark.anyio
async def test_empty_lines_take_room_too(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_streams, "MOST_WAITING", 1000)
    pipe.write(b"u\n" + b"\n" * 10_000)
    pipe.source.start()
    assert pipe.source.needs_server(TIMEOUT_SECONDS)
    pipe.close()
    lines = pipe.source.lines()
    await anext(lines)
    await anyio.sleep(0.1)
    assert 0 < pipe.source.waiting_bytes <= 1000 + standard_streams.LINE_BYTES
    assert [line.text async for line in lines] == [b""] * 10_000
    assert pipe.source.waiting_bytes == 0


@pytest.mark.anyio
@pytest.mark.parametrize("chunk", [1, 7, 2**16])
async def test_lines_come_whole_whatever_pieces_they_are_read_in(
    chunk: int, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standard_streams, "_CHUNK", chunk)
    monkeypatch.setattr(standard_streams, "LONGEST_LINE", 20)
    content = b"one\n\ntwo\r\n" + b"x" * 20 + b"\n" + b"y" * 21 + b"\nz" + b"\xff\x00\nrest"
    pipe.write(content)
    pipe.close()
    pipe.source.start()
    *read, last = await pipe.read()
    assert [line for line in read if line.is_whole] == [
        Line(b"one"),
        Line(b""),
        Line(b"two\r"),
        Line(b"x" * 20),
        Line(b"z\xff\x00"),
    ]
    (long,) = [line for line in read if not line.is_whole]
    assert long.text != b"y" * 21
    assert last == Line(b"rest")
