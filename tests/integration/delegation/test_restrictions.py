"""What the user forbids to hand over is not sent to any engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from desks import CODER, Desk, desk_at
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


async def test_files_of_a_folder_that_hands_nothing_over_are_sent_from_nowhere(
    desk: Desk, script: Script
) -> None:
    private = desk.folder / "private"
    (private / "sub").mkdir(parents=True)
    (private / "sub" / "one.txt").write_text("a", encoding="utf-8")
    desk.write("open.txt", ["b"])
    (desk.folder / "link").symlink_to(private / "sub")
    await desk.router.project_settings.change(str(private), {"handover": "never"}, "test")
    for paths in (["private/sub/one.txt"], ["link/one.txt"], ["open.txt", "**/one.txt"]):
        answer = await desk.delegate(paths=paths)
        assert (answer.provider, script.requests) == (Provider.CLAUDE, [])
        assert answer.message == (
            "The user forbids handing this over (handover). Do this task yourself."
        )
    written = await desk.delegate(output_path="private/new.txt")
    assert (written.provider, script.requests) == (Provider.CLAUDE, [])
    assert (await desk.delegate(paths=["open.txt"])).local_output == "done"
    routed = await desk.router.route_task("code_review", "routine")
    with pytest.raises(DelegationError, match="handover is never"):
        await desk.delegate(paths=["link/one.txt"], decision_id=routed.decision_id)
    assert len(script.requests) == 1


async def test_files_that_may_not_leave_this_machine_bring_that_along(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def elsewhere(_url: str) -> bool:
        return False

    monkeypatch.setattr(whereabouts, "is_on_this_machine", elsewhere)
    for name in ("near", "far"):
        (desk.folder / name).mkdir()
        desk.write(f"{name}/one.txt", ["a"])
    near = str(desk.folder / "near")
    await desk.router.project_settings.change(near, {"engines_allowed": "this_machine"}, "test")
    assert (await desk.delegate(paths=["far/one.txt"])).local_output == "done"
    answer = await desk.delegate(paths=["near/one.txt"])
    assert (answer.provider, len(script.requests)) == (Provider.CLAUDE, 1)
    (logged,) = await desk.archive.list_decisions(1, None)
    assert logged.decision.remedy is None
    assert (logged.decision.table_model, logged.decision.changed_by) == (CODER, "availability")


async def test_roots_of_the_client_count_as_places_of_its_calls(desk: Desk, script: Script) -> None:
    await desk.router.project_settings.change("/apps", {"handover": "never"}, "test")
    assert (await desk.delegate(places=("/home", "/apps/app"))).provider is Provider.CLAUDE
    assert (await desk.delegate(places=("/home", "/workshop"))).local_output == "done"
    assert len(script.requests) == 1


async def test_what_is_forbidden_while_a_task_waits_for_its_turn_is_not_sent(
    desk: Desk, script: Script
) -> None:
    script.gate = threading.Event()
    await desk.router.update_config({"delegate_wait_seconds": 1}, "test")
    first, second = await desk.delegate(), await desk.delegate()
    assert first.handle is not None
    assert second.handle is not None
    await desk.router.update_config({"handover": "never"}, "test")
    script.gate.set()
    assert (await desk.delegations.collect(first.handle)).local_output == "done"
    with pytest.raises(DelegationError, match="handover is never"):
        await desk.delegations.collect(second.handle)
    assert len(script.requests) == 1
