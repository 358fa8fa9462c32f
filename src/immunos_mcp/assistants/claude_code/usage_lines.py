"""The usage in one line of a transcript."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from immunos_mcp.domain import MAXIMUM_TOKENS, MeasuredUsage

SYNTHETIC_MODEL = "<synthetic>"
"""The model of messages that the client itself inserts, such as API errors."""

LONGEST_NAME = 200

_Count = Annotated[int, Meta(ge=0, le=MAXIMUM_TOKENS)] | None


class _Usage(Struct):
    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_read_input_tokens: _Count = None


class _Message(Struct):
    id: str = ""
    model: str = ""
    usage: _Usage | None = None


class _Line(Struct):
    type: str = ""
    timestamp: str = ""
    message: _Message | None = None
    cwd: str | None = None
    requestId: str | None = None  # noqa: N815  # the transcript's name


class _Kind(Struct):
    type: str = ""


_decode = Decoder(_Line).decode
_decode_kind = Decoder(_Kind).decode


def usage_of(line: bytes | bytearray) -> MeasuredUsage | None:
    """Return the usage in a line; ``None``: it is a line of another kind.

    Only the needed fields are decoded; the conversation itself is skipped.

    Raises:
        ValueError: the line is a response with usage, but cannot be read.
    """
    try:
        entry = _decode(line)
    except DecodeError as error:
        if _is_response(line):
            raise ValueError(str(error)) from None
        return None
    message = entry.message
    if entry.type != "assistant" or message is None:
        return None
    usage = message.usage
    if usage is None or message.model == SYNTHETIC_MODEL:
        return None
    return MeasuredUsage(
        _name(message.id),
        _moment(entry.timestamp),
        _name(message.model),
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cache_creation_input_tokens or 0,
        usage.cache_read_input_tokens or 0,
        entry.cwd,
        entry.requestId,
    )


def _is_response(line: bytes | bytearray) -> bool:
    """Return whether an unreadable line is probably a response."""
    try:
        return _decode_kind(line).type == "assistant"
    except DecodeError:
        return b'"assistant"' in line


def _name(text: str) -> str:
    if 0 < len(text) <= LONGEST_NAME:
        return text
    raise ValueError("a name is missing or too long")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a timestamp has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a timestamp is out of range") from None
