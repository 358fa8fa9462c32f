"""pi's logs: one file per session, in ``sessions/<project>``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import json_objects, regular_files
from immunos_mcp.assistants.record_lines import RecordLines
from immunos_mcp.assistants.recorded_values import (
    LONGEST_FOLDER,
    count,
    moment,
    name,
    response_name,
    text,
)
from immunos_mcp.assistants.transcripts import TranscriptFolders, TranscriptFormat
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline

UNKNOWN_MODEL = "pi-unknown"
"""Stands for the model of a response that names none."""

LONGEST_HEADER = 2**16


class SessionFile(RecordLines):
    """Reads one session's file.

    A fork copies the lines so far, with their ids and times.
    """

    wanted = (b'"usage"',)
    costly = ('"usage"',)

    def __init__(self, path: str, _context: str) -> None:
        header = _header(path)
        self._session = text(header.get("id"))
        self._folder = text(header.get("cwd"), LONGEST_FOLDER)

    def is_record(self, outline: Outline) -> bool:
        """Return whether an object is a line of its own."""
        return {"id", "timestamp", "message"} <= outline.keys.keys()

    def take(self, piece: dict[str, Json]) -> MeasuredUsage | None:
        """Return the usage of a response."""
        message = piece.get("message")
        if not isinstance(message, dict) or message.get("role") != "assistant":
            return None
        usage = message.get("usage")
        if usage is None:
            return None
        if not isinstance(usage, dict):
            raise ValueError("usage is not an object")  # noqa: TRY004  # the content, not an argument
        return MeasuredUsage(
            f"pi:{_identity(piece, message)}",
            moment(piece.get("timestamp")),
            text(message.get("model")) or UNKNOWN_MODEL,
            count(usage.get("input")),
            count(usage.get("output")),
            count(usage.get("cacheWrite")),
            count(usage.get("cacheRead")),
            self._folder,
            assistant=MeasuredAssistant.PI,
            conversation=self._session,
        )


def _identity(line: dict[str, Json], message: dict[str, Json]) -> str:
    if message.get("responseId"):
        return response_name(message.get("responseId"), line.get("timestamp"))
    # Eight digits are unique in a session only.
    return f"{name(line.get('id'))} {text(line.get('timestamp'))}"


def _header(path: str) -> dict[str, Json]:
    """Return the file's first line."""
    try:
        with open(path, "rb", opener=regular_files.opener) as file:  # Path.open() takes no opener
            line = file.readline(LONGEST_HEADER)
    except OSError:
        return {}
    found = json_objects.find_objects(
        json_objects.decoded(line), lambda outline: "cwd" in outline.keys
    )
    headers = [record for record in found.objects if record.get("type") == "session"]
    return headers[0] if headers else {}


FORMAT = TranscriptFormat(client="pi-coding-agent", mark=b'"usage"', reader=SessionFile)


def source(place: str) -> TranscriptFolders:
    """Return the sessions in pi's folder."""
    return TranscriptFolders((Path(place),), FORMAT)
