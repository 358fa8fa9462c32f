"""Each request's line in the log and its place in the metrics."""

from __future__ import annotations

import time
from http import HTTPMethod
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from immunos_mcp.http.access import known_token, token_in
from immunos_mcp.http.log_lines import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Collection

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from immunos_mcp.http.metrics import Metrics

_OTHER = "other"
"""Stands for what a client made up, so that it cannot make more and more metrics."""

_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are asked for all day; they are logged only where they fail."""


PASSED_ON = "gateway"
"""Stands for the method of a call that a developer's own server passes on."""


class Called(NamedTuple):
    """An MCP request, or a call that is passed on, as it is logged: its method, the tool that it calls, and whether that failed."""

    method: str
    tool: str
    failed: bool = True


class Observer:
    """An ASGI application around the server's, and a middleware of the SDK's server."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics | None,
        paths: Collection[str],
        tools: Collection[str],
    ) -> None:
        """Observe the requests to an application.

        Args:
            app: answers the requests.
            metrics: counts them; ``None``: nobody does.
            paths: what it serves.
            tools: what can be called.
        """
        self._app = app
        self._metrics = metrics
        self._paths = frozenset(paths)
        self._tools = frozenset(tools)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if self._metrics is not None:
            self._metrics.begin_request()
        try:
            await self._app(scope, receive, send_observed)
        finally:
            self._observed(scope, status, time.perf_counter() - begun)

    def _observed(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else _OTHER
        known = token_in(scope)
        team = "" if known is None else known.team
        if self._metrics is not None:
            self._metrics.end_request(path, status, team, seconds)
        if path in _QUIET and status < 400:
            return
        called: Called | None = scope["state"].get("called")
        if self._metrics is not None and called is not None and called.method == PASSED_ON:
            self._metrics.count_call(PASSED_ON, called.tool, team, failed=called.failed)
        fields: dict[str, object] = {
            "method": scope["method"] if scope["method"] in _HTTP_METHODS else _OTHER,
            "path": path,
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
        }
        if called is not None:
            fields |= {"call": called.method, **({"tool": called.tool} if called.tool else {})}
            fields |= {"failed": True} if called.failed else {}
        if known is not None:
            fields |= {"person": known.person.name, "team": team}
        if scope.get("client"):
            fields["from"] = _address(scope["client"][0])
        REQUESTS.info("request", extra={"fields": fields})

    async def observe_call(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Note what an MCP request calls, and count it."""
        method = ctx.method if ctx.method in _METHODS else _OTHER
        tool = self._tool(ctx) if method == "tools/call" else ""
        failed = True
        try:
            result = await call_next(ctx)
            failed = isinstance(result, dict) and bool(result.get("isError"))
        finally:
            if ctx.request is not None:
                ctx.request.scope["state"]["called"] = Called(method, tool, failed)
            if self._metrics is not None and ctx.request_id is not None:
                known = known_token(ctx.request)
                team = "" if known is None else known.team
                self._metrics.count_call(method, tool, team, failed=failed)
        return result

    def _tool(self, context: ServerRequestContext[Any, Any]) -> str:
        name = (context.params or {}).get("name")
        return name if isinstance(name, str) and name in self._tools else _OTHER


def _address(text: str) -> str:
    """Return the address of a client; behind a proxy that believes what clients say, it can be any text."""
    try:
        return str(ip_address(text))
    except ValueError:
        return _OTHER


_HTTP_METHODS = frozenset(HTTPMethod)

_METHODS = frozenset(
    {
        "initialize",
        "ping",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "server/discover",
        "subscriptions/listen",
        "tools/call",
        "tools/list",
    }
)
