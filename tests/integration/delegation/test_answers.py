"""What a model may answer, and whether that is the result of a task: thoughts, loops, cut prompts and silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ollama_server
import pytest
from desks import CODER, Desk, desk_at
from msgspec.structs import replace
from ollama_server import Manner, Script, scripted_ollama

from immunos_mcp.delegation import chat
from immunos_mcp.domain import Outcome
from immunos_mcp.engines import ollama, reading_speeds
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from immunos_mcp.delegation.chunking import OnText
    from immunos_mcp.domain import Engine
    from immunos_mcp.engines.ollama import Ollama
    from immunos_mcp.engines.protocol import ChatRequest
    from immunos_mcp.engines.responses import ChatCounts

pytestmark = pytest.mark.anyio


@pytest.fixture
def script() -> Script:
    return Script(models={CODER: 131_072}, words=("The ", "answer"), loaded=())


@pytest.fixture
def where(script: Script) -> Iterator[str]:
    with scripted_ollama(script) as found:
        yield found


@pytest.fixture
async def desk(tmp_path: Path, where: str) -> AsyncGenerator[Desk]:
    async with desk_at(tmp_path, where) as made:
        yield made


async def last_outcome(desk: Desk) -> Outcome | None:
    return (await desk.archive.list_decisions(1, None))[0].outcome


@pytest.mark.parametrize(
    "words",
    [
        ("<think>long reasoning</think>\n\nThe answer",),
        ("<th", "ink>", "long", " reasoning</", "think", ">", "\n\n", "The ", "answer"),
        ("So the file is fine.\n", "</think>\n\n", "The answer"),
    ],
)
async def test_thinking_inside_an_answer_is_no_part_of_the_result(
    desk: Desk, script: Script, words: tuple[str, ...]
) -> None:
    script.words = words
    answer = await desk.delegate(output_path="result.md")
    assert (answer.local_output, answer.output_tokens) == ("The answer", len(words))
    assert (desk.folder / "result.md").read_text(encoding="utf-8") == "The answer\n"
    assert await last_outcome(desk) is Outcome.SUCCESS


@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("words", [("<think>reasoning", " never", " ends"), ("<think>a</think>",)])
async def test_an_answer_that_is_only_thinking_is_a_failure(
    desk: Desk, script: Script, reason: str, words: tuple[str, ...]
) -> None:
    script.words, script.reason = words, reason
    with pytest.raises(DelegationError, match=r"tokens for thinking and gave no answer; raise max"):
        await desk.delegate(output_path="result.md")
    assert await last_outcome(desk) is Outcome.FAILURE
    assert list(desk.folder.iterdir()) == []
    assert len(script.requests) == 1


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_an_answer_that_repeats_itself_is_a_failure(
    desk: Desk, script: Script, reason: str
) -> None:
    script.words, script.reason = ("I will check it.", *[" Let me check that again."] * 100), reason
    with pytest.raises(DelegationError, match="repeated itself"):
        await desk.delegate()
    assert await last_outcome(desk) is Outcome.FAILURE


@pytest.mark.parametrize("reason", ["length", "unload", ""])
async def test_of_an_answer_that_was_cut_off_nobody_says_that_it_is_a_success(
    desk: Desk, script: Script, reason: str
) -> None:
    script.reason = reason or "load"
    answer = await desk.delegate()
    assert (answer.local_output, answer.cut_off) == ("The answer", True)
    assert await last_outcome(desk) is None
    await desk.router.outcomes.close(answer.decision_id, "failure")
    assert await last_outcome(desk) is Outcome.FAILURE


def ended(monkeypatch: pytest.MonkeyPatch, **how: object) -> None:
    """Let the engine's answers end otherwise."""
    whole = ollama.Ollama.chat

    async def chat(self: Ollama, request: ChatRequest, add: OnText) -> ChatCounts:
        return (await whole(self, request, add))._replace(**how)

    monkeypatch.setattr(ollama.Ollama, "chat", chat)


