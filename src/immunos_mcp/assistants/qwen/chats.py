"""Qwen Code's logs: one file per session, in ``projects/<project>/chats``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants.documents import member
from immunos_mcp.assistants.record_lines import RecordLines
from immunos_mcp.assistants.recorded_values import (
    LONGEST_FOLDER,
    count,
    moment,
    response_name,
    text,
)
from immunos_mcp.assistants.transcripts import TranscriptFolders, TranscriptFormat
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline

UNKNOWN_MODEL = "qwen-unknown"
"""Stands for the model of a response that names none."""

_RESPONSE = "qwen-code.api_response"


class Chat(RecordLines):
    """Reads one session's file.

    A response of the conversation stands there twice. Only the event that is read here has an id, and
    stands there for subagents and requests on the side too.
    """

    wanted = (b'"qwen-code.api_response"',)
    costly = ('"qwen-code.api_response"',)

    def __init__(self, _path: str, _context: str) -> None:
        """Each line says all that matters."""

    def is_record(self, outline: Outline) -> bool:
        """Return whether an object is a line of its own."""
        return {"uuid", "sessionId", "type"} <= outline.keys.keys()

    def take(self, piece: dict[str, Json]) -> MeasuredUsage | None:
        """Return the usage in the event of a response."""
        event = member(piece, ("systemPayload", "uiEvent"))
        if not isinstance(event, dict) or event.get("event.name") != _RESPONSE:
            return None
        cached = count(event.get("cached_content_token_count"))
        identity = response_name(event.get("response_id"), event.get("event.timestamp"))
        return MeasuredUsage(
            f"qwen:{identity}",
            moment(piece.get("timestamp")),
            text(event.get("model")) or UNKNOWN_MODEL,
            max(0, count(event.get("input_token_count")) - cached),
            count(event.get("output_token_count")),
            0,
            cached,
            text(piece.get("cwd"), LONGEST_FOLDER),
            assistant=MeasuredAssistant.QWEN,
            conversation=text(piece.get("sessionId")),
        )


FORMAT = TranscriptFormat(
    client="qwen-cli-mcp-client", mark=b'"qwen-code.api_response"', reader=Chat
)


def source(place: str) -> TranscriptFolders:
    """Return the chats in Qwen Code's folder of projects."""
    return TranscriptFolders((Path(place),), FORMAT)
