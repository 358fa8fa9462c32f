"""HTTP to a team's server."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import httpx2

from immunos_mcp.engines.responses import body_of
from immunos_mcp.errors import ImmunosError, NotAllowedError
from immunos_mcp.gateway.membership import is_on_this_machine
from immunos_mcp.gateway.replies import LARGEST_REPLY, Answer, read_reply, refusal_of
from immunos_mcp.gateway_messages import (
    LARGEST_REQUEST,
    PATH,
    VERSION,
    GatewayIdentity,
    GatewayReply,
)
from immunos_mcp.rules.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_REDIRECTS = range(300, 400)
_NOT_UNDERSTOOD = frozenset({HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})


class TeamAwayError(ImmunosError):
    """The team's server gives no usable answer now; the text says why."""


class NotAskedError(TeamAwayError):
    """The team's server was not asked, since it gave no answer a moment ago."""


class NotUnderstoodError(TeamAwayError):
    """The team's server does not take what was sent.

    Attributes:
        is_too_large: whether there was too much of it.
    """

    def __init__(self, words: str, *, is_too_large: bool) -> None:
        super().__init__(words)
        self.is_too_large = is_too_large


class TeamServer(Protocol):
    """A team's server."""

    async def ask(self, body: bytes, seconds: float) -> GatewayReply:
        """Send a request and return the reply.

        Raises:
            TeamAwayError: there is none in time.
            NotAllowedError: the token is not good.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class TeamConnection:
    """The connections to one server; an event loop must run."""

    def __init__(self, url: str, token: str) -> None:
        """Prepare to connect; ``token`` is empty where the server asks for none."""
        self._url = url
        self._client = httpx2.AsyncClient(
            # A proxy for the internet would swallow calls to this machine.
            trust_env=not is_on_this_machine(url),
            # The environment may name the certificates of a company (SSL_CERT_FILE), here too.
            verify=httpx2.create_ssl_context() if url.startswith("https:") else False,
            # A few compressed bytes may stand for any number.
            headers={
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def identity(self, seconds: float) -> GatewayIdentity:
        """Return whose token it is; raises as ``ask`` does."""
        identity = await self._answer("GET", b"", seconds, GatewayIdentity)
        if identity.version != VERSION:
            raise TeamAwayError(
                f"{self._url} speaks version {identity.version} of the team's protocol, and this"
                f" program version {VERSION}; upgrade the older of the two"
            )
        return identity

    async def ask(self, body: bytes, seconds: float) -> GatewayReply:
        """Send a request and return the reply.

        Raises:
            TeamAwayError: there is none in time.
            NotAllowedError: the token is not good.
        """
        return await self._answer("POST", body, seconds, GatewayReply)

    async def _answer(self, method: str, body: bytes, seconds: float, kind: type[Answer]) -> Answer:
        try:
            with anyio.fail_after(seconds):
                status, found = await self._sent(method, body, seconds)
        except (TimeoutError, httpx2.TimeoutException):
            raise TeamAwayError(f"{self._url} has not answered within {seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            detail = printable(str(error)[:200]) or type(error).__name__
            raise TeamAwayError(
                f"{self._url} cannot be reached ({detail}); {_remedy(detail)}"
            ) from None
        if status != HTTPStatus.OK:
            raise self._failure(status, found)
        try:
            return read_reply(found, kind)
        except ValueError:
            raise TeamAwayError(
                f"{self._url} does not answer as a team's server of this version does"
            ) from None

    async def _sent(self, method: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        async with self._client.stream(
            method, f"{self._url}{PATH}", content=body, timeout=seconds
        ) as response:
            return response.status_code, await body_of(response.aiter_raw(), LARGEST_REPLY)

    def _failure(self, status: int, body: bytes) -> ImmunosError:
        said = refusal_of(body)
        words = f": {said}" if said else ""
        if status in _REFUSED:
            return NotAllowedError(
                f"{self._url} does not accept the token{words}; ask an admin of the team for a new one,"
                f" then run `immunos-mcp join {self._url}` again"
            )
        if status in _NOT_UNDERSTOOD:
            is_too_large = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            hint = f"; a proxy before it must let {LARGEST_REQUEST >> 20} MiB pass"
            return NotUnderstoodError(
                f"{self._url} does not take what this version sends (HTTP {status}{words})"
                f"{hint if is_too_large else ''}",
                is_too_large=is_too_large,
            )
        hint = "; use the address that it leads to" if status in _REDIRECTS else ""
        return TeamAwayError(f"{self._url} answers HTTP {status}{words}{hint}")


def _remedy(detail: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in detail:
        return "if your company's own authority signed its certificate, name that one's in SSL_CERT_FILE"
    return "check the address and the network"


class BriefConnection:
    """The same for a command without an event loop: each request has its own."""

    def __init__(self, url: str, token: str) -> None:
        """Prepare to connect."""
        self._url = url
        self._token = token

    async def ask(self, body: bytes, seconds: float) -> GatewayReply:
        """Send a request and return the reply; nothing else runs meanwhile."""
        return self._run(lambda connection: connection.ask(body, seconds))

    async def close(self) -> None:
        """Do nothing: none is open."""

    def identity(self, seconds: float) -> GatewayIdentity:
        """Return whose token it is."""
        return self._run(lambda connection: connection.identity(seconds))

    def _run(self, work: Callable[[TeamConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        async def connected() -> Answer:
            connection = TeamConnection(self._url, self._token)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return anyio.run(connected)
