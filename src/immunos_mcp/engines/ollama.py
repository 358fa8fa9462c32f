"""The local engine over HTTP: what it has, and one chat at a time. Nothing else speaks to Ollama.

How it answers, and what to beware of, was recorded from real Ollama code (0.33); the recordings are in
``tests/golden/ollama``.
"""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
import httpx2

from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.errors import ImmunosError, InvalidInputError, Problem
from immunos_mcp.rules.names import canonical_model

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

DEFAULT_PORT = 11434
EXPECTED_ADDRESS = "an address that Ollama accepts, such as 127.0.0.1:11434 or https://host/path"

CONNECT_SECONDS = 0.5
LOOK_SECONDS = 2.0
"""How long a look at the engine may take; it never holds anything else up."""

LARGEST_ANSWER = 8 * 2**20
"""Bytes of a listing, or of one line of a chat, beyond which it is no Ollama that answers."""

FRESH_SECONDS = 5.0
"""How long a look counts as the present."""

_SCHEME = re.compile(r"^(https?)://", re.IGNORECASE)


class EngineError(ImmunosError):
    """The engine did not do what it was asked; the words say why and what to do."""


class EngineUnreachableError(EngineError):
    """Nothing at the address answers as Ollama does."""


class ModelMissingError(EngineError):
    """The model is not installed."""


class EngineBusyError(EngineError):
    """The engine has more to do than it takes; later it may."""


class ContextExceededError(EngineError):
    """The task does not fit the context that was asked for.

    Attributes:
        needed_tokens: what the task takes, as the engine counted it; ``None``: it did not say.
    """

    def __init__(self, words: str, needed_tokens: int | None) -> None:
        super().__init__(words)
        self.needed_tokens = needed_tokens


class EngineAddress(NamedTuple):
    """Where the engine is.

    Attributes:
        url: its base, without credentials.
        credentials: ``user`` and ``password`` out of the address, if any.
    """

    url: str
    credentials: tuple[str, str] | None = None


