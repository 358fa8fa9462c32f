"""A router with an engine, and tasks handed over from it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from immunos_mcp.archive import Archive
from immunos_mcp.delegation.request import DelegationRequest
from immunos_mcp.delegation.tasks import Delegations
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.several import Engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from immunos_mcp.answers.delegation import DelegateAnswer
    from immunos_mcp.engines.protocol import LocalEngine

CODER = "qwen2.5-coder:7b"


@dataclass(frozen=True)
class Desk:
    """A router on a ledger of its own, and tasks handed over from it."""

    router: Router
    archive: Archive
    delegations: Delegations
    folder: Path

    async def delegate(self, task_type: str = "code_review", **more: Any) -> DelegateAnswer:
        told = {name: more.pop(name) for name in ("progress", "on_text") if name in more}
        given: dict[str, Any] = {"prompt": "Do it", "classification": "routine", **more}
        request = DelegationRequest(task_type=task_type, **given)
        return await self.delegations.delegate(request, (self.folder,), **told)

    def write(self, name: str, lines: list[str]) -> str:
        (self.folder / name).write_text("\n".join(lines), encoding="utf-8")
        return name


@asynccontextmanager
async def desk_at(
    folder: Path, where: str, others: Mapping[str, LocalEngine] | None = None
) -> AsyncGenerator[Desk]:
    with InlineSqliteLedger(folder / "ledger.db") as ledger:
        async with (
            Engines(Ollama(address(where)), others) as engines,
            anyio.create_task_group() as tasks,
        ):
            watch = EngineWatch(engines)
            router = Router(ledger, "default", engine=watch.current)
            delegations = Delegations(router, engines, watch)
            tasks.start_soon(delegations.run)
            project = folder / "project"
            project.mkdir(exist_ok=True)
            try:
                yield Desk(router, Archive(ledger), delegations, project)
            finally:
                tasks.cancel_scope.cancel()
