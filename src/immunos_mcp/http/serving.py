"""Runs the server over HTTP until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import uvicorn

from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.engines.several import chosen_engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.errors import ImmunosError
from immunos_mcp.faults import keep_running
from immunos_mcp.http.application import build_application
from immunos_mcp.http.connection import TimedConnection
from immunos_mcp.http.teams import Setup, Teams
from immunos_mcp.ledger.connections.opening import team_ledgers
from immunos_mcp.server.app import build_http_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from starlette.types import ASGIApp

    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.http.identity_provider import IdentityProvider
    from immunos_mcp.http.options import HttpOptions
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.options import Options

MOST_CONNECTIONS = 1000
"""Connections that are served at once; one more is answered with 503."""

END_SECONDS = 25
"""How long requests under way may take once the server is told to end; then they are cancelled."""

IDLE_SECONDS = 75
"""How long a connection may be idle between requests, which is more than proxies keep one."""


async def serve_http(
    options: Options, http: HttpOptions, on_listening: Callable[[str], None]
) -> None:
    """Serve until a signal ends it; requests under way are answered first.

    Args:
        options: what the run was told.
        http: what it was told about HTTP.
        on_listening: called with the server's URL once clients can connect.

    Raises:
        ImmunosError: it cannot listen there, or the ledger cannot be used.
    """
    async with (
        team_ledgers(options.database, every_team=http.needs_tokens) as ledgers,
        chosen_engines(options) as engines,
    ):
        watch = EngineWatch(engines)
        is_local = http.is_for_this_machine
        engine = watch.current if is_local and options.ollama_check else None
        # Clients elsewhere have their logs and their engines there; and nobody says whose the logs here are
        # where there are several teams.
        is_reading = is_local and ledgers.is_one

        def follower_of(ledger: Ledger) -> Follower | None:
            return transcript_follower(ledger, options) if is_reading else None

        setup = Setup(options.session, follower_of, engine)
        teams = Teams(ledgers, setup, _provider(http))
        await teams.begin()
        built = build_http_server(teams.router_of, teams.changes_of, options.session)
        application = build_application(http, built, teams)
        with _listen(http) as listener:
            running = _HttpServer(
                _config(application.run, http),
                lambda: on_listening(_url(listener, http)),
                application.end_streams,
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(teams.run)
                if engine is not None:
                    tasks.start_soon(keep_running, "probe of Ollama", watch.run)
                await running.serve([listener])
                tasks.cancel_scope.cancel()


def _provider(http: HttpOptions) -> IdentityProvider | None:
    if not http.issuer:
        return None
    from immunos_mcp.http.identity_provider import IdentityProvider, Issuer

    return IdentityProvider(Issuer(http.issuer, http.audience, http.person_claim, http.team_claim))


def _listen(http: HttpOptions) -> socket.socket:
    host, port = http.address.host, http.address.port
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=1024)
    except OSError as error:
        # The error's own words repeat the address.
        reason = str(error.strerror).partition(" (while")[0]
        message = f"cannot listen at {_shown(host)}:{port}: {reason}"
        raise ImmunosError(message) from None


def _url(listener: socket.socket, http: HttpOptions) -> str:
    scheme = "http" if http.certificate is None else "https"
    return f"{scheme}://{_shown(http.address.host)}:{listener.getsockname()[1]}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _config(application: ASGIApp, http: HttpOptions) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=TimedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=http.is_behind_proxy,
        forwarded_allow_ips="*" if http.is_behind_proxy else None,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=END_SECONDS,
        ssl_certfile=http.certificate,
        ssl_keyfile=http.key,
    )


class _HttpServer(uvicorn.Server):
    """A server that answers what is under way when it is told to end, and then ends without an error."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_listening: Callable[[], None],
        end_streams: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening
        self._end_streams = end_streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        self._on_listening()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """End at a signal; at a second one at once."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for each in signals:
            with suppress(NotImplementedError):
                loop.add_signal_handler(each, self._end)
        try:
            yield
        finally:
            for each in signals:
                with suppress(NotImplementedError):
                    loop.remove_signal_handler(each)

    def _end(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._end_streams()
