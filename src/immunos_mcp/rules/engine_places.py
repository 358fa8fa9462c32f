"""Where an engine is: on this machine, or where a task and its files would be sent away. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from immunos_mcp.domain import Switch

if TYPE_CHECKING:
    from immunos_mcp.rules.settings import Settings

_THIS_MACHINE = frozenset(
    {"localhost", "host.docker.internal", "gateway.docker.internal", "host.containers.internal"}
)
"""Names of this machine; the last ones are what containers call the machine they run on."""

_CREDENTIALS = re.compile(r"(?<=://)[^\s/\"'<>@]+(?=@)")


def is_remote(url: str) -> bool:
    """Return whether the engine at a URL is beyond this machine; an empty URL is not."""
    host = (urlsplit(url).hostname or "localhost").rstrip(".").lower()
    if host in _THIS_MACHINE or host.endswith(".localhost"):
        return False
    try:
        # Addresses may be written short (127.1), as clients of Ollama take them.
        found = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))
    except (OSError, ValueError):
        return True
    mapped = getattr(found, "ipv4_mapped", None)
    return not (mapped or found).is_loopback


def without_credentials(text: str) -> str:
    """Return a text with the users and passwords of the URLs in it replaced by asterisks."""
    return _CREDENTIALS.sub("***", text)


def is_unencrypted(url: str) -> bool:
    """Return whether whatever is sent to a URL can be read on the way."""
    return not url.lower().startswith("https:")


def notice(url: str, name: str = "Ollama") -> str | None:
    """Say that tasks leave this machine; ``None``: they do not."""
    if not is_remote(url):
        return None
    way = "unencrypted" if is_unencrypted(url) else "encrypted"
    return f"{name} is on another machine ({url}): tasks and their files are sent there {way}"


def refusal(url: str, settings: Settings, name: str = "OLLAMA_HOST") -> str | None:
    """Say why no task may be sent to a URL; ``None``: it may."""
    if not is_remote(url) or not is_unencrypted(url) or settings.remote_engine is Switch.ON:
        return None
    return (
        f"{name} is another machine ({url}), and plain HTTP would send the task and its files"
        " there unencrypted; use https, or allow it with `immunos-mcp config set remote_engine=on`"
    )
