"""Reads many transcripts in portions, with several processes if there is much to read."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, cast

from msgspec import Struct

from immunos_mcp.assistants import transcripts
from immunos_mcp.assistants.transcripts import Transcript
from immunos_mcp.logged_usage import (
    ConversationTotal,
    MeasuredUsage,
    PlanReport,
    TranscriptPosition,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from multiprocessing.connection import Connection

    from immunos_mcp.assistants.transcripts import LogFormat

TASK_BYTES = 4 * 2**20
"""Bytes of transcripts given to a process at a time."""

AHEAD = 40
"""The queued tasks and finished portions of a process while others are being stored: storing
``PORTION_RECORDS`` takes as long as reading this much."""

PORTION_RECORDS = 20_000
"""Responses in a portion. Their ids are random, so each transaction touches most pages of their index:
a few large ones write far less than many small ones, and still take only a tenth of a second."""

PARALLEL_BYTES = 64 * 2**20
"""With less than this to read, starting processes costs more time than it saves."""

MOST_PROCESSES = 4
"""More would only wait for the process that stores the results."""

Reading: TypeAlias = tuple[Transcript, TranscriptPosition | None]
"""A transcript to read, and how far it was read before."""


class Portion(Struct, frozen=True, array_like=True):
    """The results of reading some transcripts.

    Attributes:
        usage: their responses.
        positions: how far each was read.
        unreadable: the paths of transcripts that could not be read.
        size: bytes of the transcripts finished with this portion.
        totals: the conversations' own totals.
        reports: of subscriptions' limits.
    """

    usage: tuple[MeasuredUsage, ...]
    positions: tuple[TranscriptPosition, ...]
    unreadable: tuple[str, ...]
    size: int
    totals: tuple[ConversationTotal, ...] = ()
    reports: tuple[PlanReport, ...] = ()


def read_portions(
    readings: Sequence[Reading], transcript_format: LogFormat, since: datetime | None
) -> Iterator[Portion]:
    """Read transcripts, leaving out responses before ``since``; portions come in any order."""
    tasks = list(_tasks(readings))
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(tasks))
    if processes > 1 and sum(_unread(reading) for reading in readings) >= PARALLEL_BYTES:
        yield from _merged(_read_in_processes(tasks, transcript_format, since, processes))
    else:
        yield from _merged(
            portion for task in tasks for portion in _read_task(task, transcript_format, since)
        )


def _merged(portions: Iterator[Portion]) -> Iterator[Portion]:
    small: list[Portion] = []
    records = done = 0
    for portion in portions:
        small.append(portion)
        records += len(portion.usage)
        # The first portions are smaller, so that storing starts early.
        if records >= max(PORTION_RECORDS // 8, min(PORTION_RECORDS, done)):
            yield _joined(small)
            small, records, done = [], 0, done + records
    if small:
        yield _joined(small)


def _joined(portions: Sequence[Portion]) -> Portion:
    return Portion(
        tuple(usage for portion in portions for usage in portion.usage),
        tuple(position for portion in portions for position in portion.positions),
        tuple(path for portion in portions for path in portion.unreadable),
        sum(portion.size for portion in portions),
        tuple(total for portion in portions for total in portion.totals),
        tuple(report for portion in portions for report in portion.reports),
    )


def _unread(reading: Reading) -> int:
    transcript, position = reading
    return transcript.size - (position.read_bytes if position is not None else 0)


def _tasks(readings: Sequence[Reading]) -> Iterator[tuple[Reading, ...]]:
    task: list[Reading] = []
    size = 0
    for reading in readings:
        task.append(reading)
        size += _unread(reading)
        if size >= TASK_BYTES:
            yield tuple(task)
            task, size = [], 0
    if task:
        yield tuple(task)


def _read_task(
    task: Sequence[Reading], transcript_format: LogFormat, since: datetime | None
) -> Iterator[Portion]:
    usage: list[MeasuredUsage] = []
    totals: list[ConversationTotal] = []
    reports: list[PlanReport] = []
    positions: list[TranscriptPosition] = []
    unreadable: list[str] = []
    size = 0
    for transcript, position in task:
        try:
            for batch in transcripts.read(transcript, transcript_format, position, since):
                usage += batch.usage
                totals += batch.totals
                reports += batch.reports
                positions.append(batch.position)
                if len(usage) >= transcripts.BATCH_RECORDS:
                    yield Portion(tuple(usage), tuple(positions), (), size, tuple(totals))
                    usage, totals, positions, size = [], [], [], 0
        except OSError:
            unreadable.append(transcript.name)
        size += transcript.size
    yield Portion(
        tuple(usage), tuple(positions), tuple(unreadable), size, tuple(totals), tuple(reports)
    )


def _read_in_processes(
    tasks: Sequence[tuple[Reading, ...]],
    transcript_format: LogFormat,
    since: datetime | None,
    processes: int,
) -> Iterator[Portion]:
    from multiprocessing import Pipe, Process
    from multiprocessing.connection import wait

    from msgspec.msgpack import Decoder

    decode = Decoder(Portion).decode
    waiting = iter(tasks)
    open_tasks: dict[Connection, int] = {}
    readers: list[Process] = []
    try:
        for _ in range(processes):
            ours, theirs = Pipe()
            reader = Process(
                target=_serve, args=(theirs, ours, transcript_format, since), daemon=True
            )
            reader.start()
            readers.append(reader)
            theirs.close()
            open_tasks[ours] = 0
        for _ in range(_most_ahead(len(tasks), processes)):
            for ours, task in zip(list(open_tasks), islice(waiting, processes), strict=False):
                ours.send(task)
                open_tasks[ours] += 1
        while any(open_tasks.values()):
            for ready in cast("list[Connection]", wait(list(open_tasks))):
                answer = ready.recv_bytes()
                if answer:
                    yield decode(answer)
                    continue
                open_tasks[ready] -= 1
                task = next(waiting, None)
                if task is not None:
                    ready.send(task)
                    open_tasks[ready] += 1
    finally:
        for connection in open_tasks:
            connection.close()
        for reader in readers:
            reader.join()


def _most_ahead(tasks: int, processes: int) -> int:
    """Return how many tasks each process gets at first: half of all, so that all end at about the same time."""
    return min(AHEAD, max(1, tasks // (2 * processes)))


def _serve(
    tasks: Connection,
    other_end: Connection,
    transcript_format: LogFormat,
    since: datetime | None,
) -> None:
    """Read the tasks sent until the sender closes its end or dies."""
    import signal
    from queue import Queue
    from threading import Thread

    from msgspec.msgpack import Encoder

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    encode = Encoder().encode
    # A forked process inherits the sender's end and would never see it closed.
    other_end.close()
    answers: Queue[bytes] = Queue(AHEAD)

    def send() -> None:
        try:
            while True:
                tasks.send_bytes(answers.get())
        except OSError:
            # The receiver is gone, and the main thread may be blocked on the full queue.
            os._exit(0)

    Thread(target=send, daemon=True).start()
    with suppress(EOFError, ConnectionResetError):
        while True:
            for portion in _read_task(tasks.recv(), transcript_format, since):
                answers.put(encode(portion))
            answers.put(b"")
