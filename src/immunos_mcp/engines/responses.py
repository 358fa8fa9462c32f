"""What an engine (Ollama) sends, bounded in bytes and turned into values and errors.

Nothing in a response is trusted: texts may hold half of a surrogate pair, counts may not fit 64 bits,
and a line or a body may never end.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

from immunos_mcp.domain import MAXIMUM_TOKENS, LocalModel
from immunos_mcp.engines.thoughts import ThoughtFilter
from immunos_mcp.errors import ImmunosError
from immunos_mcp.rules.formatting import encodable, printable
from immunos_mcp.rules.names import LONGEST_MODEL_NAME, canonical_model, is_printable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from immunos_mcp.answers.encoding import Json


LARGEST_ANSWER = 8 * 2**20
"""Bytes of a listing; a larger one is not from Ollama."""

LARGEST_LINE = 2**20
"""Bytes of one line of a chat, which holds a token or the counts."""

LARGEST_STREAM = 32 * 2**20
"""Bytes of a whole chat: several hundred for each of the most tokens that are ever requested."""

LARGEST_FAILURE = 2**16
"""Bytes that are read of an error."""

LONGEST_NANOSECONDS = 86_400 * 10**9
MOST_MODELS = 2_000
LARGEST_MODEL = 2**62
LONGEST_TEXT = 200


class EngineError(ImmunosError):
    """The engine failed; the message has the reason and the fix."""


class EngineUnreachableError(EngineError):
    """Nothing at the address responds like Ollama."""


class ModelMissingError(EngineError):
    """The model is not installed."""


class EngineBusyError(EngineError):
    """The engine has too much to do; try again later."""


class EngineTimeoutError(EngineError):
    """The engine sent nothing for longer than the prompt explains."""


class PromptCutError(EngineError):
    """The engine cut the prompt, although it was told not to."""


class ContextExceededError(EngineError):
    """The task does not fit the requested context.

    Attributes:
        needed_tokens: the tokens of the task by the engine's count; ``None``: not reported.
    """

    def __init__(self, message: str, needed_tokens: int | None) -> None:
        super().__init__(message)
        self.needed_tokens = needed_tokens


class RefusedError(Exception):
    """The engine requires credentials."""


class Piece(NamedTuple):
    """A part of a chat's answer, as it arrives.

    Attributes:
        text: empty while the model thinks, also where it writes its thoughts into the answer.
        final: the token counts, in the last piece only.
    """

    text: str
    final: ChatCounts | None = None


class ChatCounts(NamedTuple):
    """The engine's own counts of a chat.

    Attributes:
        input_tokens: tokens of the prompt.
        output_tokens: tokens generated, including thinking.
        is_complete: whether the model finished, instead of reaching the limit.
        is_thought: whether the model thought to the end, without an answer.
        reading_seconds: how long the engine read the prompt; 0: it does not say.
    """

    input_tokens: int
    output_tokens: int
    is_complete: bool
    is_thought: bool = False
    reading_seconds: float = 0.0


async def body_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Return a whole body.

    Raises:
        ValueError: it is too long.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise ValueError(f"more than {LARGEST_ANSWER >> 20} MiB")
    return bytes(body)


async def failure_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the beginning of an error's body."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > LARGEST_FAILURE:
            break
    return bytes(body[:LARGEST_FAILURE])


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Split a stream at newlines only: JSON may hold every other line separator unescaped.

    Raises:
        ValueError: a line or the whole stream is too long.
    """
    begun, size = b"", 0
    async for chunk in chunks:
        size += len(chunk)
        *lines, begun = (begun + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(begun) > LARGEST_LINE:
            raise ValueError(f"a line of more than {LARGEST_LINE >> 20} MiB")
        if size > LARGEST_STREAM:
            raise ValueError(f"an answer of more than {LARGEST_STREAM >> 20} MiB")
    if begun:
        yield begun


async def pieces_of(lines: AsyncIterator[bytes], model: str) -> AsyncGenerator[Piece]:
    """Return the pieces of a chat's answer, the last one with its counts.

    Raises:
        EngineError: the model failed or stopped.
        ValueError: a line is not from Ollama.
    """
    thoughts = ThoughtFilter()
    has_thought = has_spoken = False
    async for line in lines:
        if not line.strip():
            continue
        entry = parsed(line)
        failure = text_of(entry, "error")
        if failure:
            raise EngineError(f"{model} failed while answering: {_line(failure)[:300]}")
        message = _object(entry, "message")
        text = thoughts.said(text_of(message, "content"))
        has_thought = has_thought or thoughts.has_thought or bool(text_of(message, "thinking"))
        ended = entry if isinstance(entry, dict) and entry.get("done") is True else None
        text += "" if ended is None else thoughts.rest()
        has_spoken = has_spoken or bool(text.strip())
        if ended is not None:
            yield Piece(text, _counts(ended, is_thought=has_thought and not has_spoken))
            return
        yield Piece(text)
    raise EngineError(f"{model} stopped before its answer was complete")


def _counts(entry: dict[str, Json], *, is_thought: bool) -> ChatCounts:
    return ChatCounts(
        _number(entry.get("prompt_eval_count"), MAXIMUM_TOKENS),
        _number(entry.get("eval_count"), MAXIMUM_TOKENS),
        entry.get("done_reason") == "stop",
        is_thought,
        _number(entry.get("prompt_eval_duration"), LONGEST_NANOSECONDS) / 1e9,
    )


def _number(value: Json, most: int) -> int:
    """Return a whole number; 0 for what is none, or cannot be true."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        return 0
    return int(value) if value == int(value) else 0


def raise_for(status: int, body: bytes, model: str) -> None:
    """Raise the error that a response reports, if any.

    Raises:
        EngineError: or the kind of it that the response is.
    """
    if status == HTTPStatus.OK:
        return
    failure = error_of(body)
    if status == HTTPStatus.NOT_FOUND:
        raise ModelMissingError(f"{model} is not installed; get it with `ollama pull {model}`")
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        raise EngineBusyError(f"Ollama is busy: {failure[:200]}")
    if "exceed_context_size_error" in failure or "exceeds the available context" in failure:
        needed = re.search(r"n_prompt_tokens\W{1,20}([0-9]{1,15})", failure) or re.search(
            r"\(([0-9]{1,15}) tokens", failure
        )
        tokens = _number(int(needed[1]), MAXIMUM_TOKENS) if needed else 0
        raise ContextExceededError(failure[:300], tokens or None)
    raise EngineError(f"Ollama returned an error (HTTP {status}): {failure[:300]}")


def error_of(body: bytes) -> str:
    """Return the text of an error as one line, in whatever form it came."""
    plain = body.decode(errors="replace")
    with suppress(ValueError):
        plain = text_of(parsed(body), "error") or plain
    return _line(plain)


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


def parsed(content: bytes) -> Json:
    """Parse JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return cast("Json", json.loads(content))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def text_of(value: Json, name: str) -> str:
    """Return a text member of an object; empty if there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return encodable(found) if isinstance(found, str) else ""


def _object(value: Json, name: str) -> dict[str, Json]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def context_length_of(shown: Json) -> int | None:
    """Return the maximum context that the description of a model reports."""
    lengths = [
        _number(value, MAXIMUM_TOKENS)
        for name, value in _object(shown, "model_info").items()
        if name.endswith(".context_length")
    ]
    return next((length for length in lengths if length), None)


def loaded_context_of(loaded: Json, model: str) -> int | None:
    """Return the context that a model is loaded with; ``None``: it is not loaded, or nothing says."""
    for entry in _entries(loaded):
        if isinstance(entry, dict) and canonical_model(text_of(entry, "name")) == model:
            return _number(entry.get("context_length"), MAXIMUM_TOKENS) or None
    return None


def models_of(tags: Json, loaded: Json) -> dict[str, LocalModel]:
    """Return the installed models by canonical name; names that are no names are left out."""
    running = {canonical_model(text_of(entry, "name")) for entry in _entries(loaded)}
    models: dict[str, LocalModel] = {}
    for entry in _entries(tags):
        name = text_of(entry, "name") or text_of(entry, "model")
        if 0 < len(name) <= LONGEST_MODEL_NAME and is_printable(name):
            canonical = canonical_model(name)
            models[canonical] = _model(name, entry, is_loaded=canonical in running)
    return models


def _model(name: str, entry: Json, *, is_loaded: bool) -> LocalModel:
    given = entry if isinstance(entry, dict) else {}
    details, capabilities = _object(entry, "details"), given.get("capabilities")
    return LocalModel(
        name=name,
        digest=text_of(entry, "digest")[:LONGEST_TEXT],
        size_bytes=_number(given.get("size"), LARGEST_MODEL),
        parameter_size=printable(text_of(details, "parameter_size")[:LONGEST_TEXT]),
        context_length=_number(details.get("context_length"), MAXIMUM_TOKENS) or None,
        capabilities=(
            frozenset(encodable(each) for each in capabilities if isinstance(each, str))
            if isinstance(capabilities, list)
            else None
        ),
        is_loaded=is_loaded,
    )


def _entries(listing: Json) -> list[Json]:
    found = listing.get("models") if isinstance(listing, dict) else None
    return found[:MOST_MODELS] if isinstance(found, list) else []
