"""What Claude Code's hooks are answered: one line when the budget got worse, and else nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from transcript_lines import Answer, append, transcript

from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.router import Router
from immunos_mcp.server.hooks import HookEvent, Hooks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.anyio

PROMPT = HookEvent.USER_PROMPT_SUBMIT


class Conversation:
    """The hooks of one conversation, on a router with a ledger and transcripts of its own."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.hooks = Hooks(router, lambda: None)

    async def spend(self, tokens: int) -> None:
        await self.router.record_usage("claude-x", tokens, 0)

    async def notice(self, event: HookEvent = PROMPT) -> str | None:
        """Return the line that the model is told at an event."""
        output: dict[str, Any] = json.loads(await self.hooks.answer(event))
        if not output:
            return None
        assert output["hookSpecificOutput"]["hookEventName"] == event
        return output["hookSpecificOutput"]["additionalContext"]


@pytest.fixture
def router(tmp_path: Path) -> Generator[Router]:
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        follower = Follower(ledger, TranscriptFolders((tmp_path / "projects",), FORMAT))
        yield Router(ledger, "default", follower=follower)


@pytest.fixture
def conversation(router: Router) -> Conversation:
    return Conversation(router)


async def test_nothing_is_said_while_the_budget_is_fine(conversation: Conversation) -> None:
    for tokens in (0, 100_000, 42_500):
        await conversation.spend(tokens)
        assert await conversation.notice() is None


async def test_a_threshold_that_is_near_is_said_once(conversation: Conversation) -> None:
    await conversation.spend(145_000)
    assert await conversation.notice() == (
        "Token budget: 145000 of 200000, normal. Budget is fine: tasks go where they are done best. "
        "5000 tokens to the next threshold."
    )
    await conversation.spend(1_000)
    assert await conversation.notice() is None


async def test_each_level_is_said_once_when_it_is_reached(conversation: Conversation) -> None:
    await conversation.spend(150_000)
    assert await conversation.notice() == (
        "Token budget: 150000 of 200000, warning. "
        "Budget is running low: routine tasks go to Ollama."
    )
    await conversation.spend(5_000)
    assert await conversation.notice() is None
    await conversation.spend(35_000)
    assert await conversation.notice() == (
        "Token budget: 190000 of 200000, critical. Budget used up: all tasks go to Ollama."
    )
    await conversation.spend(5_000)
    assert await conversation.notice() is None


async def test_the_auto_switch_that_is_near_is_said_once(conversation: Conversation) -> None:
    await conversation.spend(150_000)
    assert await conversation.notice() is not None
    await conversation.spend(22_000)
    assert await conversation.notice() == (
        "Token budget: 172000 of 200000, warning. "
        "Budget is running low: routine tasks go to Ollama. 8000 tokens to the next threshold."
    )
    await conversation.spend(1_000)
    assert await conversation.notice() is None


async def test_after_a_reset_the_levels_are_said_again(conversation: Conversation) -> None:
    await conversation.spend(190_000)
    assert await conversation.notice() is not None
    await conversation.router.reset_session()
    assert await conversation.notice() is None
    await conversation.spend(190_000)
    assert await conversation.notice() is not None


@pytest.mark.parametrize("event", [event for event in HookEvent if event is not PROMPT])
async def test_other_events_say_nothing_and_do_not_use_up_what_a_prompt_would_say(
    conversation: Conversation, event: HookEvent
) -> None:
    await conversation.spend(190_000)
    assert await conversation.notice(event) is None
    assert await conversation.notice() is not None


@pytest.mark.parametrize("event", HookEvent)
async def test_only_a_prompt_opens_the_session(
    conversation: Conversation, event: HookEvent
) -> None:
    await conversation.hooks.answer(event)
    status = await conversation.router.get_session_status()
    assert (status.session_id is not None) is (event is PROMPT)


async def test_a_turns_last_response_is_counted_though_it_is_written_after_the_hook(
    tmp_path: Path, router: Router
) -> None:
    file = transcript(tmp_path / "projects")
    waits: list[float] = []
    caught_up = anyio.Event()

    async def write_while_waiting(seconds: float) -> None:
        waits.append(seconds)
        append(file, Answer("m1", 10, at=datetime.now(UTC)))

    hooks = Hooks(router, caught_up.set, write_while_waiting)
    await hooks.answer(PROMPT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hooks.catch_up_after_turns)
        await hooks.answer(HookEvent.STOP)
        with anyio.fail_after(10):
            await caught_up.wait()
        tasks.cancel_scope.cancel()
    # Asked of a router that reads no transcripts: it tells what was counted before.
    assert await counted(tmp_path) == 10
    assert waits == [0.3]


async def counted(folder: Path) -> int | None:
    with InlineSqliteLedger(folder / "ledger.db") as ledger:
        return (await Router(ledger, "default").get_session_status()).measured_tokens
