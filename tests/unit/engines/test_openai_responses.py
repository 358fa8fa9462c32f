"""What servers with OpenAI's protocol answer, also oddly: text, counts and errors in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import mutated

from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.engines.openai_responses import OpenAIReply, models_of, raise_for
from immunos_mcp.engines.responses import (
    ChatCounts,
    ContextExceededError,
    EngineBusyError,
    EngineError,
    LineSplitter,
    ModelMissingError,
)

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json


def event(content: object) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def delta(**parts: object) -> bytes:
    return event({"choices": [{"finish_reason": None, "index": 0, "delta": parts}], "id": "c"})


ROLE = delta(role="assistant", content=None)
END = b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}]}\n\n'
CUT = END.replace(b"stop", b"length")
USAGE = event(
    {
        "choices": [],
        "usage": {"completion_tokens": 3, "prompt_tokens": 63, "total_tokens": 66},
        "timings": {"prompt_n": 63, "prompt_ms": 2.0},
    }
)
DONE = b"data: [DONE]\n\n"


def read(content: bytes, size: int = 4096) -> tuple[str, ChatCounts]:
    lines, reply, text = LineSplitter(), OpenAIReply("m"), ""
    for start in range(0, len(content), size):
        for line in filter(bytes.strip, lines.split(content[start : start + size])):
            text += reply.take(line) or ""
            if reply.counts is not None:
                return text, reply.counts
    if lines.rest().strip():
        text += reply.take(lines.rest()) or ""
    return text, reply.end()


COUNTS = ChatCounts(63, 3, is_complete=True, reading_seconds=0.002)


@pytest.mark.parametrize(
    ("stream", "text", "counts"),
    [
        (ROLE + delta(content="a\u0085b") + END + USAGE + DONE, "a\u0085b", COUNTS),
        (ROLE + delta(content="ab") + END + USAGE, "ab", COUNTS),
        (delta(content="ab") + CUT + USAGE + DONE, "ab", COUNTS._replace(is_complete=False)),
        (
            delta(content="ab") + END.replace(b"stop", b"content_filter") + USAGE + DONE,
            "ab",
            COUNTS._replace(is_complete=False, is_filtered=True),
        ),
        (
            delta(content="ab") + END + USAGE.replace(b"63", b"-63") + DONE,
            "ab",
            COUNTS._replace(input_tokens=0, is_reported=False),
        ),
        (
            delta(content="ab") + END + DONE,
            "ab",
            ChatCounts(0, 0, is_complete=True, is_reported=False),
        ),
        (delta(reasoning_content="hm") + delta(content="ab") + END + USAGE + DONE, "ab", COUNTS),
        (delta(content="<think>hm</think>ab") + END + USAGE + DONE, "ab", COUNTS),
        (delta(reasoning="hm") + END + USAGE + DONE, "", COUNTS._replace(is_thought=True)),
        (b": alive\n\nevent: x\r\n" + delta(content="ab") + END + USAGE + DONE, "ab", COUNTS),
    ],
)
def test_a_stream_is_its_text_and_the_servers_counts(
    stream: bytes, text: str, counts: ChatCounts
) -> None:
    assert read(stream) == (text, counts)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (event({"error": {"code": 500, "message": "the slot has crashed"}}), "slot has crashed"),
        (b'error: {"message":"the slot has crashed"}\n', "slot has crashed"),
        (b'event: error\ndata: {"error":"the slot has crashed"}\n', "slot has crashed"),
        (b'{"error":{"message":"the slot has crashed"}}\n', "slot has crashed"),
        (delta(content="b"), "stopped before its answer was complete"),
        (DONE, "stopped before its answer was complete"),
    ],
)
def test_an_answer_that_fails_on_the_way_says_why(stream: bytes, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        read(delta(content="a") + stream)


@pytest.mark.parametrize(
    ("status", "message", "error", "words"),
    [
        (404, "model 'm' not found", ModelMissingError, "m is not served .*immunos-mcp models"),
        (401, "Invalid API Key", EngineError, "refuses access .*http://:KEY@"),
        (429, "slow down", EngineBusyError, "busy: slow down"),
        (503, "Loading model", EngineBusyError, "busy: Loading model"),
        (500, "boom\x1b[2J", EngineError, r"HTTP 500\): boom\?"),
    ],
)
def test_a_refusal_is_told_in_words(
    status: int, message: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        raise_for(status, json.dumps({"error": {"message": message}}).encode(), "m")


@pytest.mark.parametrize(
    ("message", "more", "needed"),
    [
        (
            "request (9052 tokens) exceeds the available context size (4096 tokens)",
            {"type": "exceed_context_size_error", "n_prompt_tokens": 9052},
            9052,
        ),
        (
            (
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
                " (4500 in the messages, 500 in the completion)."
            ),
            {},
            4500,
        ),
        ("the number of tokens is greater than the context length", {}, None),
    ],
)
def test_a_prompt_that_does_not_fit_is_told_with_the_numbers(
    message: str, more: dict[str, object], needed: int | None
) -> None:
    with pytest.raises(ContextExceededError) as refused:
        raise_for(400, json.dumps({"error": {"message": message, **more}}).encode(), "m")
    assert refused.value.needed_tokens == needed


@given(mutated([ROLE + delta(content="a\u2028b") + END + USAGE + DONE]), st.integers(1, 40))
@example((delta(content="a") + END + USAGE).replace(b"63", b"1e400"), 7)
@example(b"data: " + b"[" * 100_000, 4096)
@example(delta(content="a").replace(b'"a"', b'"\\ud800"') + END + DONE, 1)
def test_any_stream_is_text_with_counts_or_an_error(content: bytes, size: int) -> None:
    try:
        text, counts = read(content, size)
    except (EngineError, ValueError):
        return
    text.encode()
    assert 0 <= counts.input_tokens <= MAXIMUM_TOKENS
    assert 0 <= counts.output_tokens <= MAXIMUM_TOKENS


def test_models_are_named_by_their_files_and_have_the_context_that_the_server_gives() -> None:
    listing: Json = {
        "data": [
            {"id": "/models/tiny.gguf", "meta": {"n_ctx": 8192, "n_params": 7_600_000_000}},
            {"id": "org/vllm", "max_model_len": 4096},
            {"id": "mlx", "status": {"value": "unloaded"}},
            {"id": 5},
            {"id": "a\x1b"},
        ]
    }
    properties: Json = {"default_generation_settings": {"n_ctx": 2048}}
    tiny, vllm, mlx = models_of(listing, {}, "e")
    assert (tiny.name, tiny.served_as) == ("tiny.gguf", "/models/tiny.gguf")
    assert (tiny.context_length, tiny.is_loaded, tiny.parameter_size) == (8192, True, "7.6B")
    assert (vllm.name, vllm.context_length, vllm.is_loaded) == ("org/vllm", 4096, True)
    assert (mlx.context_length, mlx.is_loaded, mlx.engine) == (None, False, "e")
    assert models_of(listing, properties, "e")[0].context_length == 2048
    with pytest.raises(ValueError, match="no list of models"):
        models_of({"version": "1"}, {}, "e")
