"""What each subagent of Claude Code has used, from the transcript of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import transcript_reading
from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.transcripts import Transcript

if TYPE_CHECKING:
    from immunos_mcp.logged_usage import MeasuredUsage
    from immunos_mcp.transcript_position import TranscriptPosition

MOST_AGENTS = 200
"""Subagents that are remembered; the transcript of an older one is read again."""

_AGENT = re.compile(r"[A-Za-z0-9_-]{1,100}")


class _Reading:
    """How far one subagent's transcript was read, and its usage until there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.position: TranscriptPosition | None = None
        self.usage: dict[str, MeasuredUsage] = {}


class SubagentUsage:
    """Reads the transcripts of subagents, and of each only what is new."""

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    def usage_of(self, transcript: str, agent: str) -> tuple[MeasuredUsage, ...]:
        """Return a subagent's responses that are written down; none where that cannot be read.

        Args:
            transcript: path of the conversation's transcript.
            agent: the subagent's id.
        """
        reading = self._readings.get(agent) or self._begun(transcript, agent)
        if reading is None:
            return ()
        try:
            self._read(reading)
        except OSError:
            return ()
        return tuple(reading.usage.values())

    def _begun(self, transcript: str, agent: str) -> _Reading | None:
        if _AGENT.fullmatch(agent) is None or not transcript.endswith(".jsonl"):
            return None
        folder = Path(transcript.removesuffix(".jsonl"), "subagents")
        # Those of a workflow are in folders of their own.
        found = next(iter(folder.glob(f"**/agent-{agent}.jsonl")), None)
        if found is None:
            return None
        if len(self._readings) >= MOST_AGENTS:
            del self._readings[next(iter(self._readings))]
        return self._readings.setdefault(agent, _Reading(str(found)))

    def _read(self, reading: _Reading) -> None:
        seen = os.stat(reading.path)  # noqa: PTH116  # as other transcripts are
        file = Transcript(reading.path, seen.st_ino, seen.st_size, seen.st_mtime_ns)
        for batch in transcript_reading.read(file, FORMAT, reading.position):
            for found in batch.usage:
                known = reading.usage.get(found.message_id)
                if known is None or found.total > known.total:
                    reading.usage[found.message_id] = found
            reading.position = batch.position
