"""The recent state of the engine, for those who do not wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.engines.ollama import Ollama

if TYPE_CHECKING:
    from immunos_mcp.engines.addresses import EngineAddress
    from immunos_mcp.engines.protocol import LocalEngine

FRESH_SECONDS = 5.0
"""How long the result of a probe counts as current."""


class EngineWatch:
    """Keeps a recent state of the engine, without making its readers wait.

    ``run`` probes until it is cancelled; ``current`` may be called at any time.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._current = Engine(EngineState.UNKNOWN, engine.where.url)
        self._probed_at = float("-inf")
        self._wanted = anyio.Event()

    def current(self) -> Engine:
        """Return the last known state; if it is old, a new probe starts in the background."""
        if anyio.current_time() - self._probed_at > FRESH_SECONDS:
            self._wanted.set()
        return self._current

    async def fresh(self) -> Engine:
        """Return the last known state if it is recent; otherwise probe first."""
        if anyio.current_time() - self._probed_at <= FRESH_SECONDS:
            return self._current
        return await self.refreshed()

    async def refreshed(self) -> Engine:
        """Probe now and return the state.

        An engine that responded before and is slow now keeps its last known state.
        """
        seen = await self._engine.probe()
        if seen.state is not EngineState.SLOW or self._current.state is not EngineState.UP:
            self._current = seen
        self._probed_at = anyio.current_time()
        return self._current

    async def run(self, begin: anyio.Event | None = None) -> None:
        """Probe at the start, or once ``begin`` is set, and then whenever a recent state is wanted.

        The modules for the first probe take a while to load.
        """
        if begin is not None:
            await begin.wait()
        while True:
            await self.refreshed()
            self._wanted = anyio.Event()
            await self._wanted.wait()


def probe_now(where: EngineAddress) -> Engine:
    """Return the state of an engine, for a command without an event loop."""

    async def probe() -> Engine:
        client = Ollama(where)
        try:
            return await client.probe()
        finally:
            await client.close()

    return anyio.run(probe)
