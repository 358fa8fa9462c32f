"""The real programs as a client meets them: JSON-RPC lines over pipes, and the command line.

Nothing here sleeps: every wait is for a line, for an exit, or for ``TIMEOUT_SECONDS``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sqlite3
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self, cast

import warm_starts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

JsonObject = dict[str, Any]

TIMEOUT_SECONDS = 60.0
AS_INSTALLED = (sys.executable, "-m", "immunos_mcp")
PROGRAM: tuple[str, ...] = AS_INSTALLED
"""What runs the program; the fixture ``programs_start_at_once`` replaces it."""

HANDSHAKE_VERSION = "2025-11-25"
CLIENT_INFO = {"name": "wire", "version": "1"}


def is_measured() -> bool:
    """Return whether the lines that programs run are counted; they write them down as they end."""
    return any(name.startswith("COVERAGE_PROCESS") for name in os.environ)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment with a home of its own and nothing else of the caller's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "PYTHONPATH"} or name.startswith("COVERAGE_")
    }
    return {**kept, "HOME": str(home), "IMMUNOS_OLLAMA_CHECK": "off", **variables}


def ledger_path(home: Path) -> Path:
    """Return where the programs keep their ledger unless told otherwise."""
    return home / ".immunos" / "db" / "immunos.db"


def run(
    home: Path,
    *arguments: str,
    program: Sequence[str] | None = None,
    variables: Mapping[str, str] | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [*(program or PROGRAM), *arguments]
    if warm_starts.is_forked(command) and len(stdin) < _IN_ANY_PIPE:
        return _run_forked(command, home, environment(home, **(variables or {})), stdin)
    return subprocess.run(
        command,
        env=environment(home, **(variables or {})),
        cwd=home,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def _run_forked(
    command: list[str], home: Path, variables: dict[str, str], stdin: str
) -> subprocess.CompletedProcess[str]:
    (taken, given), (out, out_end), (err, err_end) = os.pipe(), os.pipe(), os.pipe()
    os.write(given, stdin.encode())
    os.close(given)
    forked = warm_starts.Forked(command, variables, home, (taken, out_end, err_end))
    try:
        printed = _read_all(out, err)
    except TimeoutError:
        forked.kill()
        raise
    code = forked.wait(TIMEOUT_SECONDS)
    return subprocess.CompletedProcess(command, code, printed[out], printed[err])


def _read_all(*streams: int) -> dict[int, str]:
    """Read all that comes until the streams are closed, with line ends as in any text."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    came = dict.fromkeys(streams, b"")
    open_ones = set(streams)
    while open_ones:
        ready, _, _ = select.select(open_ones, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"still printing after {TIMEOUT_SECONDS} s: {came}")
        for stream in ready:
            part = os.read(stream, 1 << 16)
            came[stream] += part
            if not part:
                os.close(stream)
                open_ones.remove(stream)
    return {
        stream: text.decode().replace("\r\n", "\n").replace("\r", "\n")
        for stream, text in came.items()
    }


def run_json(home: Path, *arguments: str) -> Any:
    """Run a command that succeeds with ``--json`` and return what it printed."""
    done = run(home, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def rows(file: Path, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Read rows of a ledger past the program."""
    with contextlib.closing(sqlite3.connect(file, timeout=TIMEOUT_SECONDS)) as connection:
        return connection.execute(query, parameters).fetchall()


def is_made(file: Path) -> bool:
    """Return whether a ledger has its tables, which it gets all at once."""
    return file.exists() and rows(file, "SELECT 1 FROM sqlite_schema LIMIT 1") != []


def execute(file: Path, *statements: str) -> None:
    """Change a file past the program, each statement by itself."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def dump(file: Path) -> list[str]:
    """Return all that a ledger holds, a line each; nothing when there is no file."""
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(file, timeout=TIMEOUT_SECONDS)) as connection:
        listed = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
        ).fetchall()
        contents = (
            (name, *row)
            for kind, name, _ in listed
            if kind == "table"
            for row in connection.execute(f'SELECT * FROM "{name}"')
        )
        return [*map(repr, listed), *map(repr, contents)]


