"""Exact usage out of the transcripts that assistants write on this machine.

One response may span several lines, each with a usage of the whole response that may still grow; a
response may be copied into other files; the last line of a file may be half written. So a response
is its id, whatever file brings it, and whoever stores these values keeps the largest total. Reading
anything again is harmless.
"""

from __future__ import annotations

import os
import zlib
from datetime import UTC, datetime, timedelta
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from immunos_mcp.domain import MeasuredUsage, TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import FileIO
    from pathlib import Path

BATCH_RECORDS = 2000
"""Responses handed over at a time: few enough for a short transaction, many enough to be quick."""

LONGEST_LINE = 64 * 2**20
"""A longer line is passed over, so that a broken file cannot fill the memory."""

CLOCK_SLACK = timedelta(days=1)
"""How far a file's time may lie behind the times in it: file systems and clocks disagree."""

BLOCK_BYTES = 2**17
"""Read at a time: it stays in the processor's cache while it is searched."""

_TAIL_BYTES = 256

_spare_buffers: list[bytearray] = []
"""Buffers that no reading uses; one that was used lately is still in the processor's cache."""


class TranscriptFormat(Struct, frozen=True):
    """What an assistant's transcripts are like: JSON lines, some of which carry usage.

    Attributes:
        client: how the assistant calls itself as a client of ours begins with this.
        mark: what every line that carries usage contains; others are passed without being looked at.
        usage_of: returns the usage that a line carries, or ``None``; raises ``ValueError`` where it
            should carry usage and cannot be read.
    """

    client: str
    mark: bytes
    usage_of: Callable[[bytes | bytearray], MeasuredUsage | None]


class Transcript(NamedTuple):
    """A transcript file as the folder listing shows it."""

    path: str
    inode: int
    size: int
    modified_ns: int


class TranscriptFolders:
    """Finds an assistant's transcripts.

    Listings of folders that did not change are kept, so that looking again costs one ``stat`` a
    file.
    """

    def __init__(self, roots: tuple[Path, ...], transcript_format: TranscriptFormat) -> None:
        self.format = transcript_format
        self._roots = tuple(str(root) for root in roots)
        self._listings: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {}

    def exist(self) -> bool:
        """Return whether there is any folder of transcripts on this machine."""
        return any(os.path.isdir(root) for root in self._roots)  # noqa: PTH112  # runs at each call

    def changed(
        self, positions: Mapping[str, TranscriptPosition], since: datetime | None
    ) -> list[Transcript]:
        """List the transcripts that hold something unread, oldest change first.

        Args:
            positions: how far each transcript was read, by path.
            since: transcripts last written before this moment are passed over.
        """
        since_ns = 0 if since is None else int((since - CLOCK_SLACK).timestamp()) * 10**9
        found: list[Transcript] = []
        for path in self._paths():
            try:
                status = os.stat(path, follow_symlinks=False)  # noqa: PTH116  # a thousand a call
            except OSError:
                continue
            now = (status.st_ino, status.st_size, status.st_mtime_ns)
            position = positions.get(path)
            if position is not None and position[1:4] == now:
                continue
            if status.st_mtime_ns >= since_ns and S_ISREG(status.st_mode):
                found.append(Transcript(path, *now))
        found.sort(key=lambda transcript: transcript.modified_ns)
        return found

    def _paths(self) -> Iterator[str]:
        waiting = list(self._roots)
        while waiting:
            folder = waiting.pop()
            try:
                modified_ns = os.stat(folder).st_mtime_ns  # noqa: PTH116  # a thousand a call
                listing = self._listings.get(folder)
                if listing is None or listing[0] != modified_ns:
                    listing = _list(folder, modified_ns)
                    self._listings[folder] = listing
            except OSError:
                continue
            yield from listing[1]
            waiting.extend(listing[2])


def _list(folder: str, modified_ns: int) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    transcripts: list[str] = []
    folders_within: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            # A link may lead anywhere, or back up; what lies in the folder is found without it.
            if entry.name.endswith(".jsonl"):
                if not entry.is_symlink():
                    transcripts.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                folders_within.append(entry.path)
    return modified_ns, tuple(transcripts), tuple(folders_within)


