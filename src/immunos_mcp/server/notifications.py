"""Notifies clients when a status or the settings changed, whichever process changed them.

Clients of the handshake era subscribe to one resource at a time; those of 2026-07-28 listen on a
stream, which the SDK serves from a bus. As long as nobody listens, nothing is read.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated

from immunos_mcp.errors import ImmunosError
from immunos_mcp.server.uris import CONFIG_URI, status_uris

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from mcp.server.session import ServerSession
    from mcp.server.subscriptions import ServerEvent

    from immunos_mcp.ledger.sessions import Revisions
    from immunos_mcp.server.tool_call import HttpRequest

    ChangesOf = Callable[[HttpRequest | None], "StatusNotifier"]

POLL_SECONDS = 0.5
"""How often the ledger is asked for changes of other processes while somebody listens."""

logger = logging.getLogger(__name__)


class StatusNotifier:
    """Watches the ledger for subscribed clients; also the SDK's bus for those of the newer era.

    Args:
        revisions: reads the settings and, by open session, figures that change with its status.
        default_session: the session that is shown even while none is open.
    """

    def __init__(self, revisions: Callable[[], Awaitable[Revisions]], default_session: str) -> None:
        self._revisions = revisions
        self._default_session = default_session
        self._bus = InMemorySubscriptionBus()
        self._listeners: set[object] = set()
        self._subscribers: dict[str, list[ServerSession]] = {}
        self._seen: Revisions | None = None
        self._wake = anyio.Event()
        self._trouble = ""

    def changed_here(self) -> None:
        """Check for changes now instead of at the next poll: this process has made one."""
        if self._is_heard():
            self._wake.set()

    async def subscribe_client(self, session: ServerSession, uri: str) -> None:
        """Notify a client of the handshake era about a resource from now on."""
        await self._read_once()
        self._forget(session, uri)
        self._subscribers.setdefault(uri, []).append(session)
        self._wake.set()

    def unsubscribe_client(self, session: ServerSession, uri: str) -> None:
        """Stop notifying a client of the handshake era; harmless if it never subscribed."""
        self._forget(session, uri)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Watch for a listen stream of the newer era, from before it is acknowledged."""
        token = object()
        self._listeners.add(token)
        try:
            await self._read_once()
            self._wake.set()
            yield
        finally:
            self._listeners.discard(token)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listen stream of the newer era; returns what unregisters it."""
        return self._bus.subscribe(listener)

    async def publish(self, event: ServerEvent) -> None:
        """Deliver an event to the listen streams."""
        await self._bus.publish(event)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            if self._is_heard():
                with anyio.move_on_after(POLL_SECONDS):
                    await self._wake.wait()
            else:
                self._seen = None
                await self._wake.wait()
            self._wake = anyio.Event()
            if self._is_heard():
                await self._check()

    async def _read_once(self) -> None:
        if self._seen is None:
            self._seen = await self._revisions()

    async def _check(self) -> None:
        try:
            current = await self._revisions()
        except ImmunosError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("cannot watch for changes: %s", error)
            return
        self._trouble = ""
        seen, self._seen = self._seen, current
        if seen is not None:
            for uri in self._changed_uris(seen, current):
                await self._notify(uri)

    def _changed_uris(self, seen: Revisions, current: Revisions) -> list[str]:
        before, after = seen.sessions, current.sessions
        settings_changed = seen.settings != current.settings
        uris = [CONFIG_URI] if settings_changed else []
        for name in sorted({self._default_session, *before, *after}):
            if settings_changed or before.get(name) != after.get(name):
                uris.extend(status_uris(name, self._default_session))
        return uris

    async def _notify(self, uri: str) -> None:
        for session in self._subscribers.get(uri, ()):
            await session.send_resource_updated(uri)
        await self.publish(ResourceUpdated(uri))

    def _is_heard(self) -> bool:
        return bool(self._listeners or self._subscribers)

    def _forget(self, session: ServerSession, uri: str) -> None:
        # The SDK makes a session object for each request; what lasts as long as the connection is
        # the client's handshake.
        others = [
            other
            for other in self._subscribers.pop(uri, [])
            if other.client_params is not session.client_params
        ]
        if others:
            self._subscribers[uri] = others
