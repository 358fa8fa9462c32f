"""The client of the local engine (Ollama) over HTTP: its models, and chats. No other module talks to it.

Its responses and quirks were recorded from real Ollama code (0.33); the recordings are in
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
PROBE_SECONDS = 2.0
"""Timeout of a probe of the engine; probes run in the background."""

LARGEST_ANSWER = 8 * 2**20
"""Bytes of a listing, or of one line of a chat; a larger response is not from Ollama."""

FRESH_SECONDS = 5.0
"""How long the result of a probe counts as current."""

_SCHEME = re.compile(r"^(https?)://", re.IGNORECASE)


class EngineError(ImmunosError):
    """The engine failed; the message has the reason and the fix."""


class EngineUnreachableError(EngineError):
    """Nothing at the address responds like Ollama."""


class ModelMissingError(EngineError):
    """The model is not installed."""


class EngineBusyError(EngineError):
    """The engine has too much to do; try again later."""


class ContextExceededError(EngineError):
    """The task does not fit the requested context.

    Attributes:
        needed_tokens: the tokens of the task by the engine's count; ``None``: not reported.
    """

    def __init__(self, message: str, needed_tokens: int | None) -> None:
        super().__init__(message)
        self.needed_tokens = needed_tokens


class EngineAddress(NamedTuple):
    """Where the engine is.

    Attributes:
        url: its base URL, without credentials.
        credentials: user and password from the address, if any.
    """

    url: str
    credentials: tuple[str, str] | None = None


def address(text: str, field: str = "OLLAMA_HOST") -> EngineAddress:
    """Parse an address in any form that Ollama's own client accepts; empty means the default address.

    Raises:
        InvalidInputError: it is not an address; ``field`` names the option.
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
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # an address to connect to
    if port is None:
        port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    shown = f"[{host}]" if ":" in host else host
    credentials = None
    if parts.username is not None:
        credentials = (parts.username, parts.password or "")
    path = parts.path.rstrip("/")
    return EngineAddress(f"{scheme or 'http'}://{shown}:{port}{path}", credentials)


class Piece(NamedTuple):
    """A part of a chat's answer, as it arrives.

    Attributes:
        text: empty while the model thinks.
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
    """

    input_tokens: int
    output_tokens: int
    is_complete: bool


