"""Calls per second over HTTP with 16 clients, and what a call takes of the server's CPU.

Each client has a connection of its own and makes one call at a time. The servers are measured in turn, a
second each. The clients are bytes on sockets, written before the clock starts, so that figures measure the
server. At the end the router's server is killed, and every answered decision must be in the ledger. With
``--address``, a router on PostgreSQL is measured too, and how often a call of it waits for the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from database_waits import WaitsCounted
from side_by_side import (
    Figure,
    argument_parser,
    environment,
    immunos_command,
    ledger_path,
    report,
    temporary_home,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENTS = 16
TASK = {"task_type": "code_review", "classification": "routine", "estimated_tokens": 3000}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Round(NamedTuple):
    """What was measured in a turn."""

    calls: int
    seconds: float
    cpu_seconds: float


class HttpServer:
    """A server process, with the request that it is measured with.

    Attributes:
        port: where it listens.
        answered: how many calls it has answered.
    """

    def __init__(self, command: Sequence[str], home: Path, tool: str, *, is_newer: bool) -> None:
        # Into a file, since nobody reads what the router logs of each request.
        with tempfile.TemporaryFile("w+", encoding="utf-8", dir=home) as said:
            self._process = subprocess.Popen(
                command, env=environment(home), stdout=said, stderr=subprocess.STDOUT
            )
            self.port = _port(said, self._process)
        self._request = request_of(tool, is_newer=is_newer)
        self.answered = 0

    def measure(self, seconds: float) -> Round:
        """Let all clients call for some seconds."""
        return asyncio.run(self._measure(seconds))

    async def _measure(self, seconds: float) -> Round:
        opened = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(CLIENTS)]
        cpu, begun = self._cpu_seconds(), time.perf_counter()
        made = await asyncio.gather(
            *(self._call(reader, writer, begun + seconds) for reader, writer in opened)
        )
        took, used = time.perf_counter() - begun, self._cpu_seconds() - cpu
        for _, writer in opened:
            writer.close()
        self.answered += sum(made)
        return Round(sum(made), took, used)

    async def _call(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float
    ) -> int:
        calls = 0
        while time.perf_counter() < until:
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200") or b'"isError":true' in body:
                raise SystemExit(f"{head!r} {body!r}")
            calls += 1
        return calls

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


def _port(said: TextIO, process: subprocess.Popen[bytes]) -> int:
    """Return the port in the first line that a server says."""
    while process.poll() is None:
        said.seek(0)
        line = said.readline()
        if line.endswith("\n"):
            return int(line.strip().removesuffix("/mcp").rpartition(":")[2])
        time.sleep(0.05)
    raise SystemExit("a server did not start")


def request_of(tool: str, *, is_newer: bool) -> bytes:
    """Return the request that calls a tool, of the newer era or of the handshake's."""
    params: dict[str, object] = {"name": tool, "arguments": TASK}
    headers = [
        "POST /mcp HTTP/1.1",
        "Host: 127.0.0.1:4780",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
    ]
    if is_newer:
        params["_meta"] = META
        headers += [
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Method: tools/call",
            f"Mcp-Name: {tool}",
        ]
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    body = json.dumps(message, separators=(",", ":")).encode()
    headers.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*headers, "", ""]).encode() + body


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=8, help="seconds that each server is measured"
    )
    parser.add_argument(
        "--address", help="postgresql:// address of a database to fill; its user may make tables"
    )
    given = parser.parse_args()
    other = (sys.executable, str(Path(__file__).with_name("http_servers.py")))
    serve = (*immunos_command(), "serve", "--http", "127.0.0.1:0", "--no-tokens")
    commands: list[tuple[str, Sequence[str], bool]] = [
        ("bare", (*other, "bare"), True),
        ("sdk", (*other, "sdk"), True),
        ("no-op", (*other, "no-op"), True),
        ("earlier", (*other, "no-op"), False),
        ("router", serve, True),
    ]
    if given.address:
        _migrate(given.address)
        commands.append(("database", (*serve, "--db", given.address), True))
    with temporary_home() as home:
        servers: dict[str, HttpServer] = {}
        try:
            for name, command, is_newer in commands:
                tool = "route_task" if name in {"router", "database"} else "no_op"
                servers[name] = HttpServer(command, home, tool, is_newer=is_newer)
            rounds = _measured(servers, given.rounds)
            waits = _waits(given.address, serve, home) if given.address else None
        finally:
            for server in servers.values():
                server.kill()
        with closing(sqlite3.connect(ledger_path(home))) as ledger:
            (logged,) = ledger.execute("SELECT count(*) FROM immunos_mcp_decision").fetchone()
    answered = servers["router"].answered
    if logged != answered:
        raise SystemExit(f"{answered} decisions were answered, {logged} are in the ledger")
    figures = _figures(rounds)
    if waits is not None:
        figures.append(Figure("the same, waits for the database in a call", waits, "times", 4.0))
    report(figures, given.json, [f"all {logged} answered decisions are in the ledger"])


def _migrate(address: str) -> None:
    command = (*immunos_command(), "db", "migrate", "--db", address)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _waits(address: str, serve: Sequence[str], home: Path) -> float:
    """Return how often a call waits for the database, of a server that sees it through a counter."""
    with WaitsCounted(address) as counted:
        server = HttpServer((*serve, "--db", counted.address), home, "route_task", is_newer=True)
        try:
            server.measure(1.0)
            before, answered = counted.waits, server.answered
            server.measure(2.0)
            return (counted.waits - before) / (server.answered - answered)
        finally:
            server.kill()


def _measured(servers: dict[str, HttpServer], turns: int) -> dict[str, list[Round]]:
    for server in servers.values():
        server.measure(0.5)
    rounds: dict[str, list[Round]] = {name: [] for name in servers}
    for _ in range(turns):
        for name, server in servers.items():
            rounds[name].append(server.measure(1.0))
    return rounds


def _figures(rounds: dict[str, list[Round]]) -> list[Figure]:
    rate = {name: _rate(each) for name, each in rounds.items()}
    cpu = {name: _cpu_milliseconds(each) for name, each in rounds.items()}
    figures = [
        Figure("no-op over HTTP", rate["no-op"], "calls/s", 0.5, rate["bare"], at_least=True),
        Figure("the same, server CPU", cpu["no-op"], "ms", None, cpu["bare"]),
        Figure("the SDK's own no-op", rate["sdk"], "calls/s", None, rate["bare"]),
        Figure("the SDK's own no-op, server CPU", cpu["sdk"], "ms", None, cpu["bare"]),
        Figure("no-op of the handshake era, server CPU", cpu["earlier"], "ms", None, cpu["bare"]),
        Figure("route_task", rate["router"], "calls/s", None, rate["no-op"]),
        Figure("route_task, server CPU", cpu["router"], "ms", 3.0, cpu["no-op"]),
    ]
    if "database" in rounds:
        what = "route_task on PostgreSQL"
        figures += [
            Figure(what, rate["database"], "calls/s", None, rate["no-op"]),
            Figure(f"{what}, server CPU", cpu["database"], "ms", 3.0, cpu["no-op"]),
        ]
    return figures


def _rate(rounds: Sequence[Round]) -> float:
    return sum(each.calls for each in rounds) / sum(each.seconds for each in rounds)


def _cpu_milliseconds(rounds: Sequence[Round]) -> float:
    return 1000 * sum(each.cpu_seconds for each in rounds) / sum(each.calls for each in rounds)


if __name__ == "__main__":
    main()