def address(text: str, field: str = "OLLAMA_HOST") -> EngineAddress:
    """Read an address in any form that Ollama's own client takes; empty is the default one.

    Raises:
        InvalidInputError: it is none; ``field`` names the option.
    """
    given = text.strip().strip("\"'").strip()
    scheme = match.group(1).lower() if (match := _SCHEME.match(given)) else ""
    rest = given[match.end() :] if match else given
    if "://" in rest:
        raise InvalidInputError(Problem(field, text, EXPECTED_ADDRESS))
    try:
        if re.fullmatch(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*", rest):
            rest = f"[{rest}]"
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        raise InvalidInputError(Problem(field, text, EXPECTED_ADDRESS)) from None
    if re.search(r"[\s<>\"\\^`{|}]", rest) or parts.query or parts.fragment:
        raise InvalidInputError(Problem(field, text, EXPECTED_ADDRESS))
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # to be connected to
    if port is None:
        port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    shown = f"[{host}]" if ":" in host else host
    credentials = None
    if parts.username is not None:
        credentials = (parts.username, parts.password or "")
    path = parts.path.rstrip("/")
    return EngineAddress(f"{scheme or 'http'}://{shown}:{port}{path}", credentials)


class Piece(NamedTuple):
    """A part of a chat's answer, as it comes.

    Attributes:
        text: what was said; empty while the model thinks.
        final: the counts, with the last piece.
    """

    text: str
    final: ChatCounts | None = None


class ChatCounts(NamedTuple):
    """The engine's own counts of a chat.

    Attributes:
        input_tokens: tokens of the prompt.
        output_tokens: tokens made, thinking included.
        is_complete: whether the model came to its end, rather than to the limit.
    """

    input_tokens: int
    output_tokens: int
    is_complete: bool


class Ollama:
    """A client of one engine; use it as an async context manager.

    Nothing is opened before the first call, and loading the parts of HTTP waits until then too.
    """

    def __init__(self, where: EngineAddress) -> None:
        self.where = where
        self._context_lengths: dict[str, int | None] = {}
        self._opened: httpx2.AsyncClient | None = None

    @property
    def _client(self) -> httpx2.AsyncClient:
        if self._opened is None:
            self._opened = httpx2.AsyncClient(
                base_url=self.where.url,
                auth=self.where.credentials,
                # A proxy that is set for the internet would swallow calls to this machine.
                trust_env=False,
                # Plain HTTP has no certificates, and loading those there are takes a while.
                verify=self.where.url.startswith("https:"),
                timeout=httpx2.Timeout(LOOK_SECONDS, connect=CONNECT_SECONDS),
            )
        return self._opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.aclose()

    async def look(self) -> Engine:
        """Look what is there; whatever is wrong with the engine becomes its state."""
        answers: dict[str, Json] = {}

        async def ask(path: str) -> None:
            answers[path] = await self._listing(path)

        try:
            with anyio.fail_after(LOOK_SECONDS):
                await ask("/api/version")
                await ask("/api/tags")
                await ask("/api/ps")
        except (TimeoutError, httpx2.TimeoutException):
            return self._engine(EngineState.SLOW, f"no answer in {LOOK_SECONDS:g} s")
        except _RefusedError as refused:
            return self._engine(EngineState.REFUSED, str(refused))
        except (ValueError, httpx2.ProtocolError) as error:
            return self._engine(EngineState.NOT_OLLAMA, str(error) or "no Ollama")
        except httpx2.HTTPError as error:
            return self._engine(EngineState.DOWN, str(error) or "no connection")
        return Engine(
            state=EngineState.UP,
            address=self.where.url,
            version=_text(answers["/api/version"], "version") or "unknown",
            models=_models(answers["/api/tags"], answers["/api/ps"]),
            seen_at=datetime.now(UTC),
        )

    async def context_length(self, model: LocalModel) -> int | None:
        """Return the longest context a model takes, in tokens; ``None``: the engine does not say.

        Raises:
            EngineError: the engine cannot be asked.
        """
        if model.context_length is not None:
            return model.context_length
        content = model.digest or model.name
        if content not in self._context_lengths:
            async with self._translated(model.name):
                response = await self._client.post("/api/show", json={"model": model.name})
                _raise_for(response.status_code, response.text, model.name)
                shown = _parsed(response.content)
            lengths = [
                value
                for name, value in _object(shown, "model_info").items()
                if name.endswith(".context_length") and isinstance(value, int)
            ]
            self._context_lengths[content] = lengths[0] if lengths else None
        return self._context_lengths[content]

    async def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        *,
        num_ctx: int,
        num_predict: int,
        silence_seconds: float,
        think: bool | None = None,
    ) -> AsyncGenerator[Piece]:
        """Have a model answer, piece by piece; closing the generator stops it.

        Args:
            model: an installed model.
            messages: the conversation, ``role`` and ``content`` each.
            num_ctx: context in tokens, prompt and answer together.
            num_predict: most tokens to make, at least 1.
            silence_seconds: longest wait for the next piece, the first one's loading included.
            think: whether a thinking model is to think; ``None``: as it likes.

        Raises:
            ModelMissingError: it is not installed.
            ContextExceededError: the conversation does not fit; nothing is ever cut off.
            EngineBusyError: the engine is busy.
            EngineError: it failed, or died while answering.
        """
        request: dict[str, Json] = {
            "model": model,
            "messages": [dict(message) for message in messages],
            "stream": True,
            "truncate": False,
            "options": {"num_ctx": num_ctx, "num_predict": max(1, num_predict)},
        }
        if think is not None:
            request["think"] = think
        limits = httpx2.Timeout(silence_seconds, connect=CONNECT_SECONDS)
        async with self._translated(model):
            async with self._client.stream(
                "POST", "/api/chat", json=request, timeout=limits
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    await response.aread()
                    words = _error_of(response.text)
                    if think is None or "does not support thinking" not in words:
                        _raise_for(response.status_code, response.text, model)
                    refused_thinking = True
                else:
                    refused_thinking = False
                    async for piece in _pieces(response.aiter_lines(), model):
                        yield piece
            if refused_thinking:
                async for piece in self.chat(
                    model,
                    messages,
                    num_ctx=num_ctx,
                    num_predict=num_predict,
                    silence_seconds=silence_seconds,
                ):
                    yield piece

    async def _listing(self, path: str) -> Json:
        response = await self._client.get(path)
        if response.status_code in {401, 403}:
            raise _RefusedError(f"HTTP {response.status_code}")
        if response.status_code != HTTPStatus.OK or len(response.content) > LARGEST_ANSWER:
            raise ValueError(f"HTTP {response.status_code} at {path}")
        parsed = _parsed(response.content)
        if not isinstance(parsed, dict):
            raise ValueError(f"no object at {path}")  # noqa: TRY004  # of the answer
        return parsed

    def _engine(self, state: EngineState, words: str) -> Engine:
        return Engine(state, self.where.url, words=words[:200], seen_at=datetime.now(UTC))

    @asynccontextmanager
    async def _translated(self, model: str) -> AsyncGenerator[None]:
        try:
            yield
        except httpx2.TimeoutException:
            raise EngineError(f"{model} was silent for too long at {self.where.url}") from None
        except httpx2.ConnectError:
            words = f"no Ollama at {self.where.url}; start it: ollama serve"
            raise EngineUnreachableError(words) from None
        except httpx2.HTTPError as error:
            words = str(error) or type(error).__name__
            raise EngineError(
                f"Ollama ended the answer of {model} in the middle: {words}"
            ) from None
        except ValueError as error:
            words = f"{self.where.url} does not answer as Ollama does: {error}"
            raise EngineUnreachableError(words) from None


class _RefusedError(Exception):
    """The engine wants credentials."""


async def _pieces(lines: AsyncIterator[str], model: str) -> AsyncIterator[Piece]:
    async for line in lines:
        if not line.strip():
            continue
        if len(line) > LARGEST_ANSWER:
            raise ValueError("a line is too long")
        entry = _parsed(line.encode())
        words = _text(entry, "error")
        if words:
            raise EngineError(f"{model} failed in the middle of its answer: {words[:300]}")
        text = _text(_object(entry, "message"), "content")
        if isinstance(entry, dict) and entry.get("done") is True:
            yield Piece(text, _counts(entry))
            return
        yield Piece(text)
    raise EngineError(f"{model} ended in the middle of its answer")


def _counts(entry: dict[str, Json]) -> ChatCounts:
    def count(name: str) -> int:
        value = entry.get(name)
        return value if isinstance(value, int) and value >= 0 else 0

    return ChatCounts(
        count("prompt_eval_count"), count("eval_count"), entry.get("done_reason") == "stop"
    )


def _raise_for(status: int, body: str, model: str) -> None:
    if status == HTTPStatus.OK:
        return
    words = _error_of(body)
    if status == HTTPStatus.NOT_FOUND:
        raise ModelMissingError(f"{model} is not installed: ollama pull {model}")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise EngineBusyError(f"Ollama is busy: {words[:200]}")
    if "exceed_context_size_error" in words or "exceeds the available context" in words:
        needed = re.search(r"n_prompt_tokens\W+(\d+)", words) or re.search(r"\((\d+) tokens", words)
        raise ContextExceededError(words[:300], int(needed.group(1)) if needed else None)
    raise EngineError(f"Ollama refused (HTTP {status}): {words[:300]}")


def _error_of(body: str) -> str:
    try:
        return _text(json.loads(body), "error") or body
    except (ValueError, RecursionError):
        return body


def _parsed(content: bytes) -> Json:
    try:
        return cast("Json", json.loads(content))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _text(value: Json, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _object(value: Json, name: str) -> dict[str, Json]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _models(tags: Json, loaded: Json) -> dict[str, LocalModel]:
    running = {canonical_model(_text(entry, "name")) for entry in _entries(loaded)}
    models: dict[str, LocalModel] = {}
    for entry in _entries(tags):
        name = _text(entry, "name") or _text(entry, "model")
        if not name or not isinstance(entry, dict):
            continue
        details, capabilities = _object(entry, "details"), entry.get("capabilities")
        length, size = details.get("context_length"), entry.get("size")
        canonical = canonical_model(name)
        models[canonical] = LocalModel(
            name=name,
            digest=_text(entry, "digest"),
            size_bytes=size if isinstance(size, int) else 0,
            parameter_size=_text(details, "parameter_size"),
            context_length=length if isinstance(length, int) and length > 0 else None,
            capabilities=(
                frozenset(each for each in capabilities if isinstance(each, str))
                if isinstance(capabilities, list)
                else None
            ),
            is_loaded=canonical in running,
        )
    return models


def _entries(listing: Json) -> list[Json]:
    found = listing.get("models") if isinstance(listing, dict) else None
    return found if isinstance(found, list) else []


class EngineWatch:
    """Knows the engine as it lately was, without ever making its reader wait.

    ``run`` does the looking until it is cancelled; ``current`` may be read at any time.
    """

    def __init__(self, engine: Ollama) -> None:
        self._engine = engine
        self._current = Engine(EngineState.UNKNOWN, engine.where.url)
        self._looked_at = float("-inf")
        self._wanted = anyio.Event()

    def current(self) -> Engine:
        """Return what is known; a look that is old by now has a new one made meanwhile."""
        if anyio.current_time() - self._looked_at > FRESH_SECONDS:
            self._wanted.set()
        return self._current

    async def fresh(self) -> Engine:
        """Return what is known where that is the present, else look first."""
        if anyio.current_time() - self._looked_at <= FRESH_SECONDS:
            return self._current
        return await self.refreshed()

    async def refreshed(self) -> Engine:
        """Look now, and return what is there.

        An engine that answered before and is slow now is taken to have what it had.
        """
        seen = await self._engine.look()
        if seen.state is not EngineState.SLOW or self._current.state is not EngineState.UP:
            self._current = seen
        self._looked_at = anyio.current_time()
        return self._current

    async def run(self, begin: anyio.Event | None = None) -> None:
        """Look whenever somebody wants to know, and once at the start, or once ``begin`` is set.

        What is needed for the first look takes a while to load.
        """
        if begin is not None:
            await begin.wait()
        while True:
            await self.refreshed()
            self._wanted = anyio.Event()
            await self._wanted.wait()


def look_now(where: EngineAddress) -> Engine:
    """Look what is there, for a command without an event loop."""

    async def look() -> Engine:
        client = Ollama(where)
        try:
            return await client.look()
        finally:
            await client.close()

    return anyio.run(look)
