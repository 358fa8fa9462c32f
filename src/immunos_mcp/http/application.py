"""The application: its paths, and what is around them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, request_response

from immunos_mcp.errors import ImmunosError
from immunos_mcp.http.access import Bearers, Verifier, metadata_routes, protected, unavailable
from immunos_mcp.http.guards import LARGEST_BODY, BodyGuard, HostGuard
from immunos_mcp.http.metrics import CONTENT_TYPE, Metrics, MetricsMissingError
from immunos_mcp.http.observing import Observer
from immunos_mcp.server.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from immunos_mcp.http.access import HolderOf
    from immunos_mcp.http.options import HttpOptions
    from immunos_mcp.server.app import BuiltHttpServer

MCP_PATH, HEALTH, READINESS, METRICS = "/mcp", "/healthz", "/readyz", "/metrics"


def build_application(
    options: HttpOptions,
    built: BuiltHttpServer,
    check_ledger: Callable[[], Awaitable[object]],
    holder_of: HolderOf,
) -> ASGIApp:
    """Build the application around a server.

    Args:
        options: what the run was told.
        built: answers MCP requests.
        check_ledger: raises ``ImmunosError`` if the ledger cannot be used.
        holder_of: returns who holds a token.
    """
    metrics = _metrics()
    manager = StreamableHTTPSessionManager(
        built.server, json_response=True, stateless=True, max_request_body_size=LARGEST_BODY
    )

    @asynccontextmanager
    async def running(_application: Starlette) -> AsyncGenerator[None]:
        async with manager.run():
            yield

    def for_holders(app: ASGIApp) -> _Endpoint:
        return _Endpoint(protected(app, options))

    # A GET would wait for messages that cannot come, since no request knows of another.
    routes = [
        Route(MCP_PATH, for_holders(BodyGuard(manager.handle_request)), methods=["POST"]),
        Route(HEALTH, _healthy, methods=["GET"]),
        Route(READINESS, _readiness(check_ledger), methods=["GET"]),
        Route(METRICS, for_holders(request_response(_figures(metrics))), methods=["GET"]),
        *metadata_routes(options),
    ]
    bearers = Bearers(Verifier(holder_of))
    authentication = Middleware(AuthenticationMiddleware, backend=bearers, on_error=unavailable)
    starlette = Starlette(
        routes=routes,
        lifespan=running,
        middleware=[authentication] if options.needs_tokens else [],
    )
    application = HostGuard(starlette, options.hosts)
    observer = Observer(
        application, metrics, [route.path for route in routes], [tool.name for tool in TOOLS]
    )
    built.server.middleware.append(observer.observe_call)
    return observer


class _Endpoint:
    """An ASGI application as the endpoint of a route, which would take a function for a view."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _healthy(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _readiness(check: Callable[[], Awaitable[object]]) -> Callable[[Request], Awaitable[Response]]:
    async def readiness(_request: Request) -> Response:
        try:
            await check()
        except ImmunosError:
            # The text names the ledger's place, which is nothing for everybody.
            words = "the ledger cannot be used; the log and `immunos-mcp doctor` say why"
            return JSONResponse({"status": words}, HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse({"status": "ok"})

    return readiness


def _metrics() -> Metrics | None:
    try:
        return Metrics()
    except MetricsMissingError:
        return None


def _figures(metrics: Metrics | None) -> Callable[[Request], Awaitable[Response]]:
    async def figures(_request: Request) -> Response:
        if metrics is None:
            words = "metrics need prometheus-client: pip install 'immunos-mcp[team]'\n"
            return PlainTextResponse(words, HTTPStatus.NOT_IMPLEMENTED)
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return figures
