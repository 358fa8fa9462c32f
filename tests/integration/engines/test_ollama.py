"""The engine's client against a scripted engine, which is checked against real recordings itself."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama_server import Manner, Script, recordings, scripted_ollama

from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.engines import connection, watch
from immunos_mcp.engines.addresses import EngineAddress, address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.protocol import ChatRequest
from immunos_mcp.engines.responses import (
    ChatCounts,
    ContextExceededError,
    EngineBusyError,
    EngineError,
    ModelMissingError,
)
from immunos_mcp.engines.several import Engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.rules.names import canonical_model, is_cloud_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Mapping

    from immunos_mcp.answers.encoding import Json

MODEL = "qwen2.5-coder:7b"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def where(script: Script) -> Generator[str]:
    with scripted_ollama(script) as found:
        yield found


@pytest.fixture
async def engine(where: str) -> AsyncIterator[Ollama]:
    client = Ollama(address(where))
    yield client
    await client.close()


def shape(value: Any, depth: int = 0) -> Any:
    """Return the keys and kinds of a value; of a list those of its first item."""
    if isinstance(value, dict) and depth < 4:
        members = cast("dict[str, Any]", value)
        return {key: shape(item, depth + 1) for key, item in sorted(members.items())}
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [shape(items[0], depth + 1)] if items else []
    return type(cast("object", value)).__name__


@pytest.mark.parametrize("name", recordings())
def test_the_scripted_engine_answers_in_the_shape_of_the_recording(where: str, name: str) -> None:
    recorded = recordings()[name]
    host, port = where.split(":")
    request = recorded["request"]
    body = request if isinstance(request, str) else json.dumps(request)
    with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.request(recorded["method"], recorded["path"], None if request is None else body)
        answer = connection.getresponse()
        said = answer.read().decode()
    assert (answer.status, answer.getheader("Content-Type")) == (
        recorded["status"],
        recorded["content_type"],
    )
    lines, recorded_lines = said.splitlines(), recorded["body"].splitlines()
    if not recorded["body"].startswith("{"):
        assert said == recorded["body"]
        return
    assert shape(json.loads(lines[0])) == shape(json.loads(recorded_lines[0]))
    assert shape(json.loads(lines[-1])) == shape(json.loads(recorded_lines[-1]))
    if recorded["status"] != 200 and name != "long_refused":
        assert said == recorded["body"]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("  ", "http://127.0.0.1:11434"),
        ("example.com", "http://example.com:11434"),
        ("example.com:8000", "http://example.com:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("[::]:9", "http://[::1]:9"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("fe80::1", "http://[fe80::1]:11434"),
        ("http://example.com", "http://example.com:80"),
        ("https://example.com", "https://example.com:443"),
        ("HTTPS://Example.com:8443/ollama/", "https://example.com:8443/ollama"),
        ("example.com/ollama", "http://example.com:11434/ollama"),
        ('"127.0.0.1:1"', "http://127.0.0.1:1"),
    ],
)
def test_an_address_is_read_as_ollama_reads_it(text: str, url: str) -> None:
    assert address(text) == EngineAddress(url)


def test_credentials_in_an_address_are_kept_apart() -> None:
    assert address("https://me:secret@example.com") == EngineAddress(
        "https://example.com:443", ("me", "secret")
    )


@pytest.mark.parametrize(
    "text", ["a b", "host:99999", "host:x", "ftp://host", "http://x?y=1", "[::1"]
)
def test_what_is_no_address_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        address(text, "--ollama-host")
    assert refused.value.problems[0].field == "--ollama-host"


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        found = address(text)
    except InvalidInputError:
        return
    assert found.url.startswith(("http://", "https://"))


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("qwen2.5-coder:7b", "qwen2.5-coder:7b"),
        ("Qwen2.5-Coder:7B", "qwen2.5-coder:7b"),
        ("tiny", "tiny:latest"),
        ("registry.ollama.ai/library/tiny", "tiny:latest"),
        ("library/tiny:1b", "tiny:1b"),
        ("me/tiny", "me/tiny:latest"),
        ("hf.co/me/tiny:Q4", "hf.co/me/tiny:q4"),
        ("localhost:5000/me/tiny", "localhost:5000/me/tiny:latest"),
        ("tiny@sha256:abc", "tiny@sha256:abc"),
    ],
)
def test_a_model_has_one_name(name: str, canonical: str) -> None:
    assert canonical_model(name) == canonical
    assert canonical_model(canonical) == canonical


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("kimi-k2.6:cloud", True),
        ("gpt-oss:120b-cloud", True),
        ("GPT-OSS:120B-CLOUD", True),
        ("cloud:7b", False),
        ("cloud", False),
        ("x:cloudy", False),
    ],
)
def test_a_model_that_leaves_the_machine_is_known_by_its_tag(name: str, leaves: bool) -> None:
    assert is_cloud_model(name) is leaves


@pytest.mark.anyio
async def test_a_look_finds_what_is_installed_and_loaded(engine: Ollama) -> None:
    seen = await engine.probe()
    assert (seen.state, seen.version) == (EngineState.UP, "0.33.0-rc2")
    assert {
        name: (model.context_length, model.is_loaded) for name, model in seen.models.items()
    } == {
        MODEL: (4096, True),
        "tiny:latest": (4096, False),
    }
    assert seen.models[MODEL].capabilities == {"completion"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("manner", "state"),
    [
        (Manner.ANOTHER_SERVICE, EngineState.NOT_OLLAMA),
        (Manner.BROKEN, EngineState.NOT_OLLAMA),
        (Manner.HUGE, EngineState.NOT_OLLAMA),
        (Manner.LOCKED, EngineState.REFUSED),
    ],
)
async def test_what_is_wrong_with_an_engine_becomes_its_state(
    script: Script, engine: Ollama, manner: Manner, state: EngineState
) -> None:
    script.manner = manner
    seen = await engine.probe()
    assert (seen.state, dict(seen.models)) == (state, {})
    assert seen.words


@pytest.mark.anyio
async def test_an_engine_that_never_answers_is_slow_and_one_that_is_not_there_is_down(
    script: Script, engine: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.05)
    script.manner = Manner.HANGING
    assert (await engine.probe()).state is EngineState.SLOW
    nobody = Ollama(address("127.0.0.1:1"))
    assert (await nobody.probe()).state is EngineState.DOWN
    await nobody.close()


async def said(
    engine: Ollama,
    model: str = MODEL,
    *,
    num_ctx: int = 1000,
    num_predict: int = 10,
    silence_seconds: float = 10.0,
    think: bool | None = None,
    answer_schema: Mapping[str, Json] | None = None,
) -> tuple[str, ChatCounts]:
    request = ChatRequest(
        model=model,
        messages=({"role": "user", "content": "hello there"},),
        num_ctx=num_ctx,
        num_predict=num_predict,
        silence_seconds=silence_seconds,
        think=think,
        answer_schema=answer_schema,
    )
    pieces: list[str] = []
    final = await engine.chat(request, pieces.append)
    return "".join(pieces), final


def counts(tokens: int, *, is_complete: bool) -> ChatCounts:
    """Return the counts of a prompt of two tokens, which the script always reads in the same time."""
    return ChatCounts(2, tokens, is_complete, reading_seconds=0.006035)


@pytest.mark.anyio
async def test_a_chat_comes_in_pieces_with_the_engines_counts(
    script: Script, engine: Ollama
) -> None:
    assert await said(engine) == ("T theerror", counts(3, is_complete=True))
    assert await said(engine, num_predict=2) == ("T the", counts(2, is_complete=False))
    assert await said(engine, num_predict=0) == ("T", counts(1, is_complete=False))
    for request in script.requests:
        assert request["truncate"] is False
        assert request["options"]["num_predict"] > 0


@pytest.mark.anyio
async def test_thinking_is_dropped_and_counted(script: Script, engine: Ollama) -> None:
    script.thinking = True
    assert await said(engine, think=True) == (" theerror", counts(3, is_complete=True))


@pytest.mark.anyio
async def test_a_model_that_cannot_think_is_asked_again_without(
    script: Script, engine: Ollama
) -> None:
    assert (await said(engine, think=False))[0] == "T theerror"
    assert ["think" in request for request in script.requests] == [True, False]


@pytest.mark.anyio
async def test_the_schema_of_an_answer_is_passed_on(script: Script, engine: Ollama) -> None:
    schema: dict[str, Json] = {"type": "object"}
    await said(engine, answer_schema=schema)
    await said(engine)
    assert [request.get("format") for request in script.requests] == [schema, None]


@pytest.mark.anyio
async def test_what_does_not_fit_is_refused_with_the_numbers_and_never_cut(engine: Ollama) -> None:
    with pytest.raises(ContextExceededError) as refused:
        await said(engine, num_ctx=1)
    assert refused.value.needed_tokens == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("manner", "model", "error", "words"),
    [
        (Manner.WELL, "nosuch:1b", ModelMissingError, "ollama pull nosuch:1b"),
        (Manner.BUSY, MODEL, EngineBusyError, "busy"),
        (Manner.DYING, MODEL, EngineError, "broke off the answer|before its answer was complete"),
        (Manner.FAILING, MODEL, EngineError, "the runner has crashed"),
        (Manner.ANOTHER_SERVICE, MODEL, EngineError, "does not respond like Ollama"),
        (Manner.LOCKED, MODEL, EngineError, "HTTP 401"),
        (Manner.BROKEN, MODEL, EngineError, "does not respond like Ollama"),
    ],
)
async def test_a_chat_that_fails_says_why(
    script: Script, engine: Ollama, manner: Manner, model: str, error: type[Exception], words: str
) -> None:
    script.manner = manner
    with pytest.raises(error, match=words):
        await said(engine, model)


@pytest.mark.anyio
async def test_an_engine_that_falls_silent_is_given_up(script: Script, engine: Ollama) -> None:
    script.gate = threading.Event()
    with pytest.raises(EngineError, match="sent nothing for too long"):
        await said(engine, silence_seconds=0.1)
    assert await anyio.to_thread.run_sync(lambda: script.stopped.acquire(timeout=20))


@pytest.mark.anyio
async def test_a_chat_that_is_left_stops_the_engine(script: Script, engine: Ollama) -> None:
    script.gate = threading.Event()
    request = ChatRequest(
        model=MODEL,
        messages=({"role": "user", "content": "x"},),
        num_ctx=9,
        num_predict=9,
        silence_seconds=9,
    )
    with anyio.CancelScope() as scope:
        await engine.chat(request, lambda _piece: scope.cancel())
    assert scope.cancelled_caught
    assert await anyio.to_thread.run_sync(lambda: script.stopped.acquire(timeout=20))
    assert script.finished == []


@pytest.mark.anyio
async def test_the_context_length_comes_from_the_listing_or_else_is_asked_for_once(
    script: Script, engine: Ollama
) -> None:
    script.models = {"tiny:latest": 777}
    listed = (await engine.probe()).models["tiny:latest"]
    assert await engine.context_length(listed) == 777
    unlisted = LocalModel("tiny:latest", "digest")
    assert await engine.context_length(unlisted) == 777
    script.manner = Manner.BROKEN
    assert await engine.context_length(unlisted) == 777
    with pytest.raises(EngineError):
        await engine.context_length(LocalModel("tiny:latest", "another digest"))


@pytest.mark.anyio
async def test_a_watch_answers_at_once_and_looks_meanwhile(
    script: Script, engine: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FRESH_SECONDS", 0.0)
    watching = EngineWatch(Engines(engine))
    assert watching.current().state is EngineState.UNKNOWN

    async def until(wanted: EngineState) -> Engine:
        with anyio.fail_after(20):
            while watching.current().state is not wanted:
                await anyio.lowlevel.checkpoint()
        return watching.current()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watching.run)
        assert MODEL in (await until(EngineState.UP)).models
        script.manner = Manner.LOCKED
        await until(EngineState.REFUSED)
        script.manner = Manner.WELL
        await until(EngineState.UP)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_an_engine_that_was_up_and_is_slow_has_what_it_had(
    script: Script, engine: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = EngineWatch(Engines(engine))
    await watching.refreshed()
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.05)
    script.manner = Manner.HANGING
    assert MODEL in (await watching.refreshed()).models
