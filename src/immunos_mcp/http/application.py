"""The application: its paths, and what is around them."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, request_response

from immunos_mcp.errors import ImmunosError
from immunos_mcp.gateway_messages import LARGEST_REQUEST
from immunos_mcp.gateway_messages import PATH as GATEWAY
from immunos_mcp.http.access import (
    MCP_PATH,
    Bearers,
    Verifier,
    known_token,
    metadata_routes,
    protected,
    unavailable,
)
from immunos_mcp.http.gateway import Gateway
from immunos_mcp.http.guards import LARGEST_BODY, BodyGuard, HostGuard
from immunos_mcp.http.metrics import CONTENT_TYPE, Metrics, MetricsMissingError
from immunos_mcp.http.observing import Observer
from immunos_mcp.http.pages import EVENTS, LOGIN, LOGOUT, PEOPLE, REPORT, SCRIPT, Pages
from immunos_mcp.http.telemetry import LOGS, TRACES, Telemetry
from immunos_mcp.http.telemetry import METRICS as OTHER_METRICS
from immunos_mcp.server.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from immunos_mcp.http.options import HttpOptions
    from immunos_mcp.http.teams import Teams
    from immunos_mcp.server.app import BuiltHttpServer

HEALTH, READINESS, METRICS = "/healthz", "/readyz", "/metrics"

logger = logging.getLogger(__name__)


class Application(NamedTuple):
    """An application, and what ends its streams.

    Attributes:
        run: answers requests.
        end_streams: ends what would go on for as long as a client listens.
    """

    run: ASGIApp
    end_streams: Callable[[], None]


def build_application(options: HttpOptions, built: BuiltHttpServer, teams: Teams) -> Application:
    """Build the application around a server, for the teams that it serves."""
    metrics = _metrics()
    manager = StreamableHTTPSessionManager(
        built.server, json_response=True, stateless=True, max_request_body_size=LARGEST_BODY
    )
    verifier = Verifier(teams.holder)
    gateway = Gateway(teams.desk_of, teams.changes_of)
    telemetry = Telemetry(teams)
    pages = Pages(options, teams.of, verifier)

    @asynccontextmanager
    async def running(_application: Starlette) -> AsyncGenerator[None]:
        async with manager.run():
            yield

    def for_holders(app: ASGIApp) -> _Endpoint:
        return _Endpoint(protected(app, options))

    def taking(path: str, view: Callable[[Request], Awaitable[Response]]) -> Route:
        guarded = BodyGuard(request_response(view), LARGEST_REQUEST)
        return Route(path, for_holders(guarded), methods=["POST"])

    # A GET would wait for messages that cannot come, since no request knows of another.
    routes = [
        Route(MCP_PATH, for_holders(BodyGuard(manager.handle_request)), methods=["POST"]),
        Route(GATEWAY, for_holders(request_response(gateway.identify)), methods=["GET"]),
        taking(GATEWAY, gateway.receive),
        taking(LOGS, telemetry.receive),
        taking(OTHER_METRICS, telemetry.ignore),
        taking(TRACES, telemetry.ignore),
        Route(HEALTH, _healthy, methods=["GET"]),
        Route(READINESS, _readiness(teams.check), methods=["GET"]),
        Route(METRICS, for_holders(request_response(_figures(metrics))), methods=["GET"]),
        *metadata_routes(options),
        *_page_routes(pages),
    ]
    bearers = Bearers(verifier)
    authentication = Middleware(AuthenticationMiddleware, backend=bearers, on_error=unavailable)
    starlette = Starlette(
        routes=routes,
        lifespan=running,
        middleware=[authentication] if options.needs_tokens else [],
    )
    observer = Observer(
        HostGuard(starlette, options.hosts),
        metrics,
        [route.path for route in routes],
        [tool.name for tool in TOOLS],
    )
    built.server.middleware.append(observer.observe_call)

    def end_streams() -> None:
        built.end_streams()
        pages.end_streams()

    return Application(observer, end_streams)


def _page_routes(pages: Pages) -> list[Route]:
    login = _Endpoint(BodyGuard(request_response(pages.login)))
    return [
        Route("/", pages.for_people(pages.home), methods=["GET"]),
        Route(REPORT, pages.for_people(pages.report), methods=["GET"]),
        Route(PEOPLE, pages.for_people(pages.people), methods=["GET"]),
        Route(EVENTS, pages.for_people(pages.events), methods=["GET"]),
        Route(SCRIPT, pages.script, methods=["GET"]),
        Route(LOGIN, pages.login_form, methods=["GET"]),
        Route(LOGIN, login, methods=["POST"]),
        Route(LOGOUT, pages.logout, methods=["POST"]),
    ]


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
        except ImmunosError as error:
            # The text names the ledger's place, which is nothing for everybody.
            logger.error("not ready: %s", error)  # noqa: TRY400  # no bug
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
    async def figures(request: Request) -> Response:
        if metrics is None:
            words = "metrics need prometheus-client: pip install 'immunos-mcp[team]'\n"
            return PlainTextResponse(words, HTTPStatus.NOT_IMPLEMENTED)
        known = known_token(request)
        text = metrics.text(None if known is None else known.team)
        return Response(text, media_type=CONTENT_TYPE)

    return figures
