"""When conversations began, and what was measured lately, straight from transcripts."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from immunos_mcp.assistants import regular_files, transcript_reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from immunos_mcp.assistants.transcripts import TranscriptFolders
    from immunos_mcp.logged_usage import MeasuredUsage

ACTIVE = timedelta(hours=5)
"""How long after its last line a conversation still belongs to the current work."""

UNWRITTEN = timedelta(minutes=1)
"""How long a conversation may run before its first line is written down."""

FIRST_BYTES = 2**16
LARGEST_BEGINNING = 4 * 2**20
"""Where to look for a conversation's first time: a pasted file may precede it on its line."""

LARGEST_MEASURED = 64 * 2**20
"""Bytes of transcripts that are read only to say what is not counted."""


class _Line(Struct):
    timestamp: str = ""


_decode = Decoder(_Line).decode


def beginning(
    folders: TranscriptFolders, now: datetime, conversation: str | None
) -> datetime | None:
    """Return when a conversation began, or else the first of those active in the last hours.

    Args:
        folders: where the transcripts are.
        now: the current time.
        conversation: the assistant's id of the conversation; ``None``: not known.

    Returns:
        The first time in it; ``None``: no conversation is active.
    """
    named = None if conversation is None else _first(_named(folders, conversation))
    return named or _first(_active(folders, now - ACTIVE))


def _first(paths: Iterable[str]) -> datetime | None:
    moments = (first_moment(path) for path in paths)
    return min((moment for moment in moments if moment is not None), default=None)


def _named(folders: TranscriptFolders, conversation: str) -> Iterator[str]:
    name = f"{conversation}.jsonl"
    return (path for path in folders.paths() if os.path.basename(path) == name)  # noqa: PTH119  # texts


def usage_since(
    folders: TranscriptFolders, since: datetime, largest: int | None = None
) -> tuple[MeasuredUsage, ...]:
    """Return the usage in transcripts from a time on, each response once.

    Only the newest transcripts are read, up to ``largest`` bytes.
    """
    usage: dict[str, MeasuredUsage] = {}
    left = LARGEST_MEASURED if largest is None else largest
    for transcript in reversed(folders.changed({}, since)):
        left -= transcript.size
        if left < 0:
            break
        try:
            for batch in transcript_reading.read(transcript, folders.format, None, since):
                for found in batch.usage:
                    known = usage.get(found.message_id)
                    if known is None or found.total > known.total:
                        usage[found.message_id] = found
        except OSError:
            continue
    return tuple(usage.values())


def first_moment(path: str) -> datetime | None:
    """Return the first time near the beginning of a transcript, whose first lines have no order."""
    beginning = b""
    size = FIRST_BYTES
    try:
        with open(path, "rb", buffering=0, opener=regular_files.opener) as file:  # many a call
            while size <= LARGEST_BEGINNING:
                received = file.read(size)
                if not received:
                    return None
                beginning += received
                *lines, beginning = beginning.split(b"\n")
                moments = [moment for line in lines if (moment := _moment(line)) is not None]
                if moments:
                    return min(moments)
                size *= 2
    except OSError:
        pass
    return None


def _moment(line: bytes) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_decode(line).timestamp)
    except (DecodeError, RecursionError, ValueError):
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def _active(folders: TranscriptFolders, since: datetime) -> Iterator[str]:
    since_ns = int(since.timestamp()) * 10**9
    for path in folders.paths():
        with suppress(OSError):
            # The time of the content alone: copying a whole folder changes the other one.
            if os.stat(path, follow_symlinks=False).st_mtime_ns >= since_ns:  # noqa: PTH116  # a thousand a call
                yield path