_IN_ANY_PIPE = 4096 // 4
"""Characters that fit whole, however little a pipe holds."""

KINDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
COUNTED = """
    SELECT session_id, provider, 0 AS is_measured, 1 AS records, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens
    FROM immunos_mcp_usage WHERE counted
    UNION ALL
    SELECT session_id, provider, 1, 1, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens
    FROM immunos_mcp_measured_usage AS usage JOIN immunos_mcp_session AS session
        ON measured_at >= started_at AND (ended_at IS NULL OR measured_at < ended_at)
    UNION ALL
    SELECT session_id, provider, 1, 1, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens
    FROM immunos_mcp_request_usage AS request JOIN immunos_mcp_session AS session
        ON finished_at >= started_at AND (ended_at IS NULL OR finished_at < ended_at)
    UNION ALL
    SELECT session_id, provider, 1, is_first, input_tokens, output_tokens,
        cache_creation_input_tokens, cache_read_input_tokens
    FROM immunos_mcp_side_usage AS side JOIN immunos_mcp_session AS session
        ON used_at >= started_at AND (ended_at IS NULL OR used_at < ended_at)
"""


def assert_sound(file: Path) -> None:
    """Check a ledger's integrity, and that every session's totals are the sums of its records.

    For ledgers whose sessions are bound to no folder.
    """
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]
    astray = rows(file, "PRAGMA foreign_key_check")
    assert [row for row in astray if row[0].startswith("immunos_mcp_")] == []
    parts = {
        "claude": "provider = 'claude'",
        "local": "provider = 'ollama'",
        "measured": "provider = 'claude' AND is_measured",
    }
    totals = ", ".join(f"{prefix}_{kind}" for prefix in parts for kind in KINDS)
    sums = ", ".join(
        f"coalesce(sum(counted.{kind}) FILTER (WHERE {part}), 0)"
        for part in parts.values()
        for kind in KINDS
    )
    assert rows(
        file,
        f"SELECT session_id, usage_records, {totals} FROM immunos_mcp_session ORDER BY session_id",
    ) == rows(
        file,
        f"SELECT session.session_id, coalesce(sum(counted.records), 0), {sums}"
        f" FROM immunos_mcp_session AS session LEFT JOIN ({COUNTED}) AS counted"
        " USING (session_id) GROUP BY 1 ORDER BY 1",
    )
    assert rows(
        file, "SELECT session_id, reason, decisions FROM immunos_mcp_session_reason ORDER BY 1, 2"
    ) == rows(
        file,
        "SELECT session_id, reason, count(*) FROM immunos_mcp_decision GROUP BY 1, 2 ORDER BY 1, 2",
    )
    assert (
        rows(
            file,
            "SELECT name FROM immunos_mcp_session WHERE ended_at IS NULL"
            " GROUP BY name HAVING count(*) > 1",
        )
        == []
    )


def _started(
    command: list[str], variables: dict[str, str], folder: str | Path, streams: Sequence[int]
) -> subprocess.Popen[bytes] | warm_starts.Forked:
    """Start a program with the streams, and close them here."""
    if warm_starts.is_forked(command):
        return warm_starts.Forked(command, variables, folder, streams)
    try:
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            command, env=variables, cwd=folder, stdin=stdin, stdout=stdout, stderr=stderr
        )
    finally:
        for stream in streams:
            os.close(stream)


class ServerGoneError(Exception):
    """The server closed its output."""


