"""The client of the local engine (Ollama) over HTTP: its models, and chats. No other module talks to it.

Its responses and quirks were recorded from real Ollama code (0.33); the recordings are in
``tests/golden/ollama``.
"""

from __future__ import annotations

import re
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

import anyio
import httpx2

from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.engines import responses
from immunos_mcp.engines.reading_speeds import ReadingSpeeds
from immunos_mcp.engines.responses import (
    EngineError,
    EngineTimeoutError,
    EngineUnreachableError,
    Piece,
)
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules.formatting import encodable, printable
from immunos_mcp.rules.names import canonical_model

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.domain import LocalModel

DEFAULT_PORT = 11434
EXPECTED_ADDRESS = "an address that Ollama accepts, such as 127.0.0.1:11434 or https://host/path"

CONNECT_SECONDS = 0.5
PROBE_SECONDS = 2.0
"""Timeout of a probe of the engine; probes run in the background."""

SHOW_SECONDS = 10.0
"""Timeout of a question about one model, and of the text of an error."""

FRESH_SECONDS = 5.0
"""How long the result of a probe counts as current."""

KEEP_ALIVE = "10m"
"""How long the engine keeps a model in memory after a chat: tasks come in groups."""

_SCHEME = re.compile(r"^(https?)://", re.IGNORECASE)


class EngineAddress(NamedTuple):
    """Where the engine is.

    Attributes:
        url: its base URL, without credentials.
        credentials: user and password from the address, if any.
    """

    url: str
    credentials: tuple[str, str] | None = None

    def __repr__(self) -> str:
        """Leave the credentials out: this may end up in a log."""
        return f"EngineAddress({self.url!r})"


