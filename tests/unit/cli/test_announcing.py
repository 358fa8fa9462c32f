"""Telling a command and an address that a budget is used up, whatever they are and answer."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from immunos_mcp.answers.budgets import CheckedBudget, CheckState
from immunos_mcp.cli import announcing
from immunos_mcp.domain import WarningLevel
from immunos_mcp.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

FOUND = CheckedBudget("d", CheckState.REACHED, "1 usd/day", WarningLevel.CRITICAL, 100.0)


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is sent, and gives one answer."""

    answer: ClassVar[bytes] = b"HTTP/1.0 204 No Content\r\n\r\n"
    heads: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.heads.append(f"{self.path} {self.headers['Authorization']}")
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Log nothing."""


@contextmanager
def hook(answer: bytes) -> Generator[tuple[int, list[str]]]:
    heads: list[str] = []
    kind = type("One", (Hook,), {"answer": answer, "heads": heads})
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port, heads
        finally:
            server.shutdown()
            thread.join()


def told(command: str | None = None, url: str | None = None) -> str | None:
    (listener,) = announcing.listeners(command, url)
    return listener.tell(FOUND)


def test_credentials_of_an_address_are_sent_and_never_shown() -> None:
    with hook(Hook.answer) as (port, heads):
        assert told(url=f"http://user:p%40ss@127.0.0.1:{port}/x?key=1#part") is None
    assert heads == ["/x?key=1 Basic dXNlcjpwQHNz"]
    problem = told(url=f"http://user:SECRET@127.0.0.1:{port}/?key=SECRET")
    assert problem is not None
    assert "SECRET" not in problem


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 500 \x1b[2Jboom\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nX: " + b"a" * 100_000,
        b"",
    ],
)
def test_a_webhook_that_does_not_take_it_is_reported(answer: bytes) -> None:
    with hook(answer) as (port, heads):
        problem = told(url=f"http://127.0.0.1:{port}/")
    assert problem is not None
    assert problem.startswith("the webhook ")
    assert problem.isprintable()
    assert len(heads) == 1


def test_a_webhook_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "SECONDS", 0.05)
    release = threading.Event()

    def post(*_: object) -> None:
        release.wait(10)

    monkeypatch.setattr(announcing, "_post", post)
    assert told(url="http://127.0.0.1:9/") == "the webhook did not answer within 0.05 s"
    release.set()


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "http://127.0.0.1:abc/", "http://127.0.0.1:99999/", "http://[::1", "ftp://x"),
        *("http://127.0.0.1/a b", "http://127.0.0.1/\x1b[2J", "http://\udcff/", "file:///x", ""),
        *("http://u:SECRET@127.0.0.1:x/", "http://127.0.0.1:x/?key=SECRET", f"http://{'a' * 99}/"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_told(url: str) -> None:
    with pytest.raises(InvalidInputError, match="--webhook") as refused:
        announcing.listeners(None, url)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("command", ["", "  ", 'a "b'])
def test_what_is_no_command_is_refused(command: str) -> None:
    with pytest.raises(InvalidInputError, match="--run"):
        announcing.listeners(command, None)


@pytest.mark.parametrize("command", ["/nonexistent/program", "false"])
def test_a_command_that_fails_is_reported(command: str) -> None:
    problem = told(command)
    assert problem is not None
    assert problem.startswith(command)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("cat > /dev/null", None),
        ("exit 3", "sh ended with exit code 3"),
        ("kill -TERM $$", "sh was ended by signal 15"),
    ],
)
def test_how_a_command_ended_is_said(script: str, problem: str | None) -> None:
    assert told(f"sh -c '{script}'") == problem


def test_what_a_command_that_hangs_has_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "SECONDS", 0.5)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # The end of the pipe comes once nobody has it open any more.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert told(f"sh -c 'sleep 60 > {pipe} & wait'") == "sh took more than 0.5 s"
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)
