"""Exact usage out of the transcripts that Claude Code writes on this machine.

One response spans several lines, each with a usage of the whole response that may still grow; forks
copy old lines into new files; the last line of a file may be half written. So a response is its
``message.id``, whatever file brings it, and whoever stores these values keeps the largest total.
Reading anything again is harmless.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from immunos_mcp.domain import MAXIMUM_TOKENS, MeasuredUsage, TokenCounts, TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.options import Options

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

BATCH_RECORDS = 2000
"""Responses handed over at a time: few enough for a short transaction, many enough to be quick."""

LONGEST_LINE = 64 * 2**20
"""A longer line is passed over, so that a broken file cannot fill the memory."""

CLOCK_SLACK = timedelta(days=1)
"""How far a file's time may lie behind the times in it: file systems and clocks disagree."""

_TAIL_BYTES = 256
_LONGEST_NAME = 200


def transcript_folders(
    options: Options, environment: Mapping[str, str] = os.environ
) -> TranscriptFolders | None:
    """Return where Claude Code keeps its transcripts: ``CLAUDE_CONFIG_DIR``, else the usual places.

    ``None`` where the options say that transcripts are not to be read.
    """
    if not options.read_transcripts:
        return None
    configured = environment.get("CLAUDE_CONFIG_DIR")
    if configured:
        return TranscriptFolders((Path(configured) / "projects",))
    home = Path.home()
    usual = (home / ".claude" / "projects", home / ".config" / "claude" / "projects")
    return TranscriptFolders(usual)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcript file as the folder listing shows it."""

    path: str
    inode: int
    size: int
    modified_ns: int


class TranscriptFolders:
    """Finds transcripts and reads what is new in them.

    Listings of folders that did not change are kept, so that looking again costs one ``stat`` a
    file.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = tuple(str(root) for root in roots)
        self._listings: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {}

    def exist(self) -> bool:
        """Tell whether there is any folder of transcripts on this machine."""
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
            if status.st_mtime_ns < since_ns or not S_ISREG(status.st_mode):
                continue
            position = positions.get(path)
            if position is None or (position.size, position.modified_ns, position.inode) != (
                status.st_size,
                status.st_mtime_ns,
                status.st_ino,
            ):
                found.append(Transcript(path, status.st_ino, status.st_size, status.st_mtime_ns))
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
            if entry.is_symlink():
                continue
            if entry.is_dir():
                folders_within.append(entry.path)
            elif entry.name.endswith(".jsonl"):
                transcripts.append(entry.path)
    return modified_ns, tuple(transcripts), tuple(folders_within)


@dataclass(frozen=True, slots=True)
class Batch:
    """Responses read from one transcript, and how far that brought its reading."""

    usage: tuple[MeasuredUsage, ...]
    position: TranscriptPosition


def read(
    transcript: Transcript, position: TranscriptPosition | None, since: datetime | None = None
) -> Iterator[Batch]:
    """Read what is new in a transcript, in batches; the last one carries the final position.

    A transcript that shrank, was replaced, or no longer holds what was read before is read anew.
    Lines that should carry usage and cannot be read are counted in the position; responses before
    ``since`` are left out.

    Raises:
        OSError: the file cannot be read.
    """
    with open(transcript.path, "rb") as file:  # noqa: PTH123  # a thousand a call
        offset = _start(file, transcript, position)
        unread_lines = position.unread_lines if position is not None and offset else 0
        usage: dict[str, MeasuredUsage] = {}
        file.seek(offset)
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                if len(line) < LONGEST_LINE:
                    break
                offset += len(line) + _skip_line(file)
                unread_lines += 1
                continue
            offset += len(line)
            if b'"usage"' not in line or b'"assistant"' not in line:
                continue
            try:
                found = _usage(line)
            except ValueError:
                unread_lines += 1
                continue
            if found is None or (since is not None and found.at < since):
                continue
            usage[found.message_id] = _larger(usage.get(found.message_id), found)
            if len(usage) == BATCH_RECORDS:
                yield Batch(
                    tuple(usage.values()),
                    replace(_position(file, transcript, offset, unread_lines), size=-1),
                )
                usage.clear()
                file.seek(offset)
        yield Batch(tuple(usage.values()), _position(file, transcript, offset, unread_lines))


def _start(file: BinaryIO, transcript: Transcript, position: TranscriptPosition | None) -> int:
    if (
        position is None
        or position.inode != transcript.inode
        or position.read_bytes > transcript.size
        or position.tail_checksum != _tail_checksum(file, position.read_bytes)
    ):
        return 0
    return position.read_bytes


def _tail_checksum(file: BinaryIO, offset: int) -> int:
    start = max(0, offset - _TAIL_BYTES)
    file.seek(start)
    return zlib.crc32(file.read(offset - start))


def _position(
    file: BinaryIO, transcript: Transcript, offset: int, unread_lines: int
) -> TranscriptPosition:
    return TranscriptPosition(
        path=transcript.path,
        inode=transcript.inode,
        size=transcript.size,
        modified_ns=transcript.modified_ns,
        read_bytes=offset,
        tail_checksum=_tail_checksum(file, offset),
        unread_lines=unread_lines,
    )


def _skip_line(file: BinaryIO) -> int:
    skipped = 0
    while piece := file.readline(LONGEST_LINE):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _larger(earlier: MeasuredUsage | None, found: MeasuredUsage) -> MeasuredUsage:
    if earlier is None:
        return found
    larger = found if found.counts.total > earlier.counts.total else earlier
    return replace(larger, at=max(earlier.at, found.at))


def _usage(line: bytes) -> MeasuredUsage | None:
    """Return the usage that a line carries, or ``None`` for a line of another kind.

    Raises:
        ValueError: the line is an answer with usage, but cannot be read.
    """
    from pydantic_core import from_json  # noqa: PLC0415  # a status line seldom reads anything

    entry = _object(from_json(line), "line")
    if entry.get("type") != "assistant":
        return None
    message = _object(entry.get("message"), "message")
    usage = message.get("usage")
    if usage is None or message.get("model") == "<synthetic>":
        return None
    counts = _object(usage, "usage")
    folder, request_id = entry.get("cwd"), entry.get("requestId")
    return MeasuredUsage(
        message_id=_text(message.get("id"), "message.id"),
        at=_moment(entry.get("timestamp")),
        model=_text(message.get("model"), "message.model"),
        folder=folder if isinstance(folder, str) else None,
        request_id=request_id if isinstance(request_id, str) else None,
        counts=TokenCounts(
            _count(counts.get("input_tokens")),
            _count(counts.get("output_tokens")),
            _count(counts.get("cache_creation_input_tokens")),
            _count(counts.get("cache_read_input_tokens")),
        ),
    )


def _object(value: Json, what: str) -> dict[str, Json]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{what} is not an object")


def _text(value: Json, what: str) -> str:
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME:
        return value
    raise ValueError(f"{what} is not a name")


def _count(value: Json) -> int:
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAXIMUM_TOKENS:
        return value
    raise ValueError("a count of tokens is out of range")


def _moment(value: Json) -> datetime:
    moment = datetime.fromisoformat(_text(value, "timestamp"))
    if moment.tzinfo is None:
        raise ValueError("a timestamp has no zone")
    return moment
