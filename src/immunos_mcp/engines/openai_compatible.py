"""The client of a server with OpenAI's protocol, such as llama.cpp's: its models, and chats.

Such a server decides on a model's context by itself; it is asked for it and never told.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.engines import openai_responses
from immunos_mcp.engines.connection import EngineConnection
from immunos_mcp.engines.openai_responses import OpenAIReply
from immunos_mcp.engines.reading_speeds import ReadingSpeeds
from immunos_mcp.engines.responses import RefusedError
from immunos_mcp.rules.formatting import encodable
from immunos_mcp.rules.names import canonical_model

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.domain import LocalModel
    from immunos_mcp.engines.addresses import EngineAddress
    from immunos_mcp.engines.protocol import ChatRequest, OnPiece
    from immunos_mcp.engines.responses import ChatCounts


class OpenAICompatible:
    """A client of one server.

    Attributes:
        where: its address.
        reading: how fast it read prompts so far.
        sets_context: a request cannot say how large the context is to be.
    """

    sets_context = False

    def __init__(self, name: str, where: EngineAddress) -> None:
        """Prepare to connect.

        Args:
            name: what the user calls it.
            where: its address, with or without the ``/v1`` of its paths.
        """
        self.where = where._replace(url=where.url.removesuffix("/v1"))
        self.reading = ReadingSpeeds()
        self._name = name
        self._connection = EngineConnection(self.where, name, "start that server")

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def probe(self) -> Engine:
        """Return the state of the server and its models; any failure becomes the state."""
        seen = await self._connection.seen(self._seen, EngineState.NOT_COMPATIBLE)
        return Engine(
            seen.state,
            seen.address,
            seen.version,
            seen.words,
            seen.models,
            seen.seen_at,
            name=self._name,
        )

    async def _seen(self) -> Engine:
        listing = await self._connection.listing("/v1/models")
        properties: Json = {}
        with suppress(ValueError, RefusedError):
            properties = await self._connection.listing("/props")
        models = openai_responses.models_of(listing, properties, self._name)
        return Engine(
            state=EngineState.UP,
            address=self.where.url,
            version=openai_responses.version_of(properties),
            models=MappingProxyType({canonical_model(model.name): model for model in models}),
            seen_at=datetime.now(UTC),
        )

    async def context_length(self, model: LocalModel) -> int | None:
        """Return the context that the server gave a model; ``None``: it does not say."""
        return model.context_length

    async def loaded_context(self, model: LocalModel) -> int | None:
        """Return the same: the context is what the server was started with."""
        return model.context_length

    async def chat(self, request: ChatRequest, on_piece: OnPiece) -> ChatCounts:
        """Have a model answer, piece by piece, and return the server's counts; cancelling it stops the model.

        Raises:
            ModelMissingError: it is not served.
            ContextExceededError: the conversation does not fit.
            EngineBusyError: the server is busy, or still loads the model.
            EngineTimeoutError: it was silent for too long.
            EngineError: it failed or died while answering.
        """
        return await self._connection.chat(
            "/v1/chat/completions",
            _body(request),
            request,
            OpenAIReply(request.model),
            on_piece,
            openai_responses.raise_for,
        )


def _body(request: ChatRequest) -> dict[str, Json]:
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [
            {name: encodable(text) for name, text in message.items()}
            for message in request.messages
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": max(1, request.num_predict),
    }
    if request.answer_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "strict": True,
                "schema": dict(request.answer_schema),
            },
        }
    return body
