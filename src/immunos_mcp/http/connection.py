"""HTTP connections that have to bring a whole request in time, get its answer at once, and make room while idle.

uvicorn waits for ever for the end of a request's headers, and refuses everybody while there are too many
connections, so that a few senders could keep all others out without a token. It sends an answer's headers
and its body one after the other, and unless told otherwise, the system keeps the second until the client has
confirmed the first, which takes it 40 ms.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

HEADER_SECONDS = 10.0
"""How long a connection may take to send a request's headers."""

LAST_SECONDS = 1.0
"""How long a proxy's idle connection stays open when the server ends.

The proxy may have sent a request meanwhile, which it must not send to another server.
"""


class TimedConnection(H11Protocol):
    """A connection that is closed where a request's headers do not end in time, or others need its place.

    Attributes:
        idle_since: the event loop's time at which its last request was answered, or it was made.
    """

    _deadline: asyncio.TimerHandle | None = None
    idle_since = 0.0
    _is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
        """Expect a request from now on."""
        super().connection_made(transport)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.idle_since = self.loop.time()
        self._make_room()
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what was received; only the beginning of another request starts the time again."""
        super().data_received(data)
        if self._is_ending and not self.is_idle:
            self.cycle.keep_alive = False
            # uvicorn says that it closes the connection only to those who asked for it.
            self.cycle.scope["headers"] = [*self.cycle.scope["headers"], (b"connection", b"close")]
        if self.conn.their_state is not h11.IDLE:
            self._expect_nothing()
        elif self._deadline is None:
            self._expect_headers()

    def on_response_complete(self) -> None:
        """Be idle, unless another request is here already."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        """End after the request under way, or the one that a proxy may just have sent."""
        if self.config.proxy_headers and self.is_idle:
            self._is_ending = True
            self.loop.call_later(LAST_SECONDS, self._end_if_idle)
        else:
            super().shutdown()

    def _end_if_idle(self) -> None:
        if self.is_idle and not self.transport.is_closing():
            super().shutdown()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self.cycle or bool(self.cycle.response_complete)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest, if there are as many as may be."""
        limit = self.limit_concurrency
        if limit is None or len(self.connections) < limit:
            return
        there: list[TimedConnection] = [
            each
            for each in self.connections
            if isinstance(each, TimedConnection) and not each.transport.is_closing()
        ]
        idle = [each for each in there if each.is_idle and each is not self]
        if idle and len(there) >= limit:
            min(idle, key=lambda each: each.idle_since).transport.close()

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
