"""Delegation with llama.cpp, by its own server and behind our Ollama-shaped one: real tokens, counts and limits."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from desks import CODER, desk_at
from llama_engine import TRAINED_CONTEXT, LlamaEngine, make_tiny_model
from ollama_server import Script, scripted_ollama

from immunos_mcp.delegation.checks import allowed
from immunos_mcp.domain import Outcome, Provider
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.openai_compatible import OpenAICompatible
from immunos_mcp.engines.protocol import ChatRequest
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tiny.gguf"
    make_tiny_model(file)
    return file


@pytest.fixture(scope="module")
def llama(model: Path) -> LlamaEngine:
    return LlamaEngine(model)


@pytest.fixture
def script(llama: LlamaEngine) -> Script:
    models = {CODER: TRAINED_CONTEXT, "qwen2.5:1.5b": TRAINED_CONTEXT}
    return Script(models=models, llama=llama)


@pytest.fixture
def where(script: Script) -> Generator[str]:
    with scripted_ollama(script) as found:
        yield found


@pytest.mark.anyio
async def test_the_ledger_has_the_counts_of_the_engine(
    tmp_path: Path, where: str, script: Script, llama: LlamaEngine
) -> None:
    async with desk_at(tmp_path, where) as desk:
        path = desk.write("one.py", ["a = 1", "größe = 2"])
        answer = await desk.delegate(paths=[path], max_output_tokens=40)
        prompt = "\n".join(message["content"] for message in script.requests[0]["messages"])
        assert (answer.input_tokens, answer.output_tokens) == (llama.count(prompt), 40)
        assert script.finished == [(llama.count(prompt), 40)]
        status = await desk.router.get_session_status()
        assert status.kept_local_tokens == sum(script.finished[0])
        assert (answer.cut_off, len(answer.local_output or "") > 10) == (True, True)


@pytest.mark.anyio
async def test_text_that_takes_more_tokens_than_estimated_gets_a_larger_context(
    tmp_path: Path, where: str, script: Script
) -> None:
    script.contexts[CODER] = 1024
    async with desk_at(tmp_path, where) as desk:
        path = desk.write("digits.py", ["0123456789" * 20] * 10)
        answer = await desk.delegate(paths=[path], max_output_tokens=20)
        contexts = [request["options"]["num_ctx"] for request in script.requests]
        assert contexts == [1024, 4096]
        assert (answer.input_tokens or 0) > contexts[0]


@pytest.mark.anyio
async def test_nothing_is_ever_cut_off_in_silence(
    tmp_path: Path, where: str, script: Script
) -> None:
    async with desk_at(tmp_path, where) as desk:
        path = desk.write("long.py", ["0123456789" * 20] * 30)
        with pytest.raises(DelegationError, match=f"context of {TRAINED_CONTEXT}"):
            await desk.delegate(paths=[path], max_output_tokens=20)
        assert script.finished == []
        answer = await desk.delegate("summarize", paths=[path], max_output_tokens=20)
        assert answer.parts == len(script.finished) > 1
        assert answer.input_tokens == sum(asked for asked, _ in script.finished)


@pytest.mark.anyio
async def test_a_cancelled_call_stops_the_engine(
    tmp_path: Path, where: str, script: Script
) -> None:
    script.gate = threading.Event()
    async with desk_at(tmp_path, where) as desk, anyio.create_task_group() as tasks:
        tasks.start_soon(desk.delegate)
        with anyio.fail_after(20):
            while not script.requests:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert script.stopped.acquire(timeout=20)
    assert script.finished == []


@pytest.mark.anyio
async def test_a_task_is_done_by_llama_cpps_own_server_with_its_counts(
    tmp_path: Path, where: str, script: Script, llama: LlamaEngine
) -> None:
    server = OpenAICompatible("llamacpp", address(llama.address))
    try:
        async with desk_at(tmp_path, where, {"llamacpp": server}) as desk:
            mapped = {"task_mappings": {"code_review": "llamacpp/tiny.gguf"}}
            await desk.router.update_config(mapped, "test")
            path = desk.write("one.py", ["a = 1", "größe = 2"])
            answer = await desk.delegate(paths=[path], max_output_tokens=40)
            status = await desk.router.get_session_status()
            with pytest.raises(DelegationError, match=f"context of {TRAINED_CONTEXT}"):
                await desk.delegate(paths=[desk.write("long.py", ["0123456789" * 20] * 30)])
    finally:
        await server.close()
    assert (answer.model, answer.output_tokens, answer.cut_off) == ("llamacpp/tiny.gguf", 40, True)
    assert (answer.input_tokens or 0) > 100
    assert status.kept_local_tokens == (answer.input_tokens or 0) + 40
    assert script.requests == []


@pytest.mark.anyio
async def test_llama_cpps_own_server_keeps_to_a_schema(llama: LlamaEngine) -> None:
    server = OpenAICompatible("llamacpp", address(llama.address))
    request = ChatRequest(
        model="tiny.gguf",
        messages=({"role": "user", "content": "x"},),
        num_ctx=0,
        num_predict=80,
        silence_seconds=30,
        answer_schema={"enum": ["yes", "no"]},
    )
    pieces: list[str] = []
    try:
        counts = await server.chat(request, pieces.append)
    finally:
        await server.close()
    assert "".join(pieces).strip() in {'"yes"', '"no"'}
    assert counts.output_tokens >= len(pieces) > 1


@pytest.mark.anyio
async def test_a_climb_from_one_protocol_to_the_other_has_the_counts_of_both_engines(
    tmp_path: Path,
    where: str,
    model: Path,
    llama: LlamaEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    other = LlamaEngine(model)
    before = llama.counters()
    server = OpenAICompatible("llamacpp", address(other.address))
    try:
        async with desk_at(tmp_path, where, {"llamacpp": server}) as desk:
            mapped = {"task_mappings": {"code_review": f"{CODER},llamacpp/tiny.gguf,haiku"}}
            await desk.router.update_config(mapped, "test")
            allowed.add(desk.folder, "never", "false")
            # The first one never ends; the second one keeps to the schema.
            delegate = partial(desk.delegate, schema={"enum": ["yes", "no"]}, max_output_tokens=60)
            climbed = await delegate()
            returned = await delegate(checks=["never"], output_path="new.txt")
            status = await desk.router.get_session_status()
            logged = await desk.archive.list_decisions(9, None)
    finally:
        await server.close()
    assert (climbed.model, climbed.passed_checks) == ("llamacpp/tiny.gguf", "json")
    assert f"{CODER}'s answer was cut off" in (climbed.message or "")
    assert (returned.model, returned.provider) == ("haiku", Provider.CLAUDE)
    assert "; check never failed: llamacpp/tiny.gguf" in (returned.message or "")
    assert [entry.outcome for entry in logged] == [
        None,
        Outcome.FAILURE,
        Outcome.FAILURE,
        Outcome.SUCCESS,
        Outcome.FAILURE,
    ]
    used = [now - then for now, then in zip(llama.counters(), before, strict=True)]
    assert status.kept_local_tokens == sum(used) + sum(other.counters())