class Batch(NamedTuple):
    """Responses read from one transcript, and how far that brought its reading."""

    usage: tuple[MeasuredUsage, ...]
    position: TranscriptPosition


def read(
    transcript: Transcript,
    transcript_format: TranscriptFormat,
    position: TranscriptPosition | None,
    since: datetime | None = None,
) -> Iterator[Batch]:
    """Read what is new in a transcript, in batches; the last one carries the final position.

    A transcript that shrank, was replaced, or no longer holds what was read before is read anew.
    Lines that should carry usage and cannot be read are counted in the position; responses before
    ``since`` are left out.

    Raises:
        OSError: the file cannot be read.
    """
    usage_of = transcript_format.usage_of
    with open(transcript.path, "rb", buffering=0) as file:  # noqa: PTH123  # a thousand a call
        offset = _start(file, transcript, position)
        unread_lines, left_out_before = 0, ""
        if position is not None and offset:
            unread_lines, left_out_before = position.unread_lines, position.left_out_before
        usage: dict[str, MeasuredUsage] = {}
        lines = _Lines(file, offset, transcript_format.mark)

        def reached(size: int) -> TranscriptPosition:
            return TranscriptPosition(
                path=transcript.path,
                inode=transcript.inode,
                size=size,
                modified_ns=transcript.modified_ns,
                read_bytes=lines.passed_bytes,
                tail_checksum=_tail_checksum(file, lines.passed_bytes),
                unread_lines=unread_lines + lines.too_long,
                left_out_before=left_out_before,
            )

        for line in lines:
            try:
                found = usage_of(line)
            except ValueError:
                unread_lines += 1
                continue
            if found is None:
                continue
            if since is not None and found.at < since:
                left_out_before = max(left_out_before, since.astimezone(UTC).isoformat())
                continue
            known = usage.get(found.message_id)
            usage[found.message_id] = found if known is None else _larger(known, found)
            if len(usage) == BATCH_RECORDS:
                yield Batch(tuple(usage.values()), reached(size=-1))
                usage.clear()
        yield Batch(tuple(usage.values()), reached(transcript.size))


def reaches_back(position: TranscriptPosition, since: datetime | None) -> bool:
    """Return whether nothing at or after ``since`` (``None``: nothing at all) was left out."""
    if not position.left_out_before:
        return True
    return since is not None and datetime.fromisoformat(position.left_out_before) <= since


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


class _Lines:
    """The lines of a file that may carry usage; the others are passed without being looked at.

    Reading goes through one buffer, block by block: most of a transcript is what tools printed, and
    making a line of each part of it would take longer than all the rest.

    Attributes:
        passed_bytes: the end of the last line that was given out, or of the last whole line.
        too_long: lines that were passed over for their length.
    """

    def __init__(self, file: FileIO, offset: int, mark: bytes) -> None:
        self._file = file
        self._mark = mark
        self.passed_bytes = offset
        self.too_long = 0

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
                return
            end += received
            last = buffer.rfind(b"\n", end - received, end)
            if last < 0:
                continue
            block_start = self.passed_bytes - begin
            mark = buffer.find(self._mark, begin, last)
            while mark >= 0:
                line_start = buffer.rfind(b"\n", begin, mark) + 1 or begin
                line_end = buffer.find(b"\n", mark, end) + 1
                self.passed_bytes = block_start + line_end
                yield buffer[line_start:line_end]
                mark = buffer.find(self._mark, line_end, last)
            self.passed_bytes = block_start + last + 1
            begin = last + 1

    def _skip_line(self, length: int) -> bool:
        """Pass the rest of a line whose beginning fills the buffer; return whether it has an end."""
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


def _larger(earlier: MeasuredUsage, found: MeasuredUsage) -> MeasuredUsage:
    larger = found if found.total > earlier.total else earlier
    return larger if earlier.at == found.at else larger._replace(at=max(earlier.at, found.at))
