"""The recent state of the engines, for those who do not wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.engines.several import chosen_engines

if TYPE_CHECKING:
    from immunos_mcp.engines.several import Engines
    from immunos_mcp.options import Options

FRESH_SECONDS = 5.0
"""How long the result of a probe counts as current."""


class EngineWatch:
    """Keeps a recent state of the engines, without making its readers wait.

    ``run`` probes until it is cancelled; ``current`` may be called at any time.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._current = Engine(EngineState.UNKNOWN, engines.where.url)
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
        """Probe now and return the state."""
        self._current = await self._engines.probe()
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


def probe_now(options: Options) -> Engine:
    """Return the state of the engines, for a command without an event loop."""
    engines = chosen_engines(options)

    async def probe() -> Engine:
        async with engines:
            return await engines.probe()

    return anyio.run(probe)
