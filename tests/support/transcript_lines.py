"""Lines as Claude Code writes them, and a folder of transcripts to put them in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""A moment before any file that a test writes: files older than a session are not read."""


@dataclass(frozen=True)
class Answer:
    """One line of one response."""

    message_id: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation: int = 0
    cache_read: int = 0
    at: datetime = NOON
    model: str = "claude-opus-4-8"
    cwd: str = "/home/dev/shop"

    def line(self) -> str:
        """Spell the line, without its end."""
        return json.dumps(
            {
                "parentUuid": None,
                "isSidechain": False,
                "type": "assistant",
                "message": {
                    "id": self.message_id,
                    "type": "message",
                    "role": "assistant",
                    "model": self.model,
                    "content": [{"type": "text", "text": 'it says "usage" and "assistant"'}],
                    "usage": {
                        "input_tokens": self.input_tokens,
                        "output_tokens": self.output_tokens,
                        "cache_creation_input_tokens": self.cache_creation,
                        "cache_read_input_tokens": self.cache_read,
                        "service_tier": "standard",
                    },
                },
                "requestId": f"req_{self.message_id}",
                "timestamp": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "cwd": self.cwd,
            }
        )


def transcript(root: Path, name: str = "-home-dev-shop/one.jsonl") -> Path:
    """Name a transcript below a folder of projects, and make its folder."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def append(file: Path, *lines: Answer | str) -> None:
    """Add whole lines to a transcript."""
    with file.open("a", encoding="utf-8") as stream:
        for line in lines:
            stream.write((line.line() if isinstance(line, Answer) else line) + "\n")
