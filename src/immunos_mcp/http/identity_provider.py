"""Tokens of a company's identity provider: signed by it, for this server, and naming a person of a team."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.request import urlopen

import anyio.to_thread
import jwt

from immunos_mcp.errors import ImmunosError
from immunos_mcp.http.options import is_safe_url

if TYPE_CHECKING:
    from collections.abc import Callable

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""Signatures that only the provider can make; one that is made with a shared secret would not be."""

LEEWAY_SECONDS = 30
FETCH_SECONDS = 5
LARGEST_DOCUMENT = 256 * 1024
REFRESH_SECONDS = 60.0
"""How long keys are at least kept, whatever keys tokens name."""

logger = logging.getLogger(__name__)


class Issuer(NamedTuple):
    """An identity provider whose tokens are accepted.

    Attributes:
        url: its name, which its tokens have as ``iss``.
        audience: this server's URL, which they have in ``aud``.
        claim: what names the person in them.
        team_claim: what names the team in them; empty: nothing does.
    """

    url: str
    audience: str
    claim: str = "sub"
    team_claim: str = ""


class Named(NamedTuple):
    """Whom a token names: a person, and a team if the provider's tokens name one."""

    person: str
    team: str | None


class ProviderError(ImmunosError):
    """The identity provider's keys cannot be had."""


class IdentityProvider:
    """Finds out whom a provider's tokens name."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        """Accept the tokens of a provider; ``clock`` is the time in seconds, from any moment on."""
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")

    async def named(self, token: str) -> Named | None:
        """Return whom a token names; ``None``: it is not good, or does not say whom.

        Raises:
            ProviderError: the provider's keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("kid"))
            claims = {} if key is None else self._verified(token, key)
        except jwt.PyJWTError as error:
            logger.info("token of %s refused: %s", self._issuer.url, error)
            return None
        person, team = claims.get(self._issuer.claim), claims.get(self._issuer.team_claim)
        if not isinstance(person, str) or (self._issuer.team_claim and not isinstance(team, str)):
            return None
        return Named(person, team if self._issuer.team_claim else None)

    def _verified(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[*ALGORITHMS],
            audience=self._issuer.audience,
            issuer=self._issuer.url,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    async def _key(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return a key of the provider, which makes new ones from time to time."""
        if key_id not in self._keys and self._clock() - self._fetched_at > REFRESH_SECONDS:
            self._fetched_at = self._clock()
            self._keys = await anyio.to_thread.run_sync(self._fetched_keys)
        return self._keys.get(key_id)

    def _fetched_keys(self) -> dict[str | None, jwt.PyJWK]:
        place = f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration"
        described = _fetched(place)
        if described.get("issuer") != self._issuer.url:
            raise ProviderError(f"{place} describes another issuer")
        keys = _fetched(str(described.get("jwks_uri")))
        try:
            return {key.key_id: key for key in jwt.PyJWKSet.from_dict(keys).keys}
        except jwt.PyJWTError as error:
            raise ProviderError(f"the keys of {self._issuer.url} cannot be read: {error}") from None


def _fetched(url: str) -> dict[str, Any]:
    if not is_safe_url(url):
        raise ProviderError(f"{url} is no https address")
    try:
        with urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310  # checked above
            document = json.loads(answer.read(LARGEST_DOCUMENT))
    except (OSError, ValueError) as error:
        raise ProviderError(f"{url} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ProviderError(f"{url} has no JSON object")
    return cast("dict[str, Any]", document)
