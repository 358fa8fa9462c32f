"""Whether an engine is on this machine, by the addresses that its name stands for."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import anyio

RESOLVE_SECONDS = 1.0
"""How long a name may take to be resolved."""


async def is_on_this_machine(url: str) -> bool:
    """Return whether every address that a URL's host stands for is a loopback address.

    A name that cannot be resolved soon is not known to be one of this machine's.
    """
    host = urlsplit(url).hostname or "localhost"
    try:
        # Addresses may be written short (127.1), as clients of Ollama take them.
        return _is_loopback(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        pass
    try:
        with anyio.fail_after(RESOLVE_SECONDS):
            found = await anyio.getaddrinfo(host, None)
    except (OSError, ValueError, TimeoutError):
        return False
    return bool(found) and all(_is_loopback(place[0]) for *_, place in found)


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
