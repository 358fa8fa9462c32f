"""The usage of a message of opencode, wherever that is stored. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from immunos_mcp.assistants.documents import member
from immunos_mcp.assistants.recorded_values import LONGEST_FOLDER, count, moment, name, text
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json


def usage_of(session: str, message: dict[str, Json]) -> MeasuredUsage | None:
    """Return the usage of a message; ``None``: it is another's, or has not ended.

    Raises:
        ValueError: it should have usage, which cannot be read.
    """
    tokens, completed = message.get("tokens"), member(message, ("time", "completed"))
    # Until then, the numbers change.
    if message.get("role") != "assistant" or tokens is None or completed is None:
        return None
    if not isinstance(tokens, dict):
        raise ValueError("tokens are not an object")  # noqa: TRY004  # the content, not an argument
    counts = counts_of(tokens)
    if not any(counts):
        return None
    model, created = name(message.get("modelID")), member(message, ("time", "created"))
    # A fork copies messages under new ids, with the same times and numbers.
    identity = f"{message.get('providerID')} {model} {created} {completed} {counts}"
    return MeasuredUsage(
        f"opencode:{hashlib.sha256(identity.encode('utf-8', 'backslashreplace')).hexdigest()}",
        moment(completed),
        model,
        *counts,
        text(member(message, ("path", "cwd")), LONGEST_FOLDER),
        assistant=MeasuredAssistant.OPENCODE,
        conversation=text(session),
    )


def as_before(message: dict[str, Json], folder: str) -> dict[str, Json]:
    """Return an assistant's message of version 2 as version 1 wrote it, so that its copy has the same identity."""
    model, times = message.get("model"), message.get("time")
    return {
        **message,
        "time": {name: _milliseconds(at) for name, at in times.items()}
        if isinstance(times, dict)
        else times,
        "role": "assistant",
        "providerID": member(model, ("providerID",)),
        "modelID": member(model, ("id",)),
        "path": {"cwd": folder},
    }


def _milliseconds(at: Json) -> Json:
    return round(moment(at).timestamp() * 1000) if isinstance(at, str) else at


def counts_of(tokens: dict[str, Json]) -> tuple[int, int, int, int]:
    """Return the four kinds of tokens in the order of the ledger.

    Raises:
        ValueError: they cannot be read.
    """
    return (
        count(tokens.get("input")),
        count(tokens.get("output")) + count(tokens.get("reasoning")),
        count(member(tokens, ("cache", "write"))),
        count(member(tokens, ("cache", "read"))),
    )
