"""HTTP to one engine: bounded listings, and answers that arrive in pieces.

The HTTP client is created at the first call.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import httpx2

from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.engines import responses
from immunos_mcp.engines.responses import (
    EngineError,
    EngineTimeoutError,
    EngineUnreachableError,
)
from immunos_mcp.rules.formatting import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.engines.addresses import EngineAddress
    from immunos_mcp.engines.protocol import ChatRequest, OnPiece
    from immunos_mcp.engines.responses import ChatCounts, Reply

CONNECT_SECONDS = 0.5
PROBE_SECONDS = 2.0
"""Timeout of a probe of the engine; probes run in the background."""

SHOW_SECONDS = 10.0
"""Timeout of a question about one model, and of the text of an error."""

GATHERING_SECONDS = 0.05
"""The longest that pieces are left to gather: reading them one by one costs twice the processor time."""

GATHERING_SHARE = 0.01
"""The most of an answer's time so far that this may be, since its end is noticed so much later."""

READ_AT_ONCE = 8
"""Pieces at the beginning of an answer that are not left to gather: short answers should not wait."""

LONGEST_READ = 0.001
"""A piece that took longer to come had not been sent before, so that there are none after it yet."""


class EngineConnection:
    """The connections to one engine.

    Attributes:
        where: its address.
    """

    def __init__(self, where: EngineAddress, title: str, remedy: str) -> None:
        """Prepare to connect.

        Args:
            where: the engine's address.
            title: what errors call it.
            remedy: what to do if it is not running.
        """
        self.where = where
        self._title = title
        self._remedy = remedy
        self._opened: httpx2.AsyncClient | None = None

    @property
    def _client(self) -> httpx2.AsyncClient:
        if self._opened is None:
            user, password = self.where.credentials or ("", "")
            # A password without a user is a key.
            key = {"Authorization": f"Bearer {password}"} if password and not user else {}
            self._opened = httpx2.AsyncClient(
                base_url=self.where.url,
                auth=(user, password) if user else None,
                # A proxy for the internet would swallow calls to this machine.
                trust_env=False,
                # Plain HTTP needs no certificates, and loading them takes a while.
                verify=self.where.url.startswith("https:"),
                # A few compressed bytes may stand for any number.
                headers={"Accept-Encoding": "identity", **key},
                timeout=httpx2.Timeout(PROBE_SECONDS, connect=CONNECT_SECONDS),
            )
        return self._opened

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened.aclose()

    async def seen(self, look: Callable[[], Awaitable[Engine]], otherwise: EngineState) -> Engine:
        """Return what a look at the engine finds; any failure becomes its state.

        Args:
            look: asks the engine.
            otherwise: the state if what responds is something else.
        """
        try:
            with anyio.fail_after(PROBE_SECONDS):
                return await look()
        except (TimeoutError, httpx2.TimeoutException):
            return self._failed(EngineState.SLOW, f"no response within {PROBE_SECONDS:g} s")
        except responses.RefusedError as refused:
            return self._failed(EngineState.REFUSED, str(refused))
        except (ValueError, httpx2.ProtocolError) as error:
            return self._failed(otherwise, str(error) or "unexpected response")
        except httpx2.HTTPError as error:
            return self._failed(EngineState.DOWN, str(error) or "no connection")

    def _failed(self, state: EngineState, detail: str) -> Engine:
        return Engine(
            state, self.where.url, words=printable(detail[:200]), seen_at=datetime.now(UTC)
        )

    async def listing(self, path: str) -> dict[str, Json]:
        """Return the object at a path.

        Raises:
            RefusedError: it needs credentials.
            ValueError: something else responds.
            httpx2.HTTPError: nothing responds.
        """
        async with self._client.stream("GET", path) as response:
            if response.status_code in {401, 403}:
                raise responses.RefusedError(f"HTTP {response.status_code}")
            if response.status_code != HTTPStatus.OK:
                raise ValueError(f"HTTP {response.status_code} at {path}")
            parsed = responses.parsed(await responses.body_of(response.aiter_raw()))
        if not isinstance(parsed, dict):
            raise ValueError(f"not an object at {path}")  # noqa: TRY004  # the response, not an argument
        return parsed

    async def posted(self, path: str, body: dict[str, Json]) -> tuple[int, bytes]:
        """Send an object; return the status and the body of the response."""
        async with self._client.stream("POST", path, json=body) as response:
            return response.status_code, await responses.body_of(response.aiter_raw())

    async def chat(
        self,
        path: str,
        body: dict[str, Json],
        request: ChatRequest,
        reply: Reply,
        on_piece: OnPiece,
        raise_for: Callable[[int, bytes, str], None],
    ) -> ChatCounts:
        """Send a chat, pass its pieces on as they arrive, and return its counts.

        Args:
            path: where to send it.
            body: it, in the engine's form.
            request: it, for its time limits.
            reply: reads the answer.
            on_piece: receives each piece.
            raise_for: raises the error that a status and a body are.

        Raises:
            EngineError: of any kind.
        """
        # The scope below limits the time of every read, which is longer for the first one.
        limits = httpx2.Timeout(None, connect=CONNECT_SECONDS)
        with self.translated(request.model), anyio.fail_after(request.patience) as scope:
            async with self._client.stream("POST", path, json=body, timeout=limits) as response:
                if response.status_code != HTTPStatus.OK:
                    failure = b""
                    with anyio.move_on_after(SHOW_SECONDS):
                        failure = await responses.failure_of(response.aiter_raw())
                    raise_for(response.status_code, failure, request.model)
                return await _read(response.aiter_raw(), reply, request, on_piece, scope)

    @contextmanager
    def translated(self, model: str) -> Generator[None]:
        """Turn what goes wrong on the way into errors in words."""
        url = self.where.url
        try:
            yield
        except (TimeoutError, httpx2.TimeoutException):
            raise EngineTimeoutError(f"{model} at {url} sent nothing for too long") from None
        except httpx2.ConnectError:
            message = f"{self._title} is not running at {url}; {self._remedy}"
            raise EngineUnreachableError(message) from None
        except httpx2.HTTPError as error:
            detail = printable(str(error)[:300]) or type(error).__name__
            message = f"{self._title} broke off the answer of {model}: {detail}"
            raise EngineError(message) from None
        except ValueError as error:
            message = f"{url} does not respond like {self._title}: {printable(str(error)[:300])}"
            raise EngineUnreachableError(message) from None
        except EngineError as error:
            # Some servers repeat the key that they refuse.
            _, password = self.where.credentials or ("", "")
            if password and password in str(error):
                error.args = (str(error).replace(password, "***"),)
            raise


