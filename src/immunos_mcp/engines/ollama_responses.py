"""What Ollama sends, turned into values and errors."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from immunos_mcp.domain import MAXIMUM_TOKENS, LocalModel
from immunos_mcp.engines.responses import (
    LARGEST_MODEL,
    LONGEST_TEXT,
    MOST_MODELS,
    ChatCounts,
    ContextExceededError,
    EngineBusyError,
    EngineError,
    ModelMissingError,
    Speech,
    ThinkingUnsupportedError,
    error_of,
    is_count,
    number,
    object_of,
    one_line,
    parsed,
    text_of,
)
from immunos_mcp.rules.formatting import encodable, printable
from immunos_mcp.rules.names import LONGEST_MODEL_NAME, canonical_model, is_printable

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json

LONGEST_NANOSECONDS = 86_400 * 10**9


class _Message(msgspec.Struct):
    content: str = ""
    thinking: str = ""


class _Line(msgspec.Struct):
    message: _Message
    done: bool = False
    error: str = ""


_LINE = msgspec.json.Decoder(_Line)


class OllamaReply:
    """The answer to a chat, line by line.

    Attributes:
        counts: Ollama's counts; ``None``: the answer goes on.
    """

    def __init__(self, model: str) -> None:
        self.counts: ChatCounts | None = None
        self._model = model
        self._speech = Speech()

    def take(self, line: bytes) -> str | None:
        """Return the piece of the answer that a line is, empty for a thought; ``None``: it is none.

        Raises:
            EngineError: the model failed.
            ValueError: the line is not from Ollama.
        """
        try:
            piece = _LINE.decode(line)
        except msgspec.MsgspecError:
            return self._taken(line)
        if piece.done or piece.error:
            return self._taken(line)
        return self._said(piece.message.content, piece.message.thinking)

    def _taken(self, line: bytes) -> str | None:
        """Do the same for the last line, and for one that only a lenient parser reads."""
        entry = parsed(line)
        failure = text_of(entry, "error")
        if failure:
            raise EngineError(f"{self._model} failed while answering: {one_line(failure)[:300]}")
        message = object_of(entry, "message")
        text = self._said(text_of(message, "content"), text_of(message, "thinking"))
        if isinstance(entry, dict) and entry.get("done") is True:
            text += self._speech.rest()
            self.counts = _counts(entry, is_thought=self._speech.is_thought)
        return text

    def _said(self, content: str, thinking: str) -> str:
        if thinking:
            self._speech.has_thought = True
        return self._speech.said(content)

    def end(self) -> ChatCounts:
        """Return the counts at the end of the stream.

        Raises:
            EngineError: the answer is not complete.
        """
        if self.counts is None:
            raise EngineError(f"{self._model} stopped before its answer was complete")
        return self.counts


def _counts(entry: dict[str, Json], *, is_thought: bool) -> ChatCounts:
    read, written = map(entry.get, ("prompt_eval_count", "eval_count"))
    return ChatCounts(
        number(read, MAXIMUM_TOKENS),
        number(written, MAXIMUM_TOKENS),
        entry.get("done_reason") == "stop",
        is_thought,
        number(entry.get("prompt_eval_duration"), LONGEST_NANOSECONDS) / 1e9,
        # A count of zero is left out.
        is_reported=all(each is None or is_count(each) for each in (read, written)),
    )


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
        tokens = number(int(needed[1]), MAXIMUM_TOKENS) if needed else 0
        raise ContextExceededError(failure[:300], tokens or None)
    if "does not support thinking" in failure:
        raise ThinkingUnsupportedError(f"{model} does not support thinking")
    raise EngineError(f"Ollama returned an error (HTTP {status}): {failure[:300]}")


def context_length_of(shown: Json) -> int | None:
    """Return the maximum context that the description of a model reports."""
    lengths = [
        number(value, MAXIMUM_TOKENS)
        for name, value in object_of(shown, "model_info").items()
        if name.endswith(".context_length")
    ]
    return next((length for length in lengths if length), None)


def loaded_context_of(loaded: Json, model: str) -> int | None:
    """Return the context that a model is loaded with; ``None``: it is not loaded, or nothing says."""
    for entry in _entries(loaded):
        if isinstance(entry, dict) and canonical_model(text_of(entry, "name")) == model:
            return number(entry.get("context_length"), MAXIMUM_TOKENS) or None
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
    details, capabilities = object_of(entry, "details"), given.get("capabilities")
    return LocalModel(
        name=name,
        digest=text_of(entry, "digest")[:LONGEST_TEXT],
        size_bytes=number(given.get("size"), LARGEST_MODEL),
        parameter_size=printable(text_of(details, "parameter_size")[:LONGEST_TEXT]),
        context_length=number(details.get("context_length"), MAXIMUM_TOKENS) or None,
        capabilities=(
            frozenset(encodable(each) for each in capabilities if isinstance(each, str))
            if isinstance(capabilities, list)
            else None
        ),
        is_loaded=is_loaded,
        is_passed_on=bool(text_of(entry, "remote_host") or text_of(entry, "remote_model")),
    )


def _entries(listing: Json) -> list[Json]:
    found = listing.get("models") if isinstance(listing, dict) else None
    return found[:MOST_MODELS] if isinstance(found, list) else []
