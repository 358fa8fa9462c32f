"""What Claude Code's hooks are answered: one line when the budget got worse, and else nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from transcript_lines import Answer, append, transcript

from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.domain import Engine, EngineState, LocalModel, WarningLevel
from immunos_mcp.gates import Gates
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.overrides import NO_TEXTS, HookTexts, hook_texts
from immunos_mcp.router import Router
from immunos_mcp.server.hooks import HookCall, HookEvent, Hooks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.anyio

PROMPT = HookEvent.USER_PROMPT_SUBMIT
SILENT = (HookEvent.POST_TOOL_BATCH, HookEvent.SUBAGENT_STOP, HookEvent.STOP)


class Conversation:
    """The hooks of one conversation, on a router with a ledger and transcripts of its own."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.hooks = Hooks(router, lambda: None, answer_seconds=10)

    async def spend(self, tokens: int) -> None:
        await self.router.record_usage("claude-x", tokens, 0)

    async def notice(self, event: HookEvent = PROMPT) -> str | None:
        """Return the line that the model is told at an event."""
        output: dict[str, Any] = json.loads(await self.hooks.answer(HookCall(event)))
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


async def test_the_tightest_limit_is_said_and_named(conversation: Conversation) -> None:
    await conversation.router.update_config({"budgets": "daily=100000 tokens/day"}, "test")
    await conversation.spend(76_000)
    assert await conversation.notice() == (
        "Budget daily is running low: routine tasks go to Ollama. Level warning."
    )
    await conversation.spend(1_000)
    await conversation.spend(20_000)
    assert await conversation.notice() == (
        "Budget daily is used up: all tasks go to Ollama. Level critical."
    )
    assert await conversation.notice() is None
    await conversation.spend(60_000)
    # The session's own level is worse, and nobody is worse off than before.
    assert await conversation.notice() is None


@contextmanager
def gates_at(tmp_path: Path, place: str) -> Generator[Gates]:
    """Return the gates of a client in a folder."""
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        yield Gates(ledger, "default", utc_now, places=(place,))


async def test_budgets_of_others_are_not_said(conversation: Conversation, tmp_path: Path) -> None:
    budgets = "theirs=1 tokens/day by codex; there=1 tokens/day in /elsewhere"
    await conversation.router.update_config({"budgets": budgets}, "test")
    await conversation.spend(50_000)
    with gates_at(tmp_path, "/here") as gates:
        standing = await gates.standing()
    assert (standing.level, standing.budgets) == (WarningLevel.NORMAL, ())


async def test_a_folder_that_hands_nothing_over_is_told_no_local_model(
    conversation: Conversation, tmp_path: Path
) -> None:
    await conversation.router.project_settings.change(str(tmp_path), {"handover": "never"}, "test")
    await conversation.spend(190_000)
    with gates_at(tmp_path, str(tmp_path / "src")) as gates:
        standing = await gates.standing()
        assert gates.advice_on_file(str(tmp_path / "big.txt"), 10**6, standing) is None
    assert (standing.level, standing.local_model) == (WarningLevel.CRITICAL, None)
    assert "nothing is handed over here" in standing.message
    # A file in there is not advised on from elsewhere either.
    with gates_at(tmp_path, "/") as elsewhere:
        assert (await elsewhere.standing(str(tmp_path))).local_model is None
        assert (await elsewhere.standing()).local_model is not None


async def test_after_a_reset_the_levels_are_said_again(conversation: Conversation) -> None:
    await conversation.spend(190_000)
    assert await conversation.notice() is not None
    await conversation.router.reset_session()
    assert await conversation.notice() is None
    await conversation.spend(190_000)
    assert await conversation.notice() is not None


