"""The resources' URIs, and the session that each one shows."""

from __future__ import annotations

from urllib.parse import quote, unquote

STATUS_URI = "immunos://status"
CONFIG_URI = "immunos://config"
SESSION_STATUS_TEMPLATE = "immunos://sessions/{name}/status"

_PREFIX, _SUFFIX = SESSION_STATUS_TEMPLATE.split("{name}")


def session_status_uri(name: str) -> str:
    """Return the URI of a named session's status."""
    return f"{_PREFIX}{quote(name, safe='')}{_SUFFIX}"


def status_uris(name: str, default_session: str) -> tuple[str, ...]:
    """Return every URI that shows a session's status."""
    named = session_status_uri(name)
    return (STATUS_URI, named) if name == default_session else (named,)


def session_of(uri: str, default_session: str) -> str | None:
    """Return the session whose status a URI shows; ``None`` if it shows no status."""
    if uri == STATUS_URI:
        return default_session
    if not (uri.startswith(_PREFIX) and uri.endswith(_SUFFIX)):
        return None
    name = uri.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    if not name or "/" in name:
        return None
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        return None
