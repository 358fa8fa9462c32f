"""Copilot CLI's logs: the events of each session, in ``session-state/<session>``."""

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

UNKNOWN_MODEL = "copilot-unknown"
"""Stands for the model of a response that names none."""


class Events(RecordLines):
    """Reads one session's file.

    Each response has a record, subagents' too. The sums at each exit repeat them, those of earlier runs
    of the session included, and are not read.
    """

    wanted = (b'"session.usage_record"', b'"session.start"', b'"session.resume"')
    costly = ('"session.usage_record"',)

    def __init__(self, path: str, context: str) -> None:
        self._session = text(Path(path).parent.name)
        self._folder = context or None

    @property
    def context(self) -> str:
        """The working folder."""
        return self._folder or ""

    def is_record(self, outline: Outline) -> bool:
        """Return whether an object is an event of its own."""
        return {"type", "data", "timestamp"} <= outline.keys.keys()

    def take(self, piece: dict[str, Json]) -> MeasuredUsage | None:
        """Return the usage in a record, or note where the session works."""
        if piece.get("type") == "session.usage_record":
            return self._recorded(piece, member(piece, ("data", "usage")))
        if piece.get("type") in {"session.start", "session.resume"}:
            folder = text(member(piece, ("data", "context", "cwd")), LONGEST_FOLDER)
            self._folder = folder or self._folder
        return None

    def _recorded(self, event: dict[str, Json], usage: Json) -> MeasuredUsage:
        if not isinstance(usage, dict):
            raise ValueError("usage is not an object")  # noqa: TRY004  # the content, not an argument
        identity = usage.get("apiCallId") or member(usage, ("accounting", "usageId"))
        cached, written = count(usage.get("cacheReadTokens")), count(usage.get("cacheWriteTokens"))
        return MeasuredUsage(
            f"copilot:{response_name(identity or event.get('id'), event.get('timestamp'))}",
            moment(event.get("timestamp")),
            text(usage.get("model")) or UNKNOWN_MODEL,
            max(0, count(usage.get("inputTokens")) - cached - written),
            count(usage.get("outputTokens")),
            written,
            cached,
            self._folder,
            assistant=MeasuredAssistant.COPILOT,
            conversation=self._session,
        )


FORMAT = TranscriptFormat(client="copilot-cli", mark=b'"session.', reader=Events)


def source(place: str) -> TranscriptFolders:
    """Return the events in Copilot CLI's folder of sessions."""
    return TranscriptFolders((Path(place),), FORMAT)
