"""A chat's stream, whatever is in it: pieces with text that can be written, and counts or an error."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from mutations import mutated

from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.engines.ollama_responses import OllamaReply
from immunos_mcp.engines.responses import ChatCounts, EngineError, LineSplitter

STREAM = (
    '{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}\n'
    '{"message":{"role":"assistant","content":"<think>so</think>line one\u0085line two"},"done":false}\n'
    '{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":50,"eval_count":9,'
    '"prompt_eval_duration":6035000}\n'
).encode()
FAILURE = b'{"error":"the runner has crashed"}\n'


def _pieces(content: bytes, size: int) -> tuple[str, ChatCounts]:
    lines, reply, text = LineSplitter(), OllamaReply("m"), ""
    for start in range(0, len(content), size):
        for line in lines.split(content[start : start + size]):
            text += reply.take(line) or ""
            if reply.counts is not None:
                return text, reply.counts
    text += reply.take(lines.rest()) or ""
    return text, reply.end()


def read(content: bytes, size: int) -> tuple[str, ChatCounts] | str:
    """Return the text and counts of a stream that comes in chunks of a size, or its error."""
    try:
        return _pieces(content, size)
    except (EngineError, ValueError) as error:
        return type(error).__name__


@given(mutated([STREAM, STREAM + FAILURE, FAILURE]), st.integers(1, 40))
@example(STREAM.replace(b"50", b"1e400"), 7)
@example(STREAM.replace(b"hm", b"\\ud800"), 1)
@example(b"[" * 100_000, 4096)
@example(STREAM.replace(b'{"content":""}', b"[]"), 40)
def test_any_stream_is_pieces_with_counts_or_an_error(content: bytes, size: int) -> None:
    found = read(content, size)
    assert read(content, len(content) or 1) == found
    if isinstance(found, str):
        return
    text, final = found
    assert 0 <= final.input_tokens <= MAXIMUM_TOKENS
    assert 0 <= final.output_tokens <= MAXIMUM_TOKENS
    assert 0 <= final.reading_seconds <= 86_400
    text.encode()


def test_the_stream_as_it_is_has_its_text_without_thoughts() -> None:
    found = read(STREAM, 5)
    assert not isinstance(found, str)
    assert found[0] == "line one\u0085line two"
