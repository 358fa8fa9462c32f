"""Whether a model can do a task now, whose turn it is on its engine, and what is to be said of that engine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from immunos_mcp.delegation.machine import check_machine, requires_any
from immunos_mcp.delegation.permission import check_permission
from immunos_mcp.domain import EngineState
from immunos_mcp.errors import DelegationError
from immunos_mcp.rules import engine_places, models

if TYPE_CHECKING:
    from immunos_mcp.domain import Engine
    from immunos_mcp.engines.several import Engines
    from immunos_mcp.engines.watch import EngineWatch
    from immunos_mcp.rules.settings import Settings


class EngineAccess:
    """The way of one process's tasks to the engines."""

    def __init__(self, engines: Engines, watch: EngineWatch) -> None:
        self._engines = engines
        self._watch = watch
        self._turns: dict[str, anyio.CapacityLimiter] = {}
        self._noticed: set[str] = set()

    async def checked(self, model: str, engine: Engine, settings: Settings) -> Engine:
        """Return the engine's state where a model can and may do a task.

        Raises:
            DelegationError: it cannot, or may not.
        """
        await check_permission(model, engine, self._place(model, engine)[1], settings)
        found = models.availability(model, engine, settings)
        if found.can_run is not True:
            # The engine may just have been started, or the model pulled.
            engine = await self._watch.refreshed()
            found = models.availability(model, engine, settings)
        if found.can_run is False:
            why = "" if engine.state is EngineState.UP else f" ({engine.words or engine.state})"
            raise DelegationError(
                f"{model} is unavailable{why}; run `{found.remedy}`, or do the task yourself"
            )
        await check_permission(model, engine, self._place(model, engine)[1], settings)
        return engine

    async def notices(self, model: str, engine: Engine, settings: Settings) -> str | None:
        """Check the machine for an engine on it, and say what goes with the answer.

        Raises:
            DelegationError: the machine lacks what the settings require.
        """
        told = (await self.machine_notice(model, engine, settings), self._notice(model, engine))
        return " ".join(filter(None, told)) or None

    async def machine_notice(self, model: str, engine: Engine, settings: Settings) -> str | None:
        """Check the machine for an engine on it, and say what cannot be told of it.

        Raises:
            DelegationError: the machine lacks what the settings require.
        """
        if not requires_any(settings) or engine_places.is_remote(self._place(model, engine)[1]):
            return None
        found = models.find_model(model, engine)
        is_loaded = found is not None and engine.models[found].is_loaded
        return await anyio.to_thread.run_sync(partial(check_machine, settings, is_loaded=is_loaded))

    def _notice(self, model: str, engine: Engine) -> str | None:
        """Say once for each engine that tasks leave this machine."""
        name, url = self._place(model, engine)
        if name in self._noticed:
            return None
        self._noticed.add(name)
        return engine_places.notice(url, "Ollama" if name == models.OLLAMA else name)

    def _place(self, model: str, engine: Engine) -> tuple[str, str]:
        name = models.engine_name(model, engine)
        return name, self._engines.named(name).where.url

    def turn(self, model: str, engine: Engine) -> anyio.CapacityLimiter:
        """Return whose turn it is on a model's engine: each engine runs one task at a time."""
        name = models.engine_name(model, engine)
        return self._turns.setdefault(name, anyio.CapacityLimiter(1))
