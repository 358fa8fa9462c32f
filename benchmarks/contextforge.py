"""Calls per second through ContextForge, a gateway for MCP servers, and of the same server directly.

Both are measured in turn, with 16 clients that make ``route_task`` calls over HTTP. ContextForge runs as one
process with its own SQLite file, as it is installed, apart from what is needed to let it reach a server on this
machine. Install it in an environment of its own: ``pip install mcp-contextforge-gateway``.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from http_calls import HttpServer, request_of
from side_by_side import (
    Figure,
    argument_parser,
    environment,
    immunos_command,
    report,
    temporary_home,
)

if TYPE_CHECKING:
    from pathlib import Path

    from http_calls import Round

ADMIN = "admin@example.com"
START_SECONDS = 90


class Gateway(HttpServer):
    """ContextForge in front of a server."""

    def __init__(self, program: str, home: Path, behind: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        password = f"Aa1!{secrets.token_urlsafe(24)}"
        with (home / "gateway.log").open("wb") as said:
            self._process = subprocess.Popen(
                (program, "--host", "127.0.0.1", "--port", str(self.port)),
                env=environment(home) | _settings(home, password),
                cwd=home,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.answered = 0
        try:
            self._request = self._registered(password, behind)
        except BaseException:
            self.kill()
            raise

    def _registered(self, password: str, behind: int) -> bytes:
        """Have it know the server behind it; return the request that calls its tool."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._ask("/health")
                break
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.5)
        login = self._ask("/auth/login", {"email": ADMIN, "password": password})
        token = login["access_token"]
        url = f"http://127.0.0.1:{behind}/mcp"
        server = {"name": "router", "url": url, "transport": "STREAMABLEHTTP"}
        self._ask("/gateways", server, token)
        direct = request_of("router-route-task", is_newer=False)
        begin = f"POST /mcp/ HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"
        return direct.replace(b"POST /mcp HTTP/1.1\r\n", begin.encode())

    def _ask(self, path: str, body: object = None, token: str = "") -> dict[str, str]:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310  # of this machine
            return json.load(answer)


def _settings(home: Path, password: str) -> dict[str, str]:
    return {
        "DATABASE_URL": f"sqlite:///{home}/gateway.db",
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "AUTH_ENCRYPTION_SECRET": secrets.token_urlsafe(48),
        "PLATFORM_ADMIN_EMAIL": ADMIN,
        "PLATFORM_ADMIN_PASSWORD": password,
        "BASIC_AUTH_PASSWORD": password,
        "MCPGATEWAY_UI_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "TOOL_RATE_LIMIT": "1000000",
        "UAID_ALLOW_ALL_DOMAINS": "true",
        "LOG_LEVEL": "ERROR",
        "CACHE_TYPE": "memory",
    }


def main() -> None:
    """Measure both in turn and print the figures."""
    parser = argument_parser(__doc__)
    parser.add_argument("--contextforge", required=True, help="its program, mcpgateway")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of 3 s of each")
    given = parser.parse_args()
    serve = (*immunos_command(), "serve", "--http", "127.0.0.1:0", "--no-tokens")
    with temporary_home() as home:
        direct = HttpServer(serve, home, "route_task", is_newer=False)
        try:
            through = Gateway(given.contextforge, home, direct.port)
            try:
                rounds = [
                    (through.measure(3.0), direct.measure(3.0)) for _ in range(given.rounds + 1)
                ]
            finally:
                through.kill()
        finally:
            direct.kill()
    # In the first round, connections are opened.
    gateways, directs = ([each[place] for each in rounds[1:]] for place in (0, 1))
    cpu = 1000 * sum(each.cpu_seconds for each in gateways) / sum(each.calls for each in gateways)
    report(
        [
            Figure("route_task through ContextForge", _rate(gateways), "calls/s", None, _rate(directs)),
            Figure("the same, CPU of the gateway for a call", cpu, "ms"),
        ],
        given.json,
    )  # fmt: skip


def _rate(rounds: list[Round]) -> float:
    return sum(each.calls for each in rounds) / sum(each.seconds for each in rounds)


if __name__ == "__main__":
    main()
