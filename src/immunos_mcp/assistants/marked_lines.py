"""The lines of a large file that contain some bytes, found without splitting all of it into lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from immunos_mcp.assistants.byte_search import Find

LONGEST_LINE = 64 * 2**20
"""Longer lines are skipped, so that a broken file cannot exhaust memory."""

BLOCK_BYTES = 2**17
"""Bytes read at a time, few enough to stay in the CPU cache while they are searched."""

_BEFORE_BYTES = 2**16
"""How much before a conversation's total is searched for the last time that was written down."""

_spare_buffers: list[bytearray] = []
"""Unused buffers; a recently used one is still in the CPU cache."""


class MarkedLines:
    """The lines of a file that contain one of one or two marks; the others are skipped unparsed.

    The file is read through one buffer, block by block: most of a transcript is tool output, and
    splitting all of it into lines would take longer than everything else.

    Attributes:
        passed_bytes: the end of the last line returned, or of the last complete line.
        too_long: the number of lines skipped for their length.
        is_unfinished: whether the last line returned does not have its end yet.
    """

    def __init__(
        self,
        file: FileIO,
        offset: int,
        mark: bytes,
        rarer_mark: bytes = b"",
        *,
        find: Find = bytearray.find,
    ) -> None:
        self._file = file
        self._mark = mark
        self._rarer_mark = rarer_mark
        self._find = find
        self._line_start = offset
        self.passed_bytes = offset
        self.too_long = 0
        self.is_unfinished = False

    def before(self) -> bytes:
        """Return what stands before the last line returned, as far as it is of interest."""
        start = max(0, self._line_start - _BEFORE_BYTES)
        return os.pread(self._file.fileno(), self._line_start - start, start)

    def __iter__(self) -> Iterator[bytearray]:
        buffer = _spare_buffers.pop() if _spare_buffers else bytearray(BLOCK_BYTES)
        try:
            yield from self._through(buffer)
        finally:
            if len(buffer) == BLOCK_BYTES:
                _spare_buffers.append(buffer)

    def _through(self, buffer: bytearray) -> Iterator[bytearray]:
        begin = end = 0
        self._file.seek(self.passed_bytes)
        while True:
            if end == len(buffer):
                if begin == 0 and end >= LONGEST_LINE:
                    if not self._skip_line(end):
                        return
                    end = 0
                elif begin == 0:
                    buffer.extend(bytes(len(buffer)))
                else:
                    buffer[: end - begin] = buffer[begin:end]
                    begin, end = 0, end - begin
            with memoryview(buffer) as whole, whole[end:] as free:
                received = self._file.readinto(free)
            if not received:
                marks = filter(None, (self._mark, self._rarer_mark))
                if any(buffer.find(mark, begin, end) >= 0 for mark in marks):
                    self.is_unfinished = True
                    self._line_start = self.passed_bytes
                    yield buffer[begin:end]
                return
            end += received
            last = buffer.rfind(b"\n", end - received, end)
            if last < 0:
                continue
            yield from self._marked(buffer, begin, last)
            begin = last + 1

    def _marked(self, buffer: bytearray, begin: int, last: int) -> Iterator[bytearray]:
        """Return the marked lines between two places of the buffer, which ends a line."""
        block_start = self.passed_bytes - begin
        mark, rarer, find = self._mark, self._rarer_mark, self._find
        place = find(buffer, mark, begin, last)
        rare = find(buffer, rarer, begin, last) if rarer else -1
        while place >= 0 or rare >= 0:
            first = rare if place < 0 or 0 <= rare < place else place
            line_start = buffer.rfind(b"\n", begin, first) + 1 or begin
            line_end = buffer.find(b"\n", first, last + 1) + 1
            self.passed_bytes = block_start + line_end
            self._line_start = block_start + line_start
            yield buffer[line_start:line_end]
            if 0 <= place < line_end:
                place = find(buffer, mark, line_end, last)
            if 0 <= rare < line_end:
                rare = find(buffer, rarer, line_end, last)
        self.passed_bytes = block_start + last + 1

    def _skip_line(self, length: int) -> bool:
        """Skip the rest of a line that fills the buffer; return whether it has an end."""
        skipped = length
        while piece := self._file.read(BLOCK_BYTES):
            line_end = piece.find(b"\n")
            if line_end >= 0:
                self.passed_bytes += skipped + line_end + 1
                self.too_long += 1
                self._file.seek(self.passed_bytes)
                return True
            skipped += len(piece)
        return False
