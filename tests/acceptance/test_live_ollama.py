"""One short task on the user's own Ollama, where ``IMMUNOS_LIVE_OLLAMA=1`` asks for it.

The model is the first one installed that completes text; ``OLLAMA_HOST`` says where the engine is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import pytest

from immunos_mcp.delegation.request import DelegationRequest
from immunos_mcp.delegation.tasks import Delegations
from immunos_mcp.domain import EngineState
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.several import Engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.anyio
async def test_a_task_is_done_by_a_model_that_is_installed(tmp_path: Path) -> None:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        async with Engines(Ollama(address(os.environ.get("OLLAMA_HOST", "")))) as engines:
            watch = EngineWatch(engines)
            seen = await watch.refreshed()
            assert seen.state is EngineState.UP, seen.words
            model = next(
                each.name
                for each in seen.models.values()
                if each.capabilities is None or "completion" in each.capabilities
            )
            router = Router(ledger, "default", engine=watch.current)
            await router.update_config({"task_mappings": {"simple_question": model}}, "test")
            await router.update_config({"delegate_wait_seconds": 600}, "test")
            async with anyio.create_task_group() as tasks:
                delegations = Delegations(router, engines, watch)
                tasks.start_soon(delegations.run)
                request = DelegationRequest(
                    prompt="Say hello.", task_type="simple_question", classification="routine"
                )
                answer = await delegations.delegate(request, (tmp_path,))
                assert answer.local_output
                assert answer.output_tokens
                status = await router.get_session_status()
                assert status.kept_local_tokens == answer.kept_local_tokens
                tasks.cancel_scope.cancel()