@pytest.mark.parametrize("event", SILENT)
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
    await conversation.hooks.answer(HookCall(event))
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

    hooks = Hooks(router, caught_up.set, write_while_waiting, answer_seconds=10)
    await hooks.answer(HookCall(PROMPT))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hooks.catch_up_after_turns)
        await hooks.answer(HookCall(HookEvent.STOP))
        with anyio.fail_after(10):
            await caught_up.wait()
        tasks.cancel_scope.cancel()
    # Asked of a router that reads no transcripts: it tells what was counted before.
    assert await counted(tmp_path) == 10
    assert waits == [0.3]


async def counted(folder: Path) -> int | None:
    with InlineSqliteLedger(folder / "ledger.db") as ledger:
        return (await Router(ledger, "default").get_session_status()).measured_tokens


def before(tool: str = "Agent", **facts: Any) -> HookCall:
    return HookCall(HookEvent.PRE_TOOL_USE, "c", tool, **facts)


async def said(conversation: Conversation, call: HookCall) -> dict[str, Any]:
    output: dict[str, Any] = json.loads(await conversation.hooks.answer(call))
    return output.get("hookSpecificOutput", output)


async def decision(conversation: Conversation, call: HookCall) -> str | None:
    return (await said(conversation, call)).get("permissionDecision")


async def test_what_is_told_is_told_once_at_each_level(conversation: Conversation) -> None:
    assert await said(conversation, before()) == {}
    for tokens in (150_000, 30_000):
        await conversation.spend(tokens)
        assert "additionalContext" in await said(conversation, before())
        assert await said(conversation, before()) == {}
        assert "additionalContext" in await said(conversation, before("WebSearch"))


async def test_one_allowance_lifts_one_denial_and_off_all_of_them(
    conversation: Conversation,
) -> None:
    gates = conversation.router.gates
    await conversation.spend(180_000)
    choices = {"subagents_at_critical": "deny", "expensive_tools_at_critical": "ask"}
    await conversation.router.update_config(choices, "test")
    await gates.allow_once()
    assert await decision(conversation, before("Edit")) is None
    answers = [
        await decision(conversation, before(tool)) for tool in ("Agent", "Agent", "WebFetch")
    ]
    assert answers == [None, "deny", "ask"]
    await gates.switch_off(timedelta(hours=1))
    assert await decision(conversation, before()) is None
    await gates.switch_on()
    assert await decision(conversation, before()) == "deny"


async def test_a_pause_denies_prompts_and_every_tool_until_it_ends(
    conversation: Conversation,
) -> None:
    await conversation.router.gates.pause(timedelta(hours=1))
    blocked = await said(conversation, HookCall(PROMPT))
    assert blocked["decision"] == "block"
    assert blocked["reason"].startswith("Work is paused until 20")
    assert await decision(conversation, before("Edit")) == "deny"
    await conversation.router.gates.switch_on()
    assert await said(conversation, HookCall(PROMPT)) == {}
    assert await decision(conversation, before("Edit")) is None


async def test_a_switch_to_a_dearer_model_is_told_to_the_user_or_denied(
    conversation: Conversation,
) -> None:
    def switch(before: str, after: str) -> HookCall:
        return HookCall(HookEvent.PRE_MODEL_SWITCH, "c", from_model=before, to_model=after)

    await conversation.spend(180_000)
    dearer = switch("claude-haiku-4-5", "claude-opus-4-8")
    assert "claude-opus-4-8 costs more" in (await said(conversation, dearer))["systemMessage"]
    await conversation.router.update_config({"model_switches_at_critical": "deny"}, "test")
    assert await decision(conversation, dearer) == "deny"
    assert await decision(conversation, switch("claude-opus-4-8", "claude-haiku-4-5")) is None