def address(text: str, field: str = "OLLAMA_HOST") -> EngineAddress:
    """Parse an address in any form that Ollama's own client accepts; empty means the default address.

    Raises:
        InvalidInputError: it is not an address; ``field`` names the option.
    """
    given = text.strip().strip("\"'").strip()
    scheme = match.group(1).lower() if (match := _SCHEME.match(given)) else ""
    rest = given[match.end() :] if match else given
    problem = Problem(field, _without_credentials(text), EXPECTED_ADDRESS)
    try:
        if re.fullmatch(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*", rest):
            rest = f"[{rest}]"
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        raise InvalidInputError(problem) from None
    if (
        re.search(r"://|[\s<>\"\\^`{|}]", rest)
        or parts.query
        or parts.fragment
        or "@" in parts.path
    ):
        raise InvalidInputError(problem)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # an address to connect to
    if port is None:
        port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    shown = f"[{host}]" if ":" in host else host
    url = f"{scheme or 'http'}://{shown}:{port}{parts.path.rstrip('/')}"
    try:
        httpx2.URL(url)
    except httpx2.InvalidURL:
        raise InvalidInputError(problem) from None
    credentials = None
    if parts.username is not None:
        credentials = (parts.username, parts.password or "")
    return EngineAddress(url, credentials)


def _without_credentials(text: str) -> str:
    """Return an address without whatever may be a user and a password in it."""
    _, at, place = text.rpartition("@")
    return f"***@{place}" if at else text


class Ollama:
    """A client of one engine; use it as an async context manager.

    The HTTP client is created at the first call.

    Attributes:
        where: its address.
        reading: how fast it read prompts so far.
    """

    def __init__(self, where: EngineAddress) -> None:
        self.where = where
        self.reading = ReadingSpeeds()
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
                # A few compressed bytes may stand for any number.
                headers={"Accept-Encoding": "identity"},
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
        except responses.RefusedError as refused:
            return self._engine(EngineState.REFUSED, str(refused))
        except (ValueError, httpx2.ProtocolError) as error:
            return self._engine(EngineState.NOT_OLLAMA, str(error) or "unexpected response")
        except httpx2.HTTPError as error:
            return self._engine(EngineState.DOWN, str(error) or "no connection")
        return Engine(
            state=EngineState.UP,
            address=self.where.url,
            version=_version(answers["/api/version"]),
            models=responses.models_of(answers["/api/tags"], answers["/api/ps"]),
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
                with anyio.fail_after(SHOW_SECONDS):
                    shown = await self._shown(model.name)
            self._context_lengths[content] = responses.context_length_of(shown)
        return self._context_lengths[content]

    async def loaded_context(self, model: str) -> int | None:
        """Return the context that a model is loaded with; ``None``: it is not loaded, or nothing says."""
        try:
            with anyio.fail_after(PROBE_SECONDS):
                loaded = await self._listing("/api/ps")
        except (TimeoutError, ValueError, httpx2.HTTPError, responses.RefusedError):
            return None
        return responses.loaded_context_of(loaded, canonical_model(model))

    async def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        *,
        num_ctx: int,
        num_predict: int,
        silence_seconds: float,
        first_seconds: float | None = None,
        think: bool | None = None,
    ) -> AsyncGenerator[Piece]:
        """Stream a model's answer; closing the generator stops it.

        Args:
            model: an installed model.
            messages: the conversation, ``role`` and ``content`` each.
            num_ctx: context in tokens, for prompt and answer together.
            num_predict: the most tokens to generate, at least 1.
            silence_seconds: longest wait for a piece.
            first_seconds: longest wait for the first piece, with loading the model and reading the prompt;
                ``None``: as for the others.
            think: whether a thinking model should think; ``None``: its default.

        Raises:
            ModelMissingError: it is not installed.
            ContextExceededError: the conversation does not fit; it is never truncated.
            EngineBusyError: the engine is busy.
            EngineTimeoutError: it was silent for too long.
            EngineError: it failed or died while answering.
        """
        patience = silence_seconds if first_seconds is None else first_seconds
        request: dict[str, Json] = {
            "model": model,
            "messages": [
                {name: encodable(text) for name, text in message.items()} for message in messages
            ],
            "stream": True,
            "truncate": False,
            "keep_alive": KEEP_ALIVE,
            "options": {"num_ctx": num_ctx, "num_predict": max(1, num_predict)},
        }
        if think is not None:
            request["think"] = think
        limits = httpx2.Timeout(patience, connect=CONNECT_SECONDS)
        async with self._translated(model):
            async with self._client.stream(
                "POST", "/api/chat", json=request, timeout=limits
            ) as response:
                cannot_think = await self._cannot_think(response, model, think=think)
                if not cannot_think:
                    lines = _awaited(
                        responses.lines_of(response.aiter_raw()), patience, silence_seconds
                    )
                    async with aclosing(responses.pieces_of(lines, model)) as pieces:
                        async for piece in pieces:
                            yield piece
            if cannot_think:
                async for piece in self.chat(
                    model,
                    messages,
                    num_ctx=num_ctx,
                    num_predict=num_predict,
                    silence_seconds=silence_seconds,
                    first_seconds=first_seconds,
                ):
                    yield piece

    async def _cannot_think(
        self, response: httpx2.Response, model: str, *, think: bool | None
    ) -> bool:
        """Return whether a chat failed only because its model cannot think, or not think.

        Raises:
            EngineError: it failed for another reason.
        """
        if response.status_code == HTTPStatus.OK:
            return False
        failure = b""
        with anyio.move_on_after(SHOW_SECONDS):
            failure = await responses.failure_of(response.aiter_raw())
        if think is None or "does not support thinking" not in responses.error_of(failure):
            responses.raise_for(response.status_code, failure, model)
        return True

    async def _shown(self, model: str) -> Json:
        async with self._client.stream("POST", "/api/show", json={"model": model}) as response:
            content = await responses.body_of(response.aiter_raw())
        responses.raise_for(response.status_code, content, model)
        return responses.parsed(content)

    async def _listing(self, path: str) -> Json:
        async with self._client.stream("GET", path) as response:
            if response.status_code in {401, 403}:
                raise responses.RefusedError(f"HTTP {response.status_code}")
            if response.status_code != HTTPStatus.OK:
                raise ValueError(f"HTTP {response.status_code} at {path}")
            parsed = responses.parsed(await responses.body_of(response.aiter_raw()))
        if not isinstance(parsed, dict):
            raise ValueError(f"not an object at {path}")  # noqa: TRY004  # the response, not an argument
        return parsed

    def _engine(self, state: EngineState, detail: str) -> Engine:
        return Engine(
            state, self.where.url, words=printable(detail[:200]), seen_at=datetime.now(UTC)
        )

    @asynccontextmanager
    async def _translated(self, model: str) -> AsyncGenerator[None]:
        try:
            yield
        except (TimeoutError, httpx2.TimeoutException):
            raise EngineTimeoutError(
                f"{model} at {self.where.url} sent nothing for too long"
            ) from None
        except httpx2.ConnectError:
            message = f"Ollama is not running at {self.where.url}; start it with `ollama serve`"
            raise EngineUnreachableError(message) from None
        except httpx2.HTTPError as error:
            detail = printable(str(error)[:300]) or type(error).__name__
            raise EngineError(f"Ollama broke off the answer of {model}: {detail}") from None
        except ValueError as error:
            message = (
                f"{self.where.url} does not respond like Ollama: {printable(str(error)[:300])}"
            )
            raise EngineUnreachableError(message) from None


async def _awaited(
    lines: AsyncIterator[bytes], first_seconds: float, silence_seconds: float
) -> AsyncGenerator[bytes]:
    """Pass lines on.

    Raises:
        TimeoutError: one did not come in time.
    """
    seconds = first_seconds
    while True:
        with anyio.fail_after(seconds):
            line = await anext(lines, None)
        if line is None:
            return
        yield line
        seconds = silence_seconds if line.strip() else seconds


def _version(answer: Json) -> str:
    version = responses.text_of(answer, "version")[: responses.LONGEST_TEXT]
    return printable(version) or "unknown"


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
