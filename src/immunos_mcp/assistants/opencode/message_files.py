"""opencode's log before version 1.2, which had no database: a document per message, and one per part of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import DecodeError
from msgspec.json import Decoder

from immunos_mcp.assistants import regular_files
from immunos_mcp.assistants.document_reading import LARGEST_DOCUMENT, MessageFormat, read_document
from immunos_mcp.assistants.opencode.message_usage import counts_of, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.transcripts import Batch, Transcript
    from immunos_mcp.logged_usage import MeasuredUsage

ENDING = ".json"

_decode: Decoder[dict[str, object]] = Decoder(dict[str, object])


def read(transcript: Transcript, since: datetime | None) -> Iterator[Batch]:
    """Read one message.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(transcript.path)

    def usage(_document: object, message: dict[str, Json]) -> MeasuredUsage | None:
        found = usage_of(path.parent.name, message)
        return None if found is None else _with_all_steps(found, path)

    yield read_document(
        transcript, since, MessageFormat(frozenset({"role", "modelID"}), "tokens", usage)
    )


def _with_all_steps(usage: MeasuredUsage, path: Path) -> MeasuredUsage:
    """Return the usage of all of a message's steps: it has that of the last one, its parts that of each.

    Later versions write a message for each step.
    """
    steps = [*_steps(path.parent.parent.parent / "part" / path.stem)]
    fresh, output, written, cached = (sum(each[kind] for each in steps) for kind in range(4))
    whole = usage._replace(
        input_tokens=fresh,
        output_tokens=output,
        cache_creation_input_tokens=written,
        cache_read_input_tokens=cached,
    )
    return whole if whole.total > usage.total else usage


def _steps(folder: Path) -> Iterator[tuple[int, int, int, int]]:
    try:
        parts = sorted(os.listdir(folder))  # noqa: PTH208  # names
    except OSError:
        return
    for part in parts:
        content = regular_files.content(folder / part, LARGEST_DOCUMENT)
        if b'"step-finish"' not in content:
            continue
        try:
            found: dict[str, Json] = _decode.decode(content)  # pyright: ignore[reportAssignmentType]  # it is JSON
        except (DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from None
        tokens = found.get("tokens")
        if found.get("type") == "step-finish" and isinstance(tokens, dict):
            yield counts_of(tokens)
