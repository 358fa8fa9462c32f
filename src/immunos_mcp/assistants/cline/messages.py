"""The Cline CLI's logs: a document per session and subagent, written anew after each message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import DecodeError
from msgspec.json import Decoder

from immunos_mcp.assistants import regular_files
from immunos_mcp.assistants.document_reading import LARGEST_DOCUMENT, MessageFormat, read_document
from immunos_mcp.assistants.documents import member
from immunos_mcp.assistants.recorded_values import LONGEST_FOLDER, count, moment, name, text
from immunos_mcp.assistants.transcripts import DocumentFormat, TranscriptFolders
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.transcripts import Batch, Transcript
    from immunos_mcp.transcript_position import TranscriptPosition

UNKNOWN_MODEL = "cline-unknown"
"""Stands for the model of a response that names none."""

_decode: Decoder[dict[str, object]] = Decoder(dict[str, object])


def read(
    transcript: Transcript, _position: TranscriptPosition | None, since: datetime | None
) -> Iterator[Batch]:
    """Read a document, all of it.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(transcript.path)
    session, folder = text(path.parent.name), _folder(path)

    def usage_of(_document: object, message: dict[str, Json]) -> MeasuredUsage | None:
        return _usage(message, session, folder)

    yield read_document(transcript, since, MessageFormat(frozenset({"role"}), "metrics", usage_of))


def _usage(
    message: dict[str, Json], session: str | None, folder: str | None
) -> MeasuredUsage | None:
    """Return the usage of a message; ``None``: it is another's.

    Raises:
        ValueError: it should have usage, which cannot be read.
    """
    metrics = message.get("metrics")
    if metrics is None:
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
