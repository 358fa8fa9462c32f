"""Reads logs that are documents of messages, written anew after each one: all of a document each time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import DecodeError
from msgspec.json import Decoder

from immunos_mcp.assistants import json_objects, nesting, regular_files
from immunos_mcp.assistants.documents import items
from immunos_mcp.assistants.transcripts import Batch, later_left_out, unsettled
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline
    from immunos_mcp.assistants.transcripts import Transcript
    from immunos_mcp.logged_usage import MeasuredUsage

LARGEST_DOCUMENT = 256 * 2**20
"""Larger ones are not read, so that a broken file cannot exhaust memory."""

_decode: Decoder[dict[str, object]] = Decoder(dict[str, object])


class MessageFormat(NamedTuple):
    """How messages are written.

    Attributes:
        keys: what every message has, by which one is found in a damaged document.
        usage_key: what a message with usage has besides.
        usage_of: returns the usage of a message, given its document and itself; ``ValueError`` means
            that it should have some.
    """

    keys: frozenset[str]
    usage_key: str
    usage_of: Callable[[dict[str, Json], dict[str, Json]], MeasuredUsage | None]

    def is_message(self, outline: Outline) -> bool:
        """Return whether an object in a damaged document is a message with usage."""
        return self.usage_key in outline.keys and self.keys <= outline.keys.keys()


class Document(NamedTuple):
    """What is left of a document.

    Attributes:
        head: the document; empty if it is damaged.
        messages: those in it; a document without a list of them is one itself.
        lost: how many more had usage and cannot be read.
    """

    head: dict[str, Json]
    messages: list[Json]
    lost: int


def read_document(
    transcript: Transcript, since: datetime | None, message_format: MessageFormat
) -> Batch:
    """Read a document, all of it, leaving out responses before ``since``.

    Raises:
        OSError: it cannot be read.
    """
    content = regular_files.content(Path(transcript.path), LARGEST_DOCUMENT)
    document = _document(content, message_format)
    unread, left_out_before = document.lost, ""
    usage: list[MeasuredUsage] = []
    for message in document.messages:
        try:
            found = (
                message_format.usage_of(document.head, message)
                if isinstance(message, dict)
                else None
            )
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
    return Batch(tuple(usage), position)


def _document(content: bytes, message_format: MessageFormat) -> Document:
    if not content.strip():
        return Document({}, [], 0)
    try:
        found: dict[str, Json] = _decode.decode(content)  # pyright: ignore[reportAssignmentType]  # it is JSON
    except (DecodeError, RecursionError, UnicodeDecodeError):
        return _salvaged(json_objects.decoded(content), message_format)
    if nesting.is_too_deep(content):
        return _salvaged(json_objects.decoded(content), message_format)
    return Document(found, _messages(found), 0)


def _messages(record: dict[str, Json]) -> list[Json]:
    return items(record["messages"]) if "messages" in record else [record]


def _salvaged(document: str, message_format: MessageFormat) -> Document:
    """Return the whole messages in a document that is damaged, or nested too deeply."""
    found = json_objects.find_objects(document, message_format.is_message)
    whole = [message for record in found.objects for message in _messages(record)]
    lost = sum(f'"{message_format.usage_key}"' in piece for piece in found.rest)
    for outline in found.too_deep:
        if "messages" in outline.keys:
            # Without its first bracket, a document is no object, and its messages are.
            inner = _salvaged(document[outline.start + 1 : outline.end], message_format)
            whole += inner.messages
            lost += inner.lost
        else:
            lost += message_format.is_message(outline)
    return Document({}, whole, lost)
