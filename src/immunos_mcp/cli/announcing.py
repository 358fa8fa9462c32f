"""Tells somebody else that a budget has reached a threshold: runs their command or calls their URL."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.errors import InvalidInputError, Problem

if TYPE_CHECKING:
    from immunos_mcp.answers.budgets import CheckedBudget

SECONDS = 30


def announce(found: CheckedBudget, command: str | None, url: str | None) -> str | None:
    """Run a command and call a URL with a budget; return what went wrong, or ``None``.

    The command gets the budget as JSON on standard input, and its name and level as the variables
    ``IMMUNOS_BUDGET`` and ``IMMUNOS_LEVEL``; the URL gets the same JSON by POST.
    """
    body = to_json(found).encode()
    try:
        if command is not None:
            _run(command, found, body)
        if url is not None:
            _post(url, body)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return str(error)
    return None


def _run(command: str, found: CheckedBudget, body: bytes) -> None:
    environment = {**os.environ, "IMMUNOS_BUDGET": found.name, "IMMUNOS_LEVEL": found.warning_level}
    subprocess.run(  # noqa: S603  # the user's own command, as typed
        shlex.split(command),
        input=body,
        env=environment,
        stdout=subprocess.DEVNULL,
        timeout=SECONDS,
        check=True,
    )


def _post(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    request = Request(url, body, headers)  # noqa: S310  # checked by check_url
    with urlopen(request, timeout=SECONDS):  # noqa: S310
        pass


def check_url(url: str | None) -> str | None:
    """Return a URL that can be called.

    Raises:
        InvalidInputError: it is none of HTTP.
    """
    if url is None or url.startswith(("http://", "https://")):
        return url
    expected = "an address that begins with http:// or https://"
    raise InvalidInputError(Problem("--webhook", url, expected))