class ServerProcess:
    """The server as a subprocess, in the handshake era once ``initialize`` was called.

    It is started in ``folder``, or else at its home.

    Attributes:
        process: the subprocess.
        heard: messages that were no answer to a request of ours, in the order they came.
    """

    def __init__(
        self,
        home: Path,
        *arguments: str,
        program: Sequence[str] | None = None,
        variables: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        (taken, given), (printed, out) = os.pipe(), os.pipe()
        self.stdin = os.fdopen(given, "wb", 0)
        self.stdout = os.fdopen(printed, "rb", 0)
        self.process = _started(
            [*(program or PROGRAM), *arguments],
            environment(home, **(variables or {})),
            folder or home,
            (taken, out, os.dup(self._stderr.fileno())),
        )
        self.heard: list[JsonObject] = []
        self._received = b""
        self._requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server whatever it does."""
        if is_measured():
            self._end_by_itself()
        self.process.kill()
        self.process.wait(TIMEOUT_SECONDS)
        self.stdin.close()
        self.stdout.close()
        self._stderr.close()

    def _end_by_itself(self) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.stdin.close()
            self.process.wait(5)

    def initialize(self) -> JsonObject:
        """Shake hands and return what the server says of itself."""
        response = self.request(
            "initialize",
            {
                "protocolVersion": HANDSHAKE_VERSION,
                "capabilities": {},
                "clientInfo": CLIENT_INFO,
            },
        )
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        result: JsonObject = response["result"]
        return result

    def send_line(self, line: bytes) -> None:
        """Send bytes as one line."""
        left = memoryview(line + b"\n")
        while left:
            left = left[os.write(self.stdin.fileno(), left) :]

    def send(self, message: JsonObject) -> None:
        """Send a message."""
        self.send_line(json.dumps(message).encode())

    def post(self, method: str, params: JsonObject | None = None) -> int:
        """Send a request without waiting for its answer; return its id."""
        self._requests += 1
        message: JsonObject = {"jsonrpc": "2.0", "id": self._requests, "method": method}
        if params is not None:
            message["params"] = params
        self.send(message)
        return self._requests

    def post_call(self, tool: str, arguments: JsonObject) -> int:
        """Send a tool call without waiting for its answer; return its id."""
        return self.post("tools/call", {"name": tool, "arguments": arguments})

    def receive(self, timeout_seconds: float = TIMEOUT_SECONDS) -> JsonObject:
        """Return the next message; anything but a JSON object on a line fails the test.

        Raises:
            ServerGoneError: there is none, and there will be none.
            TimeoutError: there was none in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while b"\n" not in self._received:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.stdout], [], [], left)[0]:
                raise TimeoutError(f"no message within {timeout_seconds} s")
            received = os.read(self.stdout.fileno(), 1 << 20)
            if not received:
                assert self._received == b""
                raise ServerGoneError
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        message = cast("JsonObject", json.loads(line))
        assert type(message) is dict
        assert message["jsonrpc"] == "2.0"
        return message

    def wait_for(self, request_id: int | str | None) -> JsonObject:
        """Return the answer to a request; what comes before it goes to ``heard``."""
        while True:
            message = self.receive()
            if "method" not in message and message["id"] == request_id:
                return message
            self.heard.append(message)

    def request(self, method: str, params: JsonObject | None = None) -> JsonObject:
        """Send a request and return its answer."""
        return self.wait_for(self.post(method, params))

    def call(self, tool: str, **arguments: object) -> JsonObject:
        """Call a tool and return its result, be it an error of the tool."""
        result: JsonObject = self.request("tools/call", {"name": tool, "arguments": arguments})[
            "result"
        ]
        return result

    def answer(self, tool: str, **arguments: object) -> JsonObject:
        """Call a tool that succeeds and return its structured content."""
        result = self.call(tool, **arguments)
        assert not result.get("isError"), result
        content: JsonObject = result["structuredContent"]
        return content

    def refusal(self, tool: str, **arguments: object) -> str:
        """Call a tool that fails and return the text of its error."""
        result = self.call(tool, **arguments)
        assert result["isError"] is True, result
        assert "structuredContent" not in result
        (content,) = result["content"]
        text: str = content["text"]
        return text

    def finish(self) -> int:
        """Close the server's input and return its exit code."""
        self.stdin.close()
        return self.process.wait(TIMEOUT_SECONDS)

    def stderr(self) -> str:
        """Return what the server wrote to standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode()