def gathering_seconds(elapsed: float) -> float:
    """Return how long pieces are left to gather of an answer that has taken so long."""
    return min(GATHERING_SECONDS, GATHERING_SHARE * elapsed)


async def _read(
    chunks: AsyncIterator[bytes],
    reply: Reply,
    request: ChatRequest,
    on_piece: OnPiece,
    scope: anyio.CancelScope,
) -> ChatCounts:
    """Read an answer; the scope ends when it takes too long for the next piece."""
    lines = responses.LineSplitter()
    patience = request.patience
    begun_at = asked_at = time.monotonic()
    arrived = 0
    async for chunk in chunks:
        arrived += 1
        for line in lines.split(chunk):
            if not line.strip():
                continue
            piece = reply.take(line)
            if piece is not None:
                patience = request.silence_seconds
                on_piece(piece)
            if reply.counts is not None:
                return reply.counts
        scope.deadline = anyio.current_time() + patience
        now = time.monotonic()
        if arrived == 1:
            begun_at = now
        if arrived > READ_AT_ONCE and now - asked_at > LONGEST_READ:
            await anyio.sleep(gathering_seconds(now - begun_at))
        asked_at = time.monotonic()
    if rest := lines.rest().strip():
        piece = reply.take(rest)
        if piece is not None:
            on_piece(piece)
    return reply.end()
