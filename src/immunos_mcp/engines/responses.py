"""What engines send, bounded in bytes and turned into values and errors.

Nothing in a response is trusted: texts may hold half of a surrogate pair, counts may not fit 64 bits,
and a line or a body may never end.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.engines.thoughts import ThoughtFilter
from immunos_mcp.errors import ImmunosError
from immunos_mcp.rules.formatting import encodable, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from immunos_mcp.answers.encoding import Json


LARGEST_ANSWER = 8 * 2**20
"""Bytes of a listing; a larger one is from no engine."""

LARGEST_LINE = 2**20
"""Bytes of one line of a chat, which holds a token or the counts."""

LARGEST_STREAM = 32 * 2**20
"""Bytes of a whole chat: several hundred for each of the most tokens that are ever requested."""

LARGEST_FAILURE = 2**16
"""Bytes that are read of an error."""

LONGEST_SECONDS = 86_400
MOST_MODELS = 2_000
LARGEST_MODEL = 2**62
LONGEST_TEXT = 200


class EngineError(ImmunosError):
    """The engine failed; the message has the reason and the fix."""


class EngineUnreachableError(EngineError):
    """Nothing at the address responds like the engine."""


class ModelMissingError(EngineError):
    """The model is not installed."""


class EngineBusyError(EngineError):
    """The engine has too much to do; try again later."""


class EngineTimeoutError(EngineError):
    """The engine sent nothing for longer than the prompt explains."""


class PromptCutError(EngineError):
    """The engine cut the prompt, although it was told not to."""


class ThinkingUnsupportedError(EngineError):
    """The model can neither think nor be told not to."""


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


class ChatCounts(NamedTuple):
    """The engine's own counts of a chat.

    Attributes:
        input_tokens: tokens of the prompt.
        output_tokens: tokens generated, including thinking.
        is_complete: whether the model finished, instead of reaching the limit.
        is_thought: whether the model thought to the end, without an answer.
        reading_seconds: how long the engine read the prompt; 0: it does not say.
        is_reported: whether the engine told its counts at all, and such as can be true.
        is_filtered: whether the engine's content filter ended the answer.
    """

    input_tokens: int
    output_tokens: int
    is_complete: bool
    is_thought: bool = False
    reading_seconds: float = 0.0
    is_reported: bool = True
    is_filtered: bool = False


async def body_of(chunks: AsyncIterator[bytes], most: int = LARGEST_ANSWER) -> bytes:
    """Return a whole body.

    Raises:
        ValueError: it is too long.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise ValueError(f"more than {most >> 20} MiB")
    return bytes(body)


async def failure_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Return the beginning of an error's body."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > LARGEST_FAILURE:
            break
    return bytes(body[:LARGEST_FAILURE])


class LineSplitter:
    """Splits a stream at newlines only: JSON may hold every other line separator unescaped."""

    def __init__(self) -> None:
        self._begun = b""
        self._size = 0

    def split(self, chunk: bytes) -> list[bytes]:
        """Return the lines that a chunk completes.

        Raises:
            ValueError: a line or the whole stream is too long.
        """
        self._size += len(chunk)
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        if len(self._begun) > LARGEST_LINE:
            raise ValueError(f"a line of more than {LARGEST_LINE >> 20} MiB")
        if self._size > LARGEST_STREAM:
            raise ValueError(f"an answer of more than {LARGEST_STREAM >> 20} MiB")
        return lines

    def rest(self) -> bytes:
        """Return the last line, which needs no newline."""
        return self._begun


class Speech:
    """The text of an answer, without what the model thinks in it.

    Attributes:
        has_thought: whether the model thought, in the answer or apart from it.
    """

    def __init__(self) -> None:
        self.has_thought = False
        self._thoughts = ThoughtFilter()
        self._has_spoken = False

    def said(self, text: str) -> str:
        """Return what a piece adds to the answer."""
        return self._spoken(self._thoughts.said(text))

    def rest(self) -> str:
        """Return what the end of the answer adds to it."""
        return self._spoken(self._thoughts.rest())

    def _spoken(self, text: str) -> str:
        self._has_spoken = self._has_spoken or bool(text.strip())
        return text

    @property
    def is_thought(self) -> bool:
        """Whether the model thought and said nothing."""
        return (self.has_thought or self._thoughts.has_thought) and not self._has_spoken


class Reply(Protocol):
    """The answer to a chat, in one engine's form.

    Attributes:
        counts: the engine's counts; ``None``: the answer goes on.
    """

    counts: ChatCounts | None

    def take(self, line: bytes) -> str | None:
        """Return the piece of the answer that a line is, empty for a thought; ``None``: it is none.

        Raises:
            EngineError: the model failed.
            ValueError: the line is not from such an engine.
        """
        ...

    def end(self) -> ChatCounts:
        """Return the counts at the end of the stream.

        Raises:
            EngineError: the answer is not complete.
        """
        ...


def number(value: Json, most: int, *, whole: bool = True) -> int:
    """Return a number, rounded down if it need not be whole; 0 for what is none, or cannot be true."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        return 0
    return int(value) if not whole or value == int(value) else 0


def is_count(value: Json) -> bool:
    """Return whether a value can be a number of tokens."""
    is_zero = value == 0 and not isinstance(value, bool)
    return is_zero or number(value, MAXIMUM_TOKENS) > 0


def error_of(body: bytes) -> str:
    """Return the text of an error as one line, in whatever form it came."""
    plain = body.decode(errors="replace")
    with suppress(ValueError):
        answer = parsed(body)
        plain = text_of(answer, "error") or text_of(object_of(answer, "error"), "message") or plain
    return one_line(plain)


def one_line(text: str) -> str:
    """Return a text as one line, without what a terminal would obey."""
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


def object_of(value: Json, name: str) -> dict[str, Json]:
    """Return an object that is a member of an object; empty if there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
