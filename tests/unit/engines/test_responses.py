"""A chat's stream, whatever is in it: pieces with text that can be written, and counts or an error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st
from mutations import mutated

from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.engines.responses import EngineError, Piece, lines_of, pieces_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STREAM = (
    '{"message":{"role":"assistant","content":"","thinking":"hm"},"done":false}\n'
    '{"message":{"role":"assistant","content":"<think>so</think>line one\u0085line two"},"done":false}\n'
    '{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":50,"eval_count":9,'
    '"prompt_eval_duration":6035000}\n'
).encode()
FAILURE = b'{"error":"the runner has crashed"}\n'


async def _pieces(content: bytes, size: int) -> list[Piece]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    return [piece async for piece in pieces_of(lines_of(chunks()), "m")]


def read(content: bytes, size: int) -> list[Piece] | str:
    """Return the pieces of a stream that comes in chunks of a size, or its error."""
    try:
        return asyncio.run(_pieces(content, size))
    except (EngineError, ValueError) as error:
        return type(error).__name__


@given(mutated([STREAM, STREAM + FAILURE, FAILURE]), st.integers(1, 40))
@example(STREAM.replace(b"50", b"1e400"), 7)
@example(STREAM.replace(b"hm", b"\\ud800"), 1)
@example(b"[" * 100_000, 4096)
@example(STREAM.replace(b'{"content":""}', b"[]"), 40)
def test_any_stream_is_pieces_with_counts_or_an_error(content: bytes, size: int) -> None:
    pieces = read(content, size)
    assert read(content, len(content) or 1) == pieces
    if isinstance(pieces, str):
        return
    final = pieces[-1].final
    assert final is not None
    assert [piece.final for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert 0 <= final.input_tokens <= MAXIMUM_TOKENS
    assert 0 <= final.output_tokens <= MAXIMUM_TOKENS
    assert 0 <= final.reading_seconds <= 86_400
    "".join(piece.text for piece in pieces).encode()


def test_the_stream_as_it_is_has_its_text_without_thoughts() -> None:
    pieces = read(STREAM, 5)
    assert not isinstance(pieces, str)
    assert "".join(piece.text for piece in pieces) == "line one\u0085line two"