async def test_what_a_content_filter_ended_is_no_result_and_says_nothing_of_the_model(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(monkeypatch, is_complete=False, is_filtered=True)
    with pytest.raises(DelegationError, match=rf"content filter ended {CODER}'s answer; do the"):
        await desk.delegate()
    assert (await last_outcome(desk), len(script.requests)) == (None, 1)
    assert (await desk.router.get_session_status()).kept_local_tokens > 0


@pytest.mark.parametrize("how", [{"is_reported": False}, {"input_tokens": 0, "output_tokens": 0}])
async def test_counts_that_cannot_be_true_are_said_to_lack_in_the_ledger(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    ended(monkeypatch, **how)
    answer = await desk.delegate()
    assert answer.message == (
        "The engine's token counts are missing or cannot be true; the ledger lacks them."
    )


async def test_the_limit_of_an_answer_bounds_what_the_caller_gets_thinking_apart(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = ollama.Ollama.probe

    async def thinking(self: Ollama) -> Engine:
        seen = await probe(self)
        able = frozenset({"completion", "thinking"})
        models = {name: replace(each, capabilities=able) for name, each in seen.models.items()}
        return replace(seen, models=models)

    monkeypatch.setattr(ollama.Ollama, "probe", thinking)
    script.thinking = True
    script.words = ("thought", *(f"{number} " for number in range(500)))
    answer = await desk.delegate(max_output_tokens=20)
    assert answer.local_output == " ".join(map(str, range(20)))
    assert (answer.cut_off, answer.output_tokens) == (True, 501)


@pytest.mark.parametrize("name", ["deepseek-r1:14b", "hf.co/x/QwQ-32B-GGUF:Q4_K_M"])
async def test_a_model_that_thinks_without_saying_so_has_room_for_it(
    desk: Desk, script: Script, name: str
) -> None:
    script.models[name] = 8192
    await desk.router.update_config({"task_mappings": {"ponder": name}}, "test")
    await desk.delegate("ponder", max_output_tokens=50)
    assert script.requests[0]["options"]["num_predict"] == 50 + chat.THINKING_TOKENS
    assert "think" not in script.requests[0]


def few_tokens(text: str) -> int:
    return len(text) // 1000


def many_tokens(_text: str) -> int:
    return 5000


@pytest.mark.parametrize(
    ("lines", "why"), [(["é" * 30] * 100, "half"), (["a " * 30] * 300, "too few for its words")]
)
async def test_an_engine_too_old_to_refuse_what_does_not_fit_is_noticed_by_its_counters(
    desk: Desk, script: Script, lines: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.manner = Manner.OLD
    # Denser than any estimate.
    monkeypatch.setattr(chat, "estimated_tokens", few_tokens)
    if why == "half":
        monkeypatch.setattr(ollama_server, "words_of", many_tokens)
    path = desk.write("dense.txt", lines)
    with pytest.raises(
        DelegationError, match=r"Ollama 0\.9\.3 read only 2050 tokens .* update Ollama"
    ):
        await desk.delegate(paths=[path])
    assert await last_outcome(desk) is None
    assert len(script.requests) == 1


async def test_twenty_tasks_of_any_size_load_a_model_at_most_twice(
    desk: Desk, script: Script
) -> None:
    for number in range(20):
        path = desk.write("material.txt", [f"line {number} of it"] * (number % 5 * 150))
        await desk.delegate(paths=[path])
    assert script.loads == [4096, 8192]
    assert {request["keep_alive"] for request in script.requests} == {ollama.KEEP_ALIVE}


async def test_the_context_that_a_model_is_loaded_with_is_used_again(
    desk: Desk, script: Script
) -> None:
    script.loaded, script.contexts = (CODER,), {CODER: 20_000}
    await desk.delegate()
    assert script.requests[0]["options"]["num_ctx"] == 20_000
    script.contexts[CODER] = 1024
    await desk.delegate()
    assert script.requests[1]["options"]["num_ctx"] == 4096


async def test_the_largest_context_is_a_setting(desk: Desk, script: Script) -> None:
    path = desk.write("long.txt", ["word " * 20] * 900)
    with pytest.raises(DelegationError, match="has a context of 32768"):
        await desk.delegate(paths=[path])
    await desk.router.update_config({"largest_context": 65_536}, "test")
    await desk.delegate(paths=[path])
    assert script.loads == [65_536]


async def test_what_took_too_long_is_not_tried_again_and_blames_nobody(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "LOADING_SECONDS", 0.0)
    monkeypatch.setattr(reading_speeds, "SLOWEST_TOKENS_PER_SECOND", 2.5)
    await desk.delegate()
    script.manner = Manner.MUTE
    with pytest.raises(DelegationError, match="sent nothing for too long"):
        await desk.delegate()
    assert await last_outcome(desk) is None
    assert len(script.requests) == 2


async def test_silence_after_the_first_token_is_an_error_however_long_the_first_one_took(
    desk: Desk, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "SILENCE_SECONDS", 0.2)
    script.manner = Manner.STALLING
    with pytest.raises(DelegationError, match="sent nothing for too long"):
        await desk.delegate()
    assert len(script.requests) == 1
