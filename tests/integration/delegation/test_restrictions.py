"""What the user forbids to hand over is not sent to any engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desks import Desk, desk_at
from ollama_server import Script, scripted_ollama

from immunos_mcp.domain import Provider, Reason
from immunos_mcp.engines import whereabouts
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def script() -> Script:
    return Script(words=("done",))


@pytest.fixture
def where(script: Script) -> Iterator[str]:
    with scripted_ollama(script) as found:
        yield found


@pytest.fixture
async def desk(tmp_path: Path, where: str) -> AsyncGenerator[Desk]:
    async with desk_at(tmp_path, where) as made:
        yield made


async def test_where_handover_is_never_claude_does_the_task(desk: Desk, script: Script) -> None:
    await desk.router.update_config({"handover": "never"}, "test")
    answer = await desk.delegate()
    assert (answer.provider, script.requests) == (Provider.CLAUDE, [])
    (logged,) = await desk.archive.list_decisions(1, None)
    assert logged.decision.reason is Reason.HANDOVER_FORBIDDEN


async def test_an_earlier_decision_does_not_outlive_the_permission(
    desk: Desk, script: Script
) -> None:
    routed = await desk.router.route_task("code_review", "routine")
    await desk.router.update_config({"handover": "never"}, "test")
    with pytest.raises(DelegationError, match="handover is never"):
        await desk.delegate(decision_id=routed.decision_id)
    assert script.requests == []


async def test_an_engine_that_is_not_on_this_machine_gets_nothing(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.router.update_config({"engines_allowed": "this_machine"}, "test")
    assert (await desk.delegate()).local_output == "done"
    routed = await desk.router.route_task("code_review", "routine")

    async def elsewhere(_url: str) -> bool:
        return False

    monkeypatch.setattr(whereabouts, "is_on_this_machine", elsewhere)
    with pytest.raises(DelegationError, match="is not on this machine"):
        await desk.delegate(decision_id=routed.decision_id)
    assert len(script.requests) == 1
