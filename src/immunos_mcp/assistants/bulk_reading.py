"""Reads many transcripts in portions, with several processes if there is much to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from immunos_mcp.assistants import transcript_reading
from immunos_mcp.assistants.transcripts import BATCH_RECORDS, Transcript
from immunos_mcp.logged_usage import ConversationTotal, MeasuredUsage, PlanReport  # noqa: TC001  # decoded
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from immunos_mcp.assistants.byte_search import Find
    from immunos_mcp.assistants.transcripts import LogFormat

TASK_BYTES = 4 * 2**20
"""Bytes of transcripts given to a process at a time."""

PORTION_RECORDS = 20_000
"""Responses in a portion. Their ids are random, so each transaction touches most pages of their index:
a few large ones write far less than many small ones, and still take only a tenth of a second."""

MOST_TASKS = 4000
"""As many as processes can share."""

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
    size = sum(_unread(reading) for reading in readings)
    tasks = list(_tasks(readings, size))
    processes = min(os.cpu_count() or 1, MOST_PROCESSES, len(tasks))
    if processes < 2 or size < PARALLEL_BYTES or not hasattr(os, "fork"):
        yield from _merged(
            portion for task in tasks for portion in _read_task(task, transcript_format, since)
        )
        return
    from immunos_mcp.assistants.byte_search import fastest_find
    from immunos_mcp.assistants.reading_processes import in_processes

    find = fastest_find()

    def read(task: int) -> Iterator[Portion]:
        return _read_task(tasks[task], transcript_format, since, find)

    yield from _merged(in_processes(len(tasks), read, Portion, processes))


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


def _tasks(readings: Sequence[Reading], total: int) -> Iterator[tuple[Reading, ...]]:
    least = max(TASK_BYTES, total // (MOST_TASKS - 1))
    task: list[Reading] = []
    size = 0
    for reading in readings:
        task.append(reading)
        size += _unread(reading)
        if size >= least:
            yield tuple(task)
            task, size = [], 0
    if task:
        yield tuple(task)


def _read_task(
    task: Sequence[Reading],
    transcript_format: LogFormat,
    since: datetime | None,
    find: Find = bytearray.find,
) -> Iterator[Portion]:
    usage: list[MeasuredUsage] = []
    totals: list[ConversationTotal] = []
    reports: list[PlanReport] = []
    positions: list[TranscriptPosition] = []
    unreadable: list[str] = []
    size = 0
    for transcript, position in task:
        try:
            found = transcript_reading.read(
                transcript, transcript_format, position, since, find=find
            )
            for batch in found:
                usage += batch.usage
                totals += batch.totals
                reports += batch.reports
                positions.append(batch.position)
                if len(usage) >= BATCH_RECORDS:
                    yield Portion(tuple(usage), tuple(positions), (), size, tuple(totals))
                    usage, totals, positions, size = [], [], [], 0
        except OSError:
            unreadable.append(transcript.name)
        size += transcript.size
    yield Portion(
        tuple(usage), tuple(positions), tuple(unreadable), size, tuple(totals), tuple(reports)
    )
