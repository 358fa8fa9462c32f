"""Forked processes that share tasks, and send what they find to the process that stores it."""

from __future__ import annotations

import gc
import os
import select
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct, msgpack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import NoReturn

_MOST_WAITING = 40
"""What a process has found and its pipe cannot take yet, before it waits; storing takes turns with reading."""

_NUMBER_BYTES = 4
_RECEIVED_BYTES = 2**20

Found = TypeVar("Found")


class _Answer(Struct, Generic[Found], array_like=True):
    """What a process found; ``None``: it has done this task."""

    task: int
    found: Found | None = None


def in_processes(
    tasks: int, do: Callable[[int], Iterable[Found]], kind: type[Found], processes: int
) -> Generator[Found]:
    """Do some tasks in forked processes; what they find comes in any order.

    A task that a process has not done when it dies is done by this one, from its start; if that has an
    error, so has the caller.

    Args:
        tasks: how many there are, at most 4,000: their numbers wait in a pipe that holds 16 KiB.
        do: does a task by its number.
        kind: what it finds, which has to be a ``Struct``.
        processes: how many.
    """
    waiting, written = os.pipe()
    os.write(written, b"".join(_number(each) for each in range(tasks)))
    os.close(written)
    decode = msgpack.Decoder(_Answer[kind]).decode
    pipes: dict[int, bytearray] = {}
    children: list[int] = []
    left = set(range(tasks))
    try:
        # Where no process can start, the others do it all, or this one in the end.
        with suppress(OSError):
            for _ in range(processes):
                _start(waiting, pipes, children, do)
        for message in _messages(pipes):
            answer = decode(message)
            if answer.found is None:
                left.discard(answer.task)
            else:
                yield answer.found
    finally:
        for each in (waiting, *pipes):
            os.close(each)
        for child in children:
            os.waitpid(child, 0)
    for task in sorted(left):
        yield from do(task)


def _start(
    waiting: int,
    pipes: dict[int, bytearray],
    children: list[int],
    do: Callable[[int], Iterable[Found]],
) -> None:
    """Start a process, and add its id and the pipe from it."""
    ours, theirs = os.pipe()
    try:
        child = os.fork()
        if not child:
            # Whoever holds a pipe's reading end keeps its writer waiting for a dead reader.
            for each in (ours, *pipes):
                os.close(each)
            _serve(waiting, theirs, do)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    pipes[ours] = bytearray()
    children.append(child)


def _messages(pipes: dict[int, bytearray]) -> Iterator[bytes]:
    """Return the messages from pipes until all are closed, which removes them."""
    while pipes:
        for ready in select.select([*pipes], [], [])[0]:
            received = pipes[ready]
            part = os.read(ready, _RECEIVED_BYTES)
            if not part:
                os.close(ready)
                del pipes[ready]
                continue
            received += part
            begin = 0
            while len(received) >= (start := begin + _NUMBER_BYTES):
                end = start + int.from_bytes(received[begin:start], "big")
                if end > len(received):
                    break
                yield bytes(received[start:end])
                begin = end
            del received[:begin]


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _serve(waiting: int, results: int, do: Callable[[int], Iterable[Found]]) -> NoReturn:
    """Do tasks until none waits; never return, since what is above belongs to the other process."""
    is_done = False
    try:
        # Nothing here is in a cycle, and a collection would copy the pages shared with the other process.
        gc.disable()
        outbox = _Outbox(results)
        encode = msgpack.Encoder().encode
        while number := os.read(waiting, _NUMBER_BYTES):
            task = int.from_bytes(number, "big")
            for found in do(task):
                outbox.put(encode(_Answer(task, found)))
            outbox.put(encode(_Answer[None](task)))
        outbox.empty()
        is_done = True
    finally:
        os._exit(not is_done)


class _Outbox:
    """Messages on their way into a pipe, which may be full."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._waiting: deque[bytes] = deque()

    def put(self, message: bytes) -> None:
        """Send a message, or keep it until there is room, unless many are kept already."""
        self._waiting.append(_number(len(message)) + message)
        self._send(_MOST_WAITING)

    def empty(self) -> None:
        """Wait until all messages are sent."""
        self._send(0)

    def _send(self, most: int) -> None:
        while self._waiting:
            with suppress(BlockingIOError):
                message = self._waiting[0]
                sent = os.write(self._pipe, message)
                self._waiting.popleft()
                if sent < len(message):
                    self._waiting.appendleft(message[sent:])
                continue
            if len(self._waiting) <= most:
                return
            select.select([], [self._pipe], [])