class Ollama:
    """A client of one engine; use it as an async context manager.

    The HTTP client is created at the first call.
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
                # A proxy for the internet would swallow calls to this machine.
                trust_env=False,
                # Plain HTTP needs no certificates, and loading them takes a while.
                verify=self.where.url.startswith("https:"),
                timeout=httpx2.Timeout(PROBE_SECONDS, connect=CONNECT_SECONDS),
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

    async def probe(self) -> Engine:
        """Return the state of the engine and its models; any failure becomes the state."""
        answers: dict[str, Json] = {}

        async def ask(path: str) -> None:
            answers[path] = await self._listing(path)

        try:
            with anyio.fail_after(PROBE_SECONDS):
                await ask("/api/version")
                await ask("/api/tags")
                await ask("/api/ps")
        except (TimeoutError, httpx2.TimeoutException):
            return self._engine(EngineState.SLOW, f"no response within {PROBE_SECONDS:g} s")
        except _RefusedError as refused:
            return self._engine(EngineState.REFUSED, str(refused))
        except (ValueError, httpx2.ProtocolError) as error:
            return self._engine(EngineState.NOT_OLLAMA, str(error) or "unexpected response")
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
        """Return a model's maximum context in tokens; ``None``: the engine does not report it.

        Raises:
            EngineError: the engine cannot be queried.
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
        """Stream a model's answer; closing the generator stops it.

        Args:
            model: an installed model.
            messages: the conversation, ``role`` and ``content`` each.
            num_ctx: context in tokens, for prompt and answer together.
            num_predict: the most tokens to generate, at least 1.
            silence_seconds: longest wait for the next piece, including loading the model.
            think: whether a thinking model should think; ``None``: its default.

        Raises:
            ModelMissingError: it is not installed.
            ContextExceededError: the conversation does not fit; it is never truncated.
            EngineBusyError: the engine is busy.
            EngineError: it failed or died while answering.
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
                    message = _error_of(response.text)
                    if think is None or "does not support thinking" not in message:
                        _raise_for(response.status_code, response.text, model)
                    cannot_think = True
                else:
                    cannot_think = False
                    async for piece in _pieces(response.aiter_lines(), model):
                        yield piece
            if cannot_think:
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
            raise ValueError(f"not an object at {path}")  # noqa: TRY004  # the response, not an argument
        return parsed

    def _engine(self, state: EngineState, detail: str) -> Engine:
        return Engine(state, self.where.url, words=detail[:200], seen_at=datetime.now(UTC))

    @asynccontextmanager
    async def _translated(self, model: str) -> AsyncGenerator[None]:
        try:
            yield
        except httpx2.TimeoutException:
            raise EngineError(f"{model} at {self.where.url} sent nothing for too long") from None
        except httpx2.ConnectError:
            message = f"Ollama is not running at {self.where.url}; start it with `ollama serve`"
            raise EngineUnreachableError(message) from None
        except httpx2.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise EngineError(f"Ollama broke off the answer of {model}: {detail}") from None
        except ValueError as error:
            message = f"{self.where.url} does not respond like Ollama: {error}"
            raise EngineUnreachableError(message) from None


class _RefusedError(Exception):
    """The engine requires credentials."""


async def _pieces(lines: AsyncIterator[str], model: str) -> AsyncIterator[Piece]:
    async for line in lines:
        if not line.strip():
            continue
        if len(line) > LARGEST_ANSWER:
            raise ValueError("a line is too long")
        entry = _parsed(line.encode())
        failure = _text(entry, "error")
        if failure:
            raise EngineError(f"{model} failed while answering: {failure[:300]}")
        text = _text(_object(entry, "message"), "content")
        if isinstance(entry, dict) and entry.get("done") is True:
            yield Piece(text, _counts(entry))
            return
        yield Piece(text)
    raise EngineError(f"{model} stopped before its answer was complete")


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
    failure = _error_of(body)
    if status == HTTPStatus.NOT_FOUND:
        raise ModelMissingError(f"{model} is not installed; get it with `ollama pull {model}`")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise EngineBusyError(f"Ollama is busy: {failure[:200]}")
    if "exceed_context_size_error" in failure or "exceeds the available context" in failure:
        needed = re.search(r"n_prompt_tokens\W+(\d+)", failure) or re.search(
            r"\((\d+) tokens", failure
        )
        raise ContextExceededError(failure[:300], int(needed.group(1)) if needed else None)
    raise EngineError(f"Ollama returned an error (HTTP {status}): {failure[:300]}")


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
    """Keeps a recent state of the engine, without making its readers wait.

    ``run`` probes until it is cancelled; ``current`` may be called at any time.
    """

    def __init__(self, engine: Ollama) -> None:
        self._engine = engine
        self._current = Engine(EngineState.UNKNOWN, engine.where.url)
        self._probed_at = float("-inf")
        self._wanted = anyio.Event()

    def current(self) -> Engine:
        """Return the last known state; if it is old, a new probe starts in the background."""
        if anyio.current_time() - self._probed_at > FRESH_SECONDS:
            self._wanted.set()
        return self._current

    async def fresh(self) -> Engine:
        """Return the last known state if it is recent; otherwise probe first."""
        if anyio.current_time() - self._probed_at <= FRESH_SECONDS:
            return self._current
        return await self.refreshed()

    async def refreshed(self) -> Engine:
        """Probe now and return the state.

        An engine that responded before and is slow now keeps its last known state.
        """
        seen = await self._engine.probe()
        if seen.state is not EngineState.SLOW or self._current.state is not EngineState.UP:
            self._current = seen
        self._probed_at = anyio.current_time()
        return self._current

    async def run(self, begin: anyio.Event | None = None) -> None:
        """Probe at the start, or once ``begin`` is set, and then whenever a recent state is wanted.

        The modules for the first probe take a while to load.
        """
        if begin is not None:
            await begin.wait()
        while True:
            await self.refreshed()
            self._wanted = anyio.Event()
            await self._wanted.wait()


def probe_now(where: EngineAddress) -> Engine:
    """Return the state of an engine, for a command without an event loop."""

    async def probe() -> Engine:
        client = Ollama(where)
        try:
            return await client.probe()
        finally:
            await client.close()

    return anyio.run(probe)
