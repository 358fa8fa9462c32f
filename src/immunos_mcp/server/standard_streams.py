"""Standard input and output for the protocol alone, from the first byte to the last.

One thread reads standard input, so that an opening is answered while the SDK is still loading. It
needs neither the SDK nor an event loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
from codecs import BOM_UTF8
from collections import deque
from contextlib import suppress
from functools import partial
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.server.opening import Handled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from immunos_mcp.server.opening import Opening

LONGEST_LINE = 16 * 2**20
"""Bytes of a message; of a longer one the rest is dropped, and its sender gets an error."""

MOST_WAITING = 4 * LONGEST_LINE
"""Bytes that wait for the server; beyond them the client has to wait."""

LINE_BYTES = 200
"""What a line that waits takes besides its own bytes: empty ones need room too."""

MOST_ANSWERED_EARLY = 40 * 2**10
"""Bytes of early answers, beyond which the server answers: both openings together need fewer, and a
pipe takes more, so that a client may write much before it reads."""

_CHUNK = 2**16


class StandardOutput:
    """Standard output, which from now on nobody else writes to: their output goes to stderr.

    A client that stops reading blocks this server, which has nobody else to serve.

    Attributes:
        has_sent: whether anything was sent.
        on_lost: called once nobody reads any more.
    """

    def __init__(self) -> None:
        self._file_descriptor = os.dup(1)
        os.set_blocking(self._file_descriptor, True)
        os.dup2(2, 1)
        self._lock = Lock()
        self._is_open = True
        self.has_sent = False
        self.on_lost: Callable[[], object] = lambda: None

    def send(self, line: bytes) -> None:
        """Write a line, its end included; once the client is gone, nothing is written any more."""
        rest = memoryview(line)
        with self._lock:
            self.has_sent |= bool(rest)
            was_open = self._is_open
            while rest and self._is_open:
                try:
                    rest = rest[os.write(self._file_descriptor, rest) :]
                except OSError:
                    self._is_open = False
        if was_open and not self._is_open:
            self.on_lost()


class Line(NamedTuple):
    """A line of standard input.

    Attributes:
        text: its bytes without its end; of one that is too long, the beginning.
        is_whole: whether these are all its bytes.
        is_answered: whether its answer was sent already.
    """

    text: bytes
    is_whole: bool = True
    is_answered: bool = False


class StandardInput:
    """Lines of standard input, in order.

    Until ``lines`` is iterated, an ``Opening`` answers what it can, and the rest waits.

    Attributes:
        waiting_bytes: the room that the lines that wait take.
    """

    def __init__(self, opening: Opening, output: StandardOutput) -> None:
        self._opening: Opening | None = opening
        self._output = output
        output.on_lost = self._end
        self._waiting: deque[Line] = deque()
        self.waiting_bytes = 0
        self._has_ended = False
        self._is_urgent = False
        self._answered_bytes = 0
        self._changed = Condition()
        self._wake: Callable[[], object] = self._changed.notify_all

    def start(self) -> None:
        """Begin to read."""
        Thread(target=self._read, name="standard input", daemon=True).start()

    def needs_server(self, patience: float) -> bool:
        """Wait until a request came that needs the server, or for some seconds at most.

        Returns:
            Whether there is to be a server: not where the client is gone and waits for nothing.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_urgent or self._has_ended, patience)
            return self._is_urgent or not self._has_ended

    async def lines(self) -> AsyncIterator[Line]:
        """Return the lines that waited and those to come, until the client closes its end."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._opening = None
            self._wake = partial(loop.call_soon_threadsafe, arrived.set)
        while True:
            arrived.clear()
            while (line := self._next()) is not None:
                yield line
            if self._has_ended and not self._waiting:
                return
            await arrived.wait()

    def _next(self) -> Line | None:
        with self._changed:
            if not self._waiting:
                return None
            line = self._waiting.popleft()
            self.waiting_bytes -= len(line.text) + LINE_BYTES
            self._changed.notify_all()
        return line

    def _read(self) -> None:
        try:
            self._read_lines()
        except Exception as error:  # noqa: BLE001  # nobody is left to read requests
            from immunos_mcp.faults import end_at_once, report_bug

            end_at_once(report_bug("standard input", error))

    def _read_lines(self) -> None:
        for number, line in enumerate(_lines()):
            if number == 0:
                line = line._replace(text=line.text.removeprefix(BOM_UTF8))  # noqa: PLW2901  # the same line
            with self._changed:
                self._changed.wait_for(lambda: self.waiting_bytes < MOST_WAITING)
                self._take(line)
        with self._changed:
            self._has_ended = True
            self._wake_up()

    def _end(self) -> None:
        """Stop: a client that reads no answers any more needs no server, whatever it still sends."""
        with self._changed:
            self._has_ended, self._is_urgent, self._opening = True, False, None
            self._waiting.clear()
            self.waiting_bytes = 0
            self._wake_up()

    def _take(self, line: Line) -> None:
        if self._opening is not None:
            handled = self._opening.handle(line.text) if line.is_whole else Handled()
            self._send_early(handled.answer)
            if not handled.is_for_server:
                return
            line = line._replace(is_answered=bool(handled.answer))
            if handled.is_urgent:
                self._hurry()
        self._waiting.append(line)
        self.waiting_bytes += len(line.text) + LINE_BYTES
        if len(self._waiting) == 1:
            self._wake_up()

    def _send_early(self, answer: bytes) -> None:
        self._output.send(answer)
        self._answered_bytes += len(answer)
        if self._answered_bytes >= MOST_ANSWERED_EARLY:
            self._opening = None
            self._hurry()

    def _hurry(self) -> None:
        self._is_urgent = True
        self._changed.notify_all()

    def _wake_up(self) -> None:
        # The loop is closed where the server ends before its client does.
        with suppress(RuntimeError):
            self._wake()


def _lines() -> Iterator[Line]:
    """Read standard input until it ends or cannot be read."""
    begun, is_whole = bytearray(), True
    for chunk in _chunks():
        for place, part in enumerate(chunk.split(b"\n")):
            if place:
                yield Line(bytes(begun), is_whole)
                begun, is_whole = bytearray(), True
            if len(begun) + len(part) <= LONGEST_LINE:
                begun += part
            else:
                is_whole = False
    if begun:
        yield Line(bytes(begun), is_whole)


def _chunks() -> Iterator[bytes]:
    file_descriptor = sys.stdin.fileno()
    with suppress(OSError):
        os.set_blocking(file_descriptor, True)
        while chunk := os.read(file_descriptor, _CHUNK):
            yield chunk
