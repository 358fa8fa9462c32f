"""Reads exact usage from one transcript.

A response may span several lines, each with the usage of the whole response so far; it may be copied
into other files; and the last line of a file may be half written. So responses are identified by id,
whatever file they are in, and the largest total is stored. Reading anything again is harmless.
"""

from __future__ import annotations

import os
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING

from immunos_mcp.assistants import regular_files
from immunos_mcp.assistants.marked_lines import MarkedLines
from immunos_mcp.assistants.transcripts import (
    BATCH_RECORDS,
    READ_BEFORE,
    Batch,
    DocumentFormat,
    later_left_out,
    unsettled,
)
from immunos_mcp.logged_usage import (
    ConversationTotal,
    MeasuredUsage,
    PlanReport,
)
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from io import FileIO

    from immunos_mcp.assistants.byte_search import Find
    from immunos_mcp.assistants.line_readers import LineReader, Logged
    from immunos_mcp.assistants.transcripts import LogFormat, Transcript, TranscriptFormat

_TAIL_BYTES = 256


def read(
    transcript: Transcript,
    transcript_format: LogFormat,
    position: TranscriptPosition | None,
    since: datetime | None = None,
    *,
    find: Find = bytearray.find,
) -> Iterator[Batch]:
    """Read the new part of a transcript, in batches; the last batch has the final position.

    A transcript that shrank, was replaced, or no longer has the content read before is read from the
    start. Lines with usage that cannot be read, or only in part, are counted in the position;
    responses before ``since`` are skipped. A last line without its end is read if it is whole, and
    again once it has its end.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(transcript_format, DocumentFormat):
        yield from transcript_format.read(transcript, position, since)
        return
    with open(
        transcript.path, "rb", buffering=0, opener=regular_files.opener
    ) as file:  # a thousand a call
        offset = _start(file, transcript, position)
        lines = MarkedLines(
            file, offset, transcript_format.mark, transcript_format.total_mark, find=find
        )
        earlier = position if offset else None
        yield from _Reading(file, lines, transcript, transcript_format, earlier, since).batches()


class _Reading:
    """One reading of a transcript: what its lines have, and what is noted of them."""

    def __init__(
        self,
        file: FileIO,
        lines: MarkedLines,
        transcript: Transcript,
        transcript_format: TranscriptFormat,
        earlier: TranscriptPosition | None,
        since: datetime | None,
    ) -> None:
        self._file = file
        self._lines = lines
        self._transcript = transcript
        self._format = transcript_format
        self._since = since
        context = "" if earlier is None else earlier.context
        if earlier is not None and not context and transcript_format.total_mark:
            context = READ_BEFORE
        self._reader = transcript_format.reader(transcript.path, context)
        self._context_before: str | None = None
        self._unread_lines = 0 if earlier is None else earlier.unread_lines
        self._left_out_before = "" if earlier is None else earlier.left_out_before
        self._has_price_terms = 1 if earlier is None else earlier.has_price_terms
        # Whether other requests have the same response is decided over all files.
        self._usage: dict[tuple[str, str | None], MeasuredUsage] = {}
        self._totals: list[ConversationTotal] = []
        self._reports: dict[str, PlanReport] = {}

    def batches(self) -> Iterator[Batch]:
        """Read all of it, in batches."""
        usage, totals, lines = self._usage, self._totals, self._lines
        for line in lines:
            if lines.is_unfinished:
                # It is read again from its start, once it has its end.
                self._context_before = self._reader.context
            responses, is_whole = _responses(self._reader, line)
            self._unread_lines += not (is_whole or lines.is_unfinished)
            for found in responses:
                self._take(found)
            if len(usage) >= BATCH_RECORDS:
                yield Batch(tuple(usage.values()), self._reached(size=-1), tuple(totals))
                usage.clear()
                totals.clear()
        # What has not settled is read again later, whatever its time says then.
        size = self._transcript.size
        reached = self._reached(size if self._transcript.is_settled else unsettled(size))
        yield Batch(tuple(usage.values()), reached, tuple(totals), (*self._reports.values(),))

    def _take(self, found: Logged) -> None:
        since = self._since
        if isinstance(found, PlanReport):
            self._reports[found.usage.window] = found
        elif isinstance(found, ConversationTotal):
            self._totals.append(_dated(found, self._lines, self._format, since))
        elif since is not None and found.at < since:
            self._left_out_before = later_left_out(self._left_out_before, since)
        else:
            identity = (found.message_id, found.request_id)
            earlier = self._usage.get(identity)
            self._usage[identity] = found if earlier is None else _larger(earlier, found)

    def _reached(self, size: int) -> TranscriptPosition:
        passed_bytes, context = self._lines.passed_bytes, self._context_before
        return TranscriptPosition(
            path=self._transcript.name,
            inode=self._transcript.inode,
            size=size,
            modified_ns=self._transcript.modified_ns,
            read_bytes=passed_bytes,
            tail_checksum=_tail_checksum(self._file, passed_bytes),
            unread_lines=self._unread_lines + self._lines.too_long,
            left_out_before=self._left_out_before,
            context=self._reader.context if context is None else context,
            has_price_terms=self._has_price_terms,
        )


def _responses(reader: LineReader, line: bytearray) -> tuple[Sequence[Logged], bool]:
    """Return what a line has, and whether that is all of it."""
    try:
        return reader.usage_of(line), True
    except ValueError:
        return reader.salvage(line)


def _dated(
    total: ConversationTotal,
    lines: MarkedLines,
    transcript_format: TranscriptFormat,
    since: datetime | None,
) -> ConversationTotal:
    """Return a total with the last time written down before it, and whether it can be relied on."""
    if not total.models:
        return total
    at = transcript_format.last_moment(lines.before())
    # Totals of programs that wrote nothing else have the same time, and would be taken for one.
    later = timedelta(milliseconds=total.number)
    at = later + (total.at if at is None else max(at, total.at))
    is_cut = since is not None and (total.first_at or at) < since
    return total._replace(at=at, is_partial=total.is_partial or is_cut)


def _start(file: FileIO, transcript: Transcript, position: TranscriptPosition | None) -> int:
    if (
        position is None
        or position.inode != transcript.inode
        or position.read_bytes > transcript.size
        or position.tail_checksum != _tail_checksum(file, position.read_bytes)
    ):
        return 0
    return position.read_bytes


def _tail_checksum(file: FileIO, offset: int) -> int:
    start = max(0, offset - _TAIL_BYTES)
    return zlib.crc32(os.pread(file.fileno(), offset - start, start))


def _larger(earlier: MeasuredUsage, found: MeasuredUsage) -> MeasuredUsage:
    larger = found if found.total > earlier.total else earlier
    if earlier.at == found.at and earlier.calls == found.calls:
        return larger
    # Its first line dates it, however many are read at once. Most lines come here, and _replace takes
    # twice as long.
    at, calls = min(earlier.at, found.at), earlier.calls + found.calls
    return MeasuredUsage(larger[0], at, *larger[2:-1], calls)
