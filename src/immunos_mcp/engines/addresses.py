"""Where an engine is, as an option gives it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from immunos_mcp.errors import InvalidInputError, Problem

OLLAMA_PORT = 11434
LLAMA_CPP_PORT = 8080

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


def address(
    text: str, field: str = "OLLAMA_HOST", default_port: int = OLLAMA_PORT
) -> EngineAddress:
    """Parse an address in any form that Ollama's own client accepts; empty means this machine.

    A password without a user (``http://:KEY@host``) is sent as a key.

    Raises:
        InvalidInputError: it is not an address; ``field`` names the option.
    """
    given = text.strip().strip("\"'").strip()
    scheme = match.group(1).lower() if (match := _SCHEME.match(given)) else ""
    rest = given[match.end() :] if match else given
    expected = f"an address such as 127.0.0.1:{default_port} or https://host/path"
    problem = Problem(field, _without_credentials(text), expected)
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
        port = {"http": 80, "https": 443}.get(scheme, default_port)
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
    """Return an address without whatever may be a user, a password or a key in it."""
    text, mark, _ = text.partition("?")
    _, at, place = text.rpartition("@")
    return (f"***@{place}" if at else text) + (f"{mark}***" if mark else "")
