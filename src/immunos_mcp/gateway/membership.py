"""Where a team's server is, and the token for it, which is in a file of its own beside the ledger."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.options import LOOPBACK_HOSTS
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_TOKEN = 8192
LONGEST_URL = 2000

_EXPECTED_URL = "the https address of a team's server, such as https://budget.example.com"


def server_url(text: str) -> str:
    """Return the address of a team's server without the path that clients use.

    Raises:
        InvalidInputError: it is no address, holds credentials, or its traffic could be read on the way.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.username is not None or parts.password is not None:
        message = "url: must have no user and no password; the token is asked for"
        raise InvalidInputError(Problem("url", None, message=message))
    is_plain = parts.scheme == "http" and host in LOOPBACK_HOSTS
    is_one_word = is_printable(text) and text.isascii() and " " not in text
    if (
        not (host and is_one_word and (parts.scheme == "https" or is_plain))
        or len(text) > LONGEST_URL
    ):
        raise InvalidInputError(Problem("url", text, _EXPECTED_URL))
    if parts.query or parts.fragment:
        raise InvalidInputError(Problem("url", text, _EXPECTED_URL))
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/mcp')}"


def is_on_this_machine(url: str) -> bool:
    """Return whether no proxy belongs between here and a server."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


def checked_token(text: str, field: str) -> str:
    """Return a token without the line end that files have.

    Raises:
        InvalidInputError: it cannot be sent as one.
    """
    token = text.strip()
    if re.fullmatch(rf"[\x21-\x7e]{{0,{LONGEST_TOKEN}}}", token):
        return token
    message = f"{field}: must be a token in one line, as `immunos-mcp token create` prints it"
    raise InvalidInputError(Problem(field, None, message=message))


def read_token(file: Path) -> str | None:
    """Return the token in a file; ``None``: it cannot be read."""
    try:
        return checked_token(file.read_text(encoding="ascii"), str(file))
    except (OSError, ValueError, InvalidInputError):
        return None


def write_token(file: Path, token: str) -> None:
    """Store a token so that only this user can read it, in place of any earlier one.

    Raises:
        InvalidInputError: it cannot be stored there.
    """
    beside = _beside(file)
    try:
        # One that was killed left its file, and nothing else would ever remove it.
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as new:
            new.write(f"{token}\n")
        beside.replace(file)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        message = f"token: cannot be stored in {file} ({error.strerror})"
        raise InvalidInputError(Problem("token", None, message=message)) from None


def remove_token(file: Path) -> None:
    """Remove a token, and what a killed program left of another."""
    for each in (file, _beside(file)):
        each.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.new")
