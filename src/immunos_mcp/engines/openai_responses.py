"""What servers with OpenAI's protocol send, turned into values and errors.

Only what llama.cpp's server sends was seen from the real program; the rest follows the documentation of the
others (LM Studio, vLLM, MLX).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from immunos_mcp.domain import MAXIMUM_TOKENS, LocalModel
from immunos_mcp.engines.responses import (
    LARGEST_MODEL,
    LONGEST_SECONDS,
    MOST_MODELS,
    ChatCounts,
    ContextExceededError,
    EngineBusyError,
    EngineError,
    ModelMissingError,
    Speech,
    error_of,
    is_count,
    number,
    object_of,
    one_line,
    parsed,
    text_of,
)
from immunos_mcp.rules.names import LONGEST_MODEL_NAME, is_printable

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json

_CONTEXT_EXCEEDED = re.compile(
    r"exceeds? the available context|exceed_context_size|maximum context length"
    r"|context_length_exceeded|greater than the context length|context (?:size|window) exceeded",
    re.IGNORECASE,
)
_NEEDED = (
    re.compile(r'"n_prompt_tokens"\s*:\s*([0-9]{1,15})'),
    re.compile(r"\(([0-9]{1,15}) (?:tokens|in the messages)"),
    re.compile(
        r"(?:requested|has|contains|resulted in)(?: about)? ([0-9]{1,15})(?: input)? tokens"
    ),
)
_CONTEXTS = ("max_model_len", "loaded_context_length", "context_length", "max_context_length")
"""Where servers name the context of a model."""


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None


class _Line(msgspec.Struct):
    choices: list[_Choice]
    error: msgspec.Raw | None = None
    usage: msgspec.Raw | None = None


_LINE = msgspec.json.Decoder(_Line)


class OpenAIReply:
    """The answer to a chat, line by line of its event stream.

    Attributes:
        counts: the server's counts; ``None``: the answer goes on.
    """

    def __init__(self, model: str) -> None:
        self.counts: ChatCounts | None = None
        self._model = model
        self._speech = Speech()
        self._finish: str | None = None
        self._usage: dict[str, Json] = {}
        self._timings: dict[str, Json] = {}

    def take(self, line: bytes) -> str | None:
        """Return the piece of the answer that a line is, empty for a thought; ``None``: it is none.

        Raises:
            EngineError: the model failed.
            ValueError: the line is not from such a server.
        """
        name, colon, content = line.strip().partition(b":")
        if not name:
            return None  # a comment, which keeps the connection alive
        if name == b"error":
            self._fail(content)
        if name not in {b"data", b"event", b"id", b"retry"} or not colon:
            if not line.lstrip().startswith(b"{"):
                raise ValueError("not an event stream")
            # Some servers send an error as plain JSON after the status.
            self._fail(line)
        content = content.strip()
        if name != b"data" or not content:
            return None
        if content == b"[DONE]":
            self.counts = self.end()
            return self._speech.rest() or None
        return self._taken(content)

    def _taken(self, content: bytes) -> str | None:
        try:
            piece = _LINE.decode(content)
        except msgspec.MsgspecError:
            return self._taken_leniently(content)
        if len(piece.choices) != 1 or piece.error or piece.usage or piece.choices[0].finish_reason:
            return self._taken_leniently(content)
        delta = piece.choices[0].delta
        return self._said(delta.content, delta.reasoning_content or delta.reasoning)

    def _taken_leniently(self, content: bytes) -> str | None:
        """Do the same for the last lines, and for one that only a lenient parser reads."""
        entry = parsed(content)
        if not isinstance(entry, dict):
            raise ValueError("an event that is not an object")  # noqa: TRY004  # the response, not an argument
        if entry.get("error"):
            self._fail(content)
        self._usage = object_of(entry, "usage") or self._usage
        self._timings = object_of(entry, "timings") or self._timings
        choices = entry.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        self._finish = text_of(choice, "finish_reason") or self._finish
        delta = object_of(choice, "delta")
        thought = text_of(delta, "reasoning_content") or text_of(delta, "reasoning")
        return self._said(text_of(delta, "content"), thought)

    def _said(self, content: str | None, thought: str | None) -> str | None:
        if thought:
            self._speech.has_thought = True
        if not content:
            return "" if thought else None
        return self._speech.said(content)

    def _fail(self, content: bytes) -> None:
        raise EngineError(
            f"{self._model} failed while answering: {error_of(content.strip())[:300]}"
        )

    def end(self) -> ChatCounts:
        """Return the counts at the end of the stream, which may lack its end mark.

        Raises:
            EngineError: the answer is not complete.
        """
        if self._finish is None:
            raise EngineError(f"{self._model} stopped before its answer was complete")
        read, written = map(self._usage.get, ("prompt_tokens", "completion_tokens"))
        return ChatCounts(
            number(read, MAXIMUM_TOKENS),
            number(written, MAXIMUM_TOKENS),
            self._finish == "stop",
            self._speech.is_thought,
            number(self._timings.get("prompt_ms"), LONGEST_SECONDS * 1000, whole=False) / 1000,
            is_reported=is_count(read) and is_count(written),
            is_filtered=self._finish == "content_filter",
        )


def raise_for(status: int, body: bytes, model: str) -> None:
    """Raise the error that a response reports, if any.

    Raises:
        EngineError: or the kind of it that the response is.
    """
    if status == HTTPStatus.OK:
        return
    failure = error_of(body)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise EngineError(
            f"the engine of {model} refuses access (HTTP {status}); put its key into its address, as in"
            " http://:KEY@127.0.0.1:8080"
        )
    if status == HTTPStatus.NOT_FOUND:
        message = f"{model} is not served ({failure[:200]}); see `immunos-mcp models`"
        raise ModelMissingError(message)
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        raise EngineBusyError(f"the engine of {model} is busy: {failure[:200]}")
    plain = body.decode(errors="replace")
    if _CONTEXT_EXCEEDED.search(plain):
        found = next(filter(None, (pattern.search(plain) for pattern in _NEEDED)), None)
        tokens = number(int(found[1]), MAXIMUM_TOKENS) if found else 0
        raise ContextExceededError(failure[:300], tokens or None)
    raise EngineError(f"the engine of {model} returned an error (HTTP {status}): {failure[:300]}")


def models_of(listing: Json, properties: Json, engine: str) -> tuple[LocalModel, ...]:
    """Return the models that a server lists; names that are no names are left out.

    Args:
        listing: the answer of ``/v1/models``.
        properties: the answer of llama.cpp's ``/props``; an empty object elsewhere.
        engine: the engine's name.

    Raises:
        ValueError: it is not a list of models.
    """
    entries = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list of models at /v1/models")  # noqa: TRY004  # the response, not an argument
    slot = number(object_of(properties, "default_generation_settings").get("n_ctx"), MAXIMUM_TOKENS)
    found = (_model(entry, slot, engine) for entry in entries[:MOST_MODELS])
    return tuple(model for model in found if model is not None)


def _model(entry: Json, slot: int, engine: str) -> LocalModel | None:
    given = entry if isinstance(entry, dict) else {}
    served_as = text_of(given, "id")
    # llama.cpp's server calls a model by its file, unless it was given an alias.
    name = re.split(r"[/\\]", served_as)[-1] if _is_path(served_as) else served_as
    if not (0 < len(name) <= LONGEST_MODEL_NAME and is_printable(name)):
        return None
    meta, state = object_of(given, "meta"), text_of(object_of(given, "status"), "value")
    named = [number(given.get(each), MAXIMUM_TOKENS) for each in _CONTEXTS]
    contexts = [each for each in (slot, number(meta.get("n_ctx"), MAXIMUM_TOKENS), *named) if each]
    return LocalModel(
        name=name,
        size_bytes=number(meta.get("size"), LARGEST_MODEL),
        parameter_size=_parameters(number(meta.get("n_params"), LARGEST_MODEL)),
        context_length=min(contexts) if contexts else None,
        is_loaded=state == "loaded" or (not state and bool(meta or given.get("max_model_len"))),
        engine=engine,
        served_as=served_as if served_as != name else "",
    )


def _is_path(served_as: str) -> bool:
    return re.match(r"/|\.{1,2}/|[A-Za-z]:\\", served_as) is not None or served_as.endswith(".gguf")


def _parameters(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return ""


def version_of(properties: Json) -> str:
    """Return the version that llama.cpp's server names; empty where nothing does."""
    return one_line(text_of(properties, "build_info"))[:40]
