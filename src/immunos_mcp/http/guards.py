"""What stands between the network and the server: the host, the origin, and a body's size and time.

Each guard is an ASGI application around another.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 256 * 1024
"""Bytes of a body of most requests; the largest call of a tool needs a few thousand."""

BODY_SECONDS = 10.0
"""How long a request's body may take to arrive."""

PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that a probe asks for by whatever address it has; they tell nothing else."""


def refusal(status: HTTPStatus, words: str, **headers: str) -> JSONResponse:
    """Return the answer to a request that is refused."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": words}, status, named)


class HostGuard:
    """Refuses requests that name another host, or come from another host's page.

    A page that a user visits can make the browser send requests to any address, this machine's too.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "http" and scope["path"] not in PROBES:
            refused = self._refusal(dict(scope["headers"]))
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if not self._is_allowed(b"//" + headers.get(b"host", b"")):
            words = "unknown host; the server is started with --allowed-host for each name it has"
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, words)
        origin = headers.get(b"origin")
        if origin is not None and not self._is_allowed(origin):
            return refusal(HTTPStatus.FORBIDDEN, "requests of other sites' pages are refused")
        return None

    def _is_allowed(self, url: bytes) -> bool:
        try:
            host = urlsplit(url.decode("ascii")).hostname
        except ValueError:
            return False
        return host is not None and host.rstrip(".") in self._hosts


class BodyGuard:
    """Refuses bodies that are too large or too slow, before anything reads them."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY) -> None:
        """Let bodies of so many bytes through at most."""
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the whole body and pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            messages = await _whole_body(receive, self._largest)
        except _RefusedBody as error:
            refused = refusal(error.status, error.words, connection="close")
            await refused(scope, receive, send)
            return
        messages.reverse()

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)


class _RefusedBody(Exception):  # noqa: N818  # not an error of this program
    def __init__(self, status: HTTPStatus, words: str) -> None:
        self.status, self.words = status, words


async def _whole_body(receive: Receive, largest: int) -> list[Message]:
    """Receive a request's whole body in time, as the messages that it came in."""
    messages: list[Message] = []
    room = largest
    try:
        # Those of anyio take ten times as long, in each request.
        async with asyncio.timeout(BODY_SECONDS):
            while not messages or messages[-1].get("more_body", False):
                messages.append(await receive())
                room -= len(messages[-1].get("body", b""))
                if room < 0:
                    words = f"the body is larger than {largest} bytes"
                    raise _RefusedBody(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
    except TimeoutError:
        words = f"the body did not arrive within {BODY_SECONDS:g} s"
        raise _RefusedBody(HTTPStatus.REQUEST_TIMEOUT, words) from None
    return messages
