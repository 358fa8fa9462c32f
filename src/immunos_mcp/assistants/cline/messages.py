"""The Cline CLI's logs: a document per session and subagent, written anew after each message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import DecodeError
from msgspec.json import Decoder

from immunos_mcp.assistants import json_objects, regular_files
from immunos_mcp.assistants.documents import items, member
from immunos_mcp.assistants.recorded_values import LONGEST_FOLDER, count, moment, name, text
from immunos_mcp.assistants.transcripts import (
    Batch,
    DocumentFormat,
    Transcript,
    TranscriptFolders,
    later_left_out,
    unsettled,
)
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline

UNKNOWN_MODEL = "cline-unknown"
"""Stands for the model of a response that names none."""

LARGEST_DOCUMENT = 256 * 2**20
"""Larger ones are not read, so that a broken file cannot exhaust memory."""

_decode: Decoder[dict[str, object]] = Decoder(dict[str, object])


class _Messages(NamedTuple):
    """The messages in a document, and how many more had usage and cannot be read."""

    whole: list[Json]
    lost: int


def read(
    transcript: Transcript, _position: TranscriptPosition | None, since: datetime | None
) -> Iterator[Batch]:
    """Read a document, all of it.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(transcript.path)
    content = regular_files.content(path, LARGEST_DOCUMENT)
    messages = _messages(content)
    unread, left_out_before = messages.lost, ""
    usage: list[MeasuredUsage] = []
    session, folder = text(path.parent.name), _folder(path)
    for message in messages.whole:
        try:
            found = _usage(message, session, folder)
        except ValueError:
            unread += 1
            continue
        if found is not None and since is not None and found.at < since:
            left_out_before = later_left_out(left_out_before, since)
        elif found is not None and found.total:
            usage.append(found)
    size = transcript.size if transcript.is_settled else unsettled(transcript.size)
    position = TranscriptPosition(
        transcript.name,
        transcript.inode,
        size,
        transcript.modified_ns,
        transcript.size,
        0,
        unread,
        left_out_before,
        "",
    )
    yield Batch(tuple(usage), position)


def _messages(content: bytes) -> _Messages:
    if not content.strip():
        return _Messages([], 0)
    try:
        document: dict[str, Json] = _decode.decode(content)  # pyright: ignore[reportAssignmentType]  # it is JSON
    except (DecodeError, RecursionError, UnicodeDecodeError):
        return _salvaged(json_objects.decoded(content))
    if json_objects.levels(content) > json_objects.MOST_LEVELS:
        return _salvaged(json_objects.decoded(content))
    return _Messages(items(document.get("messages")), 0)


def _salvaged(document: str) -> _Messages:
    """Return the whole messages in a document that is damaged, or nested too deeply."""
    found = json_objects.find_objects(document, _is_message)
    whole: list[Json] = []
    for record in found.objects:
        whole += items(record["messages"]) if "messages" in record else [record]
    lost = sum('"metrics"' in piece for piece in found.rest)
    for outline in found.too_deep:
        if "messages" in outline.keys:
            # Without its first bracket, a document is no object, and its messages are.
            inner = _salvaged(document[outline.start + 1 : outline.end])
            whole += inner.whole
            lost += inner.lost
        else:
            lost += _is_message(outline)
    return _Messages(whole, lost)


def _is_message(outline: Outline) -> bool:
    return {"role", "metrics"} <= outline.keys.keys()


def _usage(message: Json, session: str | None, folder: str | None) -> MeasuredUsage | None:
    """Return the usage of a message; ``None``: it is another's.

    Raises:
        ValueError: it should have usage, which cannot be read.
    """
    metrics = member(message, ("metrics",))
    if metrics is None or not isinstance(message, dict):
        return None
    if not isinstance(metrics, dict):
        raise ValueError("metrics are not an object")  # noqa: TRY004  # the content, not an argument
    cached, written = count(metrics.get("cacheReadTokens")), count(metrics.get("cacheWriteTokens"))
    return MeasuredUsage(
        f"cline:{name(message.get('id'))}",
        moment(message.get("ts")),
        text(member(message, ("modelInfo", "id"))) or UNKNOWN_MODEL,
        max(0, count(metrics.get("inputTokens")) - cached - written),
        count(metrics.get("outputTokens")),
        written,
        cached,
        folder,
        assistant=MeasuredAssistant.CLINE,
        conversation=session,
    )


def _folder(path: Path) -> str | None:
    """Return the working folder, which only the session's own document has."""
    try:
        document = _decode.decode(
            regular_files.content(path.parent / f"{path.parent.name}.json", LARGEST_DOCUMENT)
        )
    except (OSError, DecodeError, RecursionError, UnicodeDecodeError):
        return None
    cwd = document.get("cwd")
    return text(cwd, LONGEST_FOLDER) if isinstance(cwd, str) else None


FORMAT = DocumentFormat(client="@cline/", read=read, ending=".messages.json")


def source(place: str) -> TranscriptFolders:
    """Return the documents in Cline's folder of sessions."""
    return TranscriptFolders((Path(place),), FORMAT)
