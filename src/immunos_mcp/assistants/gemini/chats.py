"""The Gemini CLI's logs: one file per session and subagent, in ``tmp/<project>/chats``.

They are files of lines; earlier versions wrote a document per session, anew after each message.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import json_objects, regular_files, transcript_reading
from immunos_mcp.assistants.document_reading import MessageFormat, read_document
from immunos_mcp.assistants.documents import items, member
from immunos_mcp.assistants.record_lines import RecordLines
from immunos_mcp.assistants.recorded_values import LONGEST_FOLDER, count, moment, name, text
from immunos_mcp.assistants.transcripts import DocumentFormat, TranscriptFolders, TranscriptFormat
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline
    from immunos_mcp.assistants.transcripts import Batch, Transcript
    from immunos_mcp.transcript_position import TranscriptPosition

UNKNOWN_MODEL = "gemini-unknown"
"""Stands for the model of a response that names none."""

LONGEST_HEADER = 2**16
CLIENT = "gemini-cli-mcp-client"
CHATS = "/chats/"
DOCUMENT_ENDING = ".json"


class Chat(RecordLines):
    """Reads one chat's file.

    A response with a tool call stands there twice, and a resumed session repeats its history.
    """

    wanted = (b'"tokens"',)
    costly = ('"tokens"',)

    def __init__(self, path: str, _context: str) -> None:
        self._session = _session(path)
        self._folder = _project_folder(path)

    def is_record(self, outline: Outline) -> bool:
        """Return whether an object is a message or a change of the document."""
        return "$set" in outline.keys or {"id", "timestamp", "type"} <= outline.keys.keys()

    def pieces(self, record: dict[str, Json]) -> Sequence[dict[str, Json]]:
        """Return the messages in a line."""
        changed = items(member(record, ("$set", "messages")))
        return [record, *(each for each in changed if isinstance(each, dict))]

    def take(self, piece: dict[str, Json]) -> MeasuredUsage | None:
        """Return the usage of a message."""
        return _usage(piece, self._session, self._folder)


def read(
    transcript: Transcript, position: TranscriptPosition | None, since: datetime | None
) -> Iterator[Batch]:
    """Read the new part of a chat, or all of one that is a document.

    Raises:
        OSError: it cannot be read.
    """
    if not transcript.path.endswith(DOCUMENT_ENDING):
        yield from transcript_reading.read(transcript, LINES, position, since)
        return
    folder = _project_folder(transcript.path)

    def usage_of(document: dict[str, Json], message: dict[str, Json]) -> MeasuredUsage | None:
        return _usage(message, text(document.get("sessionId")), folder)

    keys = frozenset({"id", "timestamp", "type"})
    yield read_document(transcript, since, MessageFormat(keys, "tokens", usage_of))


def _usage(
    message: dict[str, Json], session: str | None, folder: str | None
) -> MeasuredUsage | None:
    """Return the usage of a message; ``None``: it is another's.

    Raises:
        ValueError: it should have usage, which cannot be read.
    """
    tokens = message.get("tokens")
    if message.get("type") != "gemini" or tokens is None:
        return None
    if not isinstance(tokens, dict):
        raise ValueError("tokens are not an object")  # noqa: TRY004  # the content, not an argument
    cached = count(tokens.get("cached"))
    return MeasuredUsage(
        f"gemini:{name(message.get('id'))}",
        moment(message.get("timestamp")),
        text(message.get("model")) or UNKNOWN_MODEL,
        max(0, count(tokens.get("input")) + count(tokens.get("tool")) - cached),
        count(tokens.get("output")) + count(tokens.get("thoughts")),
        0,
        cached,
        folder,
        assistant=MeasuredAssistant.GEMINI,
        conversation=session,
    )


def _session(path: str) -> str | None:
    """Return the session's id, which only the file's first line has."""
    try:
        with open(path, "rb", opener=regular_files.opener) as file:  # Path.open() takes no opener
            line = file.readline(LONGEST_HEADER)
    except OSError:
        return None
    found = json_objects.find_objects(
        json_objects.decoded(line), lambda outline: "sessionId" in outline.keys
    )
    sessions = [text(record.get("sessionId")) for record in found.objects]
    return next((session for session in sessions if session is not None), None)


def _project_folder(path: str) -> str | None:
    project, separator, _ = path.rpartition(CHATS)
    if not separator:
        return None
    try:
        root = regular_files.content(Path(project, ".project_root"), 4 * LONGEST_FOLDER)
        return text(root.decode("utf-8", "replace").strip(), LONGEST_FOLDER)
    except OSError:
        return None


class Chats(TranscriptFolders):
    """Finds the chats in Gemini's folder of projects, which has other documents too."""

    def paths(self) -> Iterator[str]:
        """List all chats."""
        return (path for path in super().paths() if CHATS in path)


LINES = TranscriptFormat(client=CLIENT, mark=b'"tokens"', reader=Chat)
FORMAT = DocumentFormat(client=CLIENT, read=read, ending=(".jsonl", DOCUMENT_ENDING))


def source(place: str) -> Chats:
    """Return the chats in Gemini's folder of projects."""
    return Chats((Path(place),), FORMAT)