async def test_a_subagent_is_stopped_when_its_own_transcript_says_so(
    tmp_path: Path, conversation: Conversation
) -> None:
    await conversation.router.update_config({"subagent_token_ceiling": 100}, "test")
    main = transcript(tmp_path / "projects")
    own = main.with_suffix("") / "subagents" / "agent-a1.jsonl"
    own.parent.mkdir(parents=True)
    own.touch()
    call = before("Bash", agent="a1", transcript=str(main))
    append(own, Answer("s1", 60, at=datetime.now(UTC)))
    assert await decision(conversation, call) is None
    append(own, Answer("s2", 40, at=datetime.now(UTC)))
    assert await decision(conversation, call) == "deny"
    for other in (
        before("Bash", agent="a2", transcript=str(main)),
        before("Bash", agent="../../x", transcript=str(main)),
        before("Bash", agent="a1/", transcript="\0.jsonl"),
        before("Bash", transcript=str(main)),
    ):
        assert await decision(conversation, other) is None


LOADED = Engine(EngineState.UP, models={"qwen2.5:1.5b": LocalModel("qwen2.5:1.5b", is_loaded=True)})


async def test_a_large_file_read_whole_gets_one_line_and_its_cost_is_in_the_ledger(
    tmp_path: Path,
) -> None:
    large, small = tmp_path / "large.txt", tmp_path / "small.txt"
    large.write_bytes(b"x" * 48_000)
    small.write_bytes(b"x")
    with InlineSqliteLedger(tmp_path / "ledger.db") as ledger:
        asked = Conversation(Router(ledger, "default", engine=lambda: LOADED))
        assert await said(asked, before("Read", file=str(small))) == {}
        line = (await said(asked, before("Read", file=str(large))))["additionalContext"]
        assert line.startswith("large.txt is about 12k tokens. ")
        assert await said(asked, before("Read", file=str(large))) == {}
        other = before("Read", file=str(large))._replace(conversation="d")
        assert await said(asked, other._replace(is_part=True)) == {}
        assert await said(asked, other) == {}
        unread = other._replace(conversation="e")
        await asked.router.update_config({"advice": "off"}, "test")
        assert await said(asked, unread) == {}
        found = NO_TEXTS
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asked.hooks.record_texts)
            while found == NO_TEXTS:
                await anyio.lowlevel.checkpoint()
                found = await ledger.read(hook_texts, None)
            tasks.cancel_scope.cancel()
        assert found == HookTexts(1, -(-len(line) // 4))


async def test_what_was_not_said_while_hooks_were_off_is_said_afterwards(
    conversation: Conversation,
) -> None:
    await conversation.spend(190_000)
    await conversation.router.gates.switch_off(None)
    assert await conversation.notice() is None
    await conversation.router.gates.switch_on()
    assert await conversation.notice() is not None


async def test_without_advice_nothing_is_said_at_prompts(conversation: Conversation) -> None:
    await conversation.router.update_config({"advice": "off"}, "test")
    await conversation.spend(190_000)
    assert await conversation.notice() is None


async def test_while_another_program_writes_a_hook_answers_from_what_is_stored_or_lets_go_on(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ledger.db"
    with InlineSqliteLedger(file) as ledger:
        prepared = Conversation(Router(ledger, "default"))
        await prepared.spend(180_000)
        await prepared.router.update_config({"subagents_at_critical": "deny"}, "test")
    append(transcript(tmp_path / "projects"), Answer("m1", 10, at=datetime.now(UTC)))
    async with ThreadedSqliteLedger(file) as ledger:
        follower = Follower(ledger, TranscriptFolders((tmp_path / "projects",), FORMAT))
        router = Router(ledger, "default", follower=follower)
        held_up = Conversation(router)
        held_up.hooks = Hooks(router, lambda: None, answer_seconds=0.2)
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with anyio.fail_after(10):
                answers = [await decision(held_up, before()) for _ in range(3)]
                assert "deny" in answers
                assert await held_up.hooks.answer(HookCall(PROMPT)) == "{}"
            writer.execute("ROLLBACK")
        await router.catch_up()


async def test_a_ledger_that_cannot_be_used_holds_nothing_up(tmp_path: Path) -> None:
    async with ThreadedSqliteLedger(tmp_path) as ledger:
        hooks = Hooks(Router(ledger, "default"), lambda: None, answer_seconds=10)
        assert await hooks.answer(before()) == "{}"
