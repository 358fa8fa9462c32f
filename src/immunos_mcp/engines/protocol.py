"""What every local engine offers, whatever protocol it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.domain import Engine, LocalModel
    from immunos_mcp.engines.addresses import EngineAddress
    from immunos_mcp.engines.reading_speeds import ReadingSpeeds
    from immunos_mcp.engines.responses import ChatCounts

OnPiece: TypeAlias = Callable[[str], None]
"""Receives each piece of an answer as it arrives: its text, which is empty while the model thinks."""


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A request for a model's answer.

    Attributes:
        model: an installed model, by the engine's own name.
        messages: the conversation, ``role`` and ``content`` each.
        num_ctx: context in tokens, for prompt and answer together; engines with a fixed one ignore it.
        num_predict: the most tokens to generate, at least 1.
        silence_seconds: longest wait for a piece.
        first_seconds: longest wait for the first piece, with loading the model and reading the prompt;
            ``None``: as for the others.
        think: whether a thinking model should think; ``None``: its default.
        answer_schema: the JSON schema that the answer must have; ``None``: any text.
    """

    model: str
    messages: tuple[Mapping[str, str], ...]
    num_ctx: int
    num_predict: int
    silence_seconds: float
    first_seconds: float | None = None
    think: bool | None = None
    answer_schema: Mapping[str, Json] | None = None

    @property
    def patience(self) -> float:
        """Longest wait for the first piece."""
        return self.silence_seconds if self.first_seconds is None else self.first_seconds


class LocalEngine(Protocol):
    """A client of one engine.

    Attributes:
        where: its address.
        reading: how fast it read prompts so far.
        sets_context: whether a request says how large the context is to be.
    """

    where: EngineAddress
    reading: ReadingSpeeds
    sets_context: bool

    async def probe(self) -> Engine:
        """Return the state of the engine and its models; any failure becomes the state."""
        ...

    async def context_length(self, model: LocalModel) -> int | None:
        """Return a model's maximum context in tokens; ``None``: the engine does not report it.

        Raises:
            EngineError: the engine cannot be queried.
        """
        ...

    async def loaded_context(self, model: LocalModel) -> int | None:
        """Return the context that a model is loaded with; ``None``: it is not loaded, or nothing says."""
        ...

    async def chat(self, request: ChatRequest, on_piece: OnPiece) -> ChatCounts:
        """Have a model answer, piece by piece, and return the engine's counts; cancelling it stops the model.

        Raises:
            ModelMissingError: it is not installed.
            ContextExceededError: the conversation does not fit; it is never truncated.
            EngineBusyError: the engine is busy.
            EngineTimeoutError: it was silent for too long.
            EngineError: it failed or died while answering.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
