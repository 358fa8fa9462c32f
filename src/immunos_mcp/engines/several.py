"""The engines of one run: Ollama, and servers with OpenAI's protocol that the options name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import anyio
from msgspec.structs import replace

from immunos_mcp.domain import EngineState
from immunos_mcp.engines import whereabouts
from immunos_mcp.engines.addresses import LLAMA_CPP_PORT, address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.openai_compatible import OpenAICompatible
from immunos_mcp.rules.models import OLLAMA
from immunos_mcp.rules.names import canonical_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from immunos_mcp.domain import Engine
    from immunos_mcp.engines.addresses import EngineAddress
    from immunos_mcp.engines.protocol import LocalEngine
    from immunos_mcp.options import Options


class Engines:
    """Clients of several engines; use it as an async context manager.

    Attributes:
        where: Ollama's address.
    """

    def __init__(
        self, ollama: LocalEngine, others: Mapping[str, LocalEngine] | None = None
    ) -> None:
        self.where: EngineAddress = ollama.where
        self._by_name: dict[str, LocalEngine] = {OLLAMA: ollama, **(others or {})}
        self._last_up: dict[str, Engine] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for engine in self._by_name.values():
            await engine.close()

    def named(self, name: str) -> LocalEngine:
        """Return an engine by its name."""
        return self._by_name[name]

    async def probe(self) -> Engine:
        """Return the state of Ollama with what the others have beside it; any failure becomes a state.

        An engine that responded before and is slow now keeps its last known state.
        """
        seen: dict[str, Engine] = {}

        async def look(name: str) -> None:
            client = self._by_name[name]
            found = await client.probe()
            if found.state is EngineState.SLOW:
                found = self._last_up.get(name, found)
            elif found.state is EngineState.UP:
                self._last_up[name] = found
            else:
                self._last_up.pop(name, None)
            is_here = await whereabouts.is_on_this_machine(client.where.url)
            seen[name] = replace(found, is_elsewhere=not is_here)

        async with anyio.create_task_group() as tasks:
            for name in self._by_name:
                tasks.start_soon(look, name)
        return merged(seen[OLLAMA], [seen[name] for name in self._by_name if name != OLLAMA])


def merged(own: Engine, others: Sequence[Engine]) -> Engine:
    """Return an engine with the models of others beside its own.

    A name that several have means the model that is loaded, else the first one; the rest have the name of
    their engine before it.
    """
    if not others:
        return own
    models = dict(own.models)
    for model in (each for other in others for each in other.models.values()):
        canonical = canonical_model(model.name)
        rival = models.get(canonical)
        if rival is None or (model.is_loaded and not rival.is_loaded):
            models[canonical] = model
            if rival is None:
                continue
            model = rival  # noqa: PLW2901  # the one that gives way
        models[canonical_model(f"{model.engine or OLLAMA}/{model.name}")] = model
    return replace(own, models=MappingProxyType(models), others=tuple(others))


def chosen_engines(options: Options) -> Engines:
    """Return clients of the engines that the options name; nothing is connected yet.

    Raises:
        InvalidInputError: one of their addresses is none.
    """
    return Engines(
        Ollama(address(options.ollama_host)),
        {
            each.name: OpenAICompatible(
                each.name, address(each.address, each.field, LLAMA_CPP_PORT)
            )
            for each in options.engines
        },
    )
