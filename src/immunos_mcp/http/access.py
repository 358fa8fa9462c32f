"""Who sends a request: its token, who holds it, and how often it may be used."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from mcp.server.auth.middleware.bearer_auth import (
    AuthenticatedUser,
    BearerAuthBackend,
    RequireAuthMiddleware,
)
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
)

from immunos_mcp.errors import ImmunosError
from immunos_mcp.http.guards import refusal
from immunos_mcp.people import hash_of
from immunos_mcp.rules.roles import Person  # noqa: TC001  # pydantic reads annotations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from starlette.authentication import BaseUser
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

    from immunos_mcp.http.options import HttpOptions
    from immunos_mcp.server.tool_call import HttpRequest

    HolderOf = Callable[[str], Awaitable["Holder | None"]]

CACHE_SECONDS = 30.0
"""How long it is remembered who holds a token, so that one that is revoked is good for no longer."""

MOST_CACHED = 10_000

BURST_SECONDS = 5
"""For how long a token may be used as often as it likes, as a multiple of its requests a second."""

LONGEST_TOKEN = 8192

COOKIE = "immunos_token"
"""Where a browser keeps the token of a login."""

MCP_PATH = "/mcp"

logger = logging.getLogger(__name__)


class Holder(NamedTuple):
    """Who holds a token: a person, and the team's name."""

    person: Person
    team: str


class KnownToken(AccessToken):
    """A token that is good.

    Attributes:
        person: who holds it.
        team: the name of the person's team.
    """

    person: Person
    team: str


class Verifier:
    """Finds out who holds a token, for the SDK."""

    def __init__(self, holder_of: HolderOf, clock: Callable[[], float] = time.monotonic) -> None:
        """Verify tokens.

        Args:
            holder_of: returns who holds a token; ``None``: it is not good.
            clock: the time in seconds, from any moment on.
        """
        self._holder_of = holder_of
        self._clock = clock
        self._known: dict[str, tuple[float, Holder | None]] = {}

    async def verify_token(self, token: str) -> KnownToken | None:
        """Return a token that is good; a holder is remembered for ``CACHE_SECONDS``."""
        if len(token) > LONGEST_TOKEN:
            return None
        hashed = hash_of(token)
        until, holder = self._known.get(hashed, (0.0, None))
        if self._clock() >= until:
            holder = await self._holder_of(token)
            self._remember(hashed, holder)
        if holder is None:
            return None
        person, team = holder
        return KnownToken(token=hashed, client_id=person.name, scopes=[], person=person, team=team)

    def _remember(self, hashed: str, holder: Holder | None) -> None:
        if len(self._known) >= MOST_CACHED:
            # Whoever tries tokens out fills it; those who hold one are looked up again.
            self._known.clear()
        self._known[hashed] = (self._clock() + CACHE_SECONDS, holder)


class Bearers(AuthenticationBackend):
    """Authenticates requests by the header, and those of pages by the cookie that a login made."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._by_header = BearerAuthBackend(verifier)

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Return who sends a request; ``None``: nobody that is known.

        Raises:
            AuthenticationError: that cannot be found out now.
        """
        try:
            return await self._by_header.authenticate(conn) or await self._by_cookie(conn)
        except ImmunosError as error:
            # Its text names the ledger's place, which is nothing for everybody.
            logger.error("tokens cannot be checked: %s", error)  # noqa: TRY400  # no bug
            raise AuthenticationError from None

    async def _by_cookie(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        # A browser adds it to requests that other pages make it send; so it is for reading alone.
        is_for_reading = conn.scope["method"] == "GET" and conn.scope["path"] != MCP_PATH
        token = conn.cookies.get(COOKIE) if is_for_reading else None
        known = None if token is None else await self._verifier.verify_token(token)
        return None if known is None else (AuthCredentials([]), AuthenticatedUser(known))


def unavailable(_conn: HTTPConnection, _error: AuthenticationError) -> Response:
    """Return the answer where nobody can be authenticated."""
    words = "the ledger cannot be used; the log and `immunos-mcp doctor` say why"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, words)


def known_token(request: HttpRequest | None) -> KnownToken | None:
    """Return the token of whoever sent a request; ``None``: the server asks for none."""
    return None if request is None else token_in(request.scope)


def token_in(scope: MutableMapping[str, Any]) -> KnownToken | None:
    """Return the token that a request was let in with, from what is known of the request."""
    user = scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        return None
    assert isinstance(user.access_token, KnownToken), "only these are let in"
    return user.access_token


def person_of(request: HttpRequest | None) -> Person | None:
    """Return who sent a request; ``None``: the server asks for no tokens."""
    known = known_token(request)
    return None if known is None else known.person


class _Allowance(NamedTuple):
    """How many requests a token may still make at once, and when that was so."""

    requests: float
    at: float


class RateGuard:
    """Refuses requests of a token that makes too many; each server counts for itself."""

    def __init__(
        self, app: ASGIApp, rate: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Let each token make so many requests a second on average (0: any number)."""
        self._app = app
        self._rate = rate
        self._clock = clock
        self._allowances: dict[str, _Allowance] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        user = scope.get("user")
        if self._rate and isinstance(user, AuthenticatedUser):
            seconds = self._seconds_to_wait(user.access_token.token)
            if seconds > 0:
                words = f"too many requests; this token may make {self._rate} a second"
                refused = refusal(
                    HTTPStatus.TOO_MANY_REQUESTS, words, retry_after=str(ceil(seconds))
                )
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _seconds_to_wait(self, token: str) -> float:
        now, most = self._clock(), float(self._rate * BURST_SECONDS)
        before = self._allowances.get(token, _Allowance(most, now))
        left = min(most, before.requests + (now - before.at) * self._rate)
        if left < 1:
            return (1 - left) / self._rate
        self._allowances[token] = _Allowance(left - 1, now)
        return 0.0


def protected(app: ASGIApp, options: HttpOptions) -> ASGIApp:
    """Return an application that only those who hold a token reach, if the server asks for tokens.

    Only where there is an identity provider do refusals name a place to ask for a token: some clients stop
    sending the token that they have when they see it.
    """
    if not options.needs_tokens:
        return app
    place = build_resource_metadata_url(AnyHttpUrl(options.audience)) if options.issuer else None
    return RequireAuthMiddleware(RateGuard(app, options.rate_limit), [], place)


def metadata_routes(options: HttpOptions) -> list[Route]:
    """Return the pages that say whose tokens the server accepts (RFC 9728)."""
    if not (options.issuer and options.needs_tokens):
        return []
    audience, issuer = AnyHttpUrl(options.audience), AnyHttpUrl(options.issuer)
    return create_protected_resource_routes(audience, [issuer])
