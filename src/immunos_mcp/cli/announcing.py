"""Tells somebody else that a budget has reached a threshold: runs their command or calls their URL."""

from __future__ import annotations

import base64
import os
import shlex
import signal
import subprocess
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.answers.budgets import CheckedBudget

SECONDS = 30


class Listener(NamedTuple):
    """Somebody who is told.

    Attributes:
        kind: the option that names them.
        tell: tells them of a budget, and returns what went wrong, if anything did.
    """

    kind: str
    tell: Callable[[CheckedBudget], str | None]


class Webhook(NamedTuple):
    """An address that is called.

    Attributes:
        url: the address, without credentials.
        headers: what is sent along, the credentials included.
    """

    url: str
    headers: dict[str, str]


class _NoRedirect(HTTPRedirectHandler):
    """Treats a redirect as a failure: following it would turn the POST into a GET."""

    def redirect_request(self, *_: object) -> None:  # type: ignore[override]  # takes none of it
        return None


def listeners(command: str | None, url: str | None) -> list[Listener]:
    """Return who is told: a command, an address, both or nobody.

    The command gets the budget as JSON on standard input, and its name and level as the variables
    ``IMMUNOS_BUDGET`` and ``IMMUNOS_LEVEL``; the address gets the same JSON by POST.

    Raises:
        InvalidInputError: one of them cannot be used.
    """
    found: list[Listener] = []
    if command is not None:
        found.append(Listener("run", partial(_run, _words(command))))
    if url is not None:
        found.append(Listener("webhook", partial(_call, webhook(url))))
    return found


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        message = f"--run: cannot be split into words ({error})"
        raise InvalidInputError(Problem("--run", command, message=message)) from None
    if not words:
        raise InvalidInputError(Problem("--run", command, "a program with its arguments"))
    return words


def _run(words: list[str], found: CheckedBudget) -> str | None:
    environment = {**os.environ, "IMMUNOS_BUDGET": found.name, "IMMUNOS_LEVEL": found.warning_level}
    try:
        process = subprocess.Popen(  # noqa: S603  # the user's own command, as typed
            words,
            stdin=subprocess.PIPE,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    with process:
        try:
            process.communicate(to_json(found).encode(), SECONDS)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                return f"{words[0]} took more than {SECONDS} s"
            raise
    if process.returncode < 0:
        return f"{words[0]} was ended by signal {-process.returncode}"
    return f"{words[0]} ended with exit code {process.returncode}" if process.returncode else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it has started."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def webhook(url: str) -> Webhook:
    """Return the address that a URL means; a user and a password in it are sent as such.

    Raises:
        InvalidInputError: it is no address of HTTP; the message leaves out what may be secret.
    """
    expected = "an address that begins with http:// or https://"
    shown = url.partition("?")[0].rpartition("@")
    problem = Problem("--webhook", f"***@{shown[2]}" if shown[1] else shown[2], expected)
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        raise InvalidInputError(problem) from None
    is_plain = url.isascii() and is_printable(url) and " " not in url
    if parts.scheme not in {"http", "https"} or not host or not is_plain:
        raise InvalidInputError(problem)
    place = f"[{host}]" if ":" in host else host
    place += "" if port is None else f":{port}"
    headers = {"Content-Type": "application/json"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Webhook(urlunsplit((parts.scheme, place, parts.path, parts.query, "")), headers)


def _call(to: Webhook, found: CheckedBudget) -> str | None:
    """Send a budget to an address, for as long as anybody would wait for it."""
    problems: list[str | None] = []
    body = to_json(found).encode()
    # A time limit of sockets starts again with each byte that comes.
    thread = Thread(target=lambda: problems.append(_post(to, body)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    return problems[0] if problems else f"the webhook did not answer within {SECONDS} s"


def _post(to: Webhook, body: bytes) -> str | None:
    request = Request(to.url, body, to.headers)  # noqa: S310  # checked by webhook()
    try:
        with build_opener(_NoRedirect).open(request, timeout=SECONDS):
            return None
    except HTTPError as error:
        return f"the webhook answered with HTTP {error.code}"
    except URLError as error:
        return f"the webhook cannot be reached ({error.reason})"
    except (OSError, HTTPException, ValueError) as error:
        return f"the webhook did not answer ({type(error).__name__})"
