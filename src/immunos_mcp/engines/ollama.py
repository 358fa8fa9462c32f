"""The client of Ollama: its models, and chats.

Its responses and quirks were recorded from real Ollama code (0.33); the recordings are in
``tests/golden/ollama``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

import anyio
import httpx2
from msgspec.structs import replace

from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.engines import connection, ollama_responses, responses
from immunos_mcp.engines.connection import EngineConnection
from immunos_mcp.engines.ollama_responses import OllamaReply
from immunos_mcp.engines.reading_speeds import ReadingSpeeds
from immunos_mcp.engines.responses import ThinkingUnsupportedError
from immunos_mcp.rules.formatting import encodable, printable
from immunos_mcp.rules.names import canonical_model

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.domain import LocalModel
    from immunos_mcp.engines.addresses import EngineAddress
    from immunos_mcp.engines.protocol import ChatRequest, OnPiece
    from immunos_mcp.engines.responses import ChatCounts

KEEP_ALIVE = "10m"
"""How long the engine keeps a model in memory after a chat: tasks come in groups."""


class Ollama:
    """A client of one engine; use it as an async context manager.

    Attributes:
        where: its address.
        reading: how fast it read prompts so far.
        sets_context: a request says how large the context is to be.
    """

    sets_context = True

    def __init__(self, where: EngineAddress) -> None:
        self.where = where
        self.reading = ReadingSpeeds()
        self._context_lengths: dict[str, int | None] = {}
        self._connection = EngineConnection(where, "Ollama", "start it with `ollama serve`")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def probe(self) -> Engine:
        """Return the state of the engine and its models; any failure becomes the state."""
        return await self._connection.seen(self._seen, EngineState.NOT_OLLAMA)

    async def _seen(self) -> Engine:
        version = await self._connection.listing("/api/version")
        tags = await self._connection.listing("/api/tags")
        loaded = await self._connection.listing("/api/ps")
        return Engine(
            state=EngineState.UP,
            address=self.where.url,
            version=_version(version),
            models=ollama_responses.models_of(tags, loaded),
            seen_at=datetime.now(UTC),
        )

    async def context_length(self, model: LocalModel) -> int | None:
        """Return a model's maximum context in tokens; ``None``: the engine does not report it.

        Raises:
            EngineError: the engine cannot be queried.
        """
        if model.context_length is not None:
            return model.context_length
        content = model.digest or model.name
        if content not in self._context_lengths:
            with self._connection.translated(model.name):
                with anyio.fail_after(connection.SHOW_SECONDS):
                    shown = await self._shown(model.name)
            self._context_lengths[content] = ollama_responses.context_length_of(shown)
        return self._context_lengths[content]

    async def loaded_context(self, model: LocalModel) -> int | None:
        """Return the context that a model is loaded with; ``None``: it is not loaded, or nothing says."""
        try:
            with anyio.fail_after(connection.PROBE_SECONDS):
                loaded = await self._connection.listing("/api/ps")
        except (TimeoutError, ValueError, httpx2.HTTPError, responses.RefusedError):
            return None
        return ollama_responses.loaded_context_of(loaded, canonical_model(model.name))

    async def chat(self, request: ChatRequest, on_piece: OnPiece) -> ChatCounts:
        """Have a model answer, piece by piece, and return the engine's counts; cancelling it stops the model.

        Raises:
            ModelMissingError: it is not installed.
            ContextExceededError: the conversation does not fit; it is never truncated.
            EngineBusyError: the engine is busy.
            EngineTimeoutError: it was silent for too long.
            EngineError: it failed or died while answering.
        """
        try:
            return await self._answer(request, on_piece)
        except ThinkingUnsupportedError:
            if request.think is None:
                raise
            return await self._answer(replace(request, think=None), on_piece)

    async def _answer(self, request: ChatRequest, on_piece: OnPiece) -> ChatCounts:
        return await self._connection.chat(
            "/api/chat",
            _body(request),
            request,
            OllamaReply(request.model),
            on_piece,
            ollama_responses.raise_for,
        )

    async def _shown(self, model: str) -> Json:
        status, content = await self._connection.posted("/api/show", {"model": model})
        ollama_responses.raise_for(status, content, model)
        return responses.parsed(content)


def _body(request: ChatRequest) -> dict[str, Json]:
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [
            {name: encodable(text) for name, text in message.items()}
            for message in request.messages
        ],
        "stream": True,
        "truncate": False,
        "keep_alive": KEEP_ALIVE,
        "options": {"num_ctx": request.num_ctx, "num_predict": max(1, request.num_predict)},
    }
    if request.think is not None:
        body["think"] = request.think
    if request.answer_schema is not None:
        body["format"] = dict(request.answer_schema)
    return body


def _version(answer: Json) -> str:
    version = responses.text_of(answer, "version")[: responses.LONGEST_TEXT]
    return printable(version) or "unknown"
