"""A mapped file has the same marked lines as one that is read."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immunos_mcp.assistants import mapped_lines, marked_lines
from immunos_mcp.assistants.mapped_lines import fastest_lines
from immunos_mcp.assistants.marked_lines import MarkedLines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINES = st.tuples(
    st.sampled_from([0, 3, 40, 4090, 5000, 60_000]),
    st.sampled_from([b"", b"usage", b"total", b"total usage", b"usag", b"\0"]),
    st.sampled_from([0, 5, 3000]),
)
"""What a line is made of: how much stands before its mark, and how much after it."""


@pytest.fixture(scope="module", autouse=True)
def _small_windows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped_lines, "WINDOW_BYTES", 4096)
        patch.setattr(mapped_lines, "BLOCK_BYTES", 64)
        patch.setattr(marked_lines, "BLOCK_BYTES", 4096)
        patch.setattr(marked_lines, "_spare_buffers", [])
        for module in (mapped_lines, marked_lines):
            patch.setattr(module, "LONGEST_LINE", 2**14)
        yield


def read(kind: type[MarkedLines], file: Path, offset: int) -> list[object]:
    with file.open("rb", buffering=0) as opened:
        lines = kind(opened, offset, b"usage", b"total")
        found = [(bytes(line), lines.before(), lines.is_unfinished) for line in lines]
        return [found, lines.passed_bytes, lines.too_long]


@settings(max_examples=30)
@given(
    made=st.lists(LINES, max_size=12), has_end=st.booleans(), offset=st.sampled_from([0, 0, 4000])
)
def test_a_mapped_file_has_the_lines_of_one_that_is_read(
    made: Sequence[tuple[int, bytes, int]], *, has_end: bool, offset: int
) -> None:
    lines = [b"x" * before + mark + b"y" * after for before, mark, after in made]
    content = b"\n".join(lines) + b"\n" * has_end
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "log.jsonl")
        file.write_bytes(content)
        start = min(offset, len(content))
        assert read(fastest_lines(), file, start) == read(MarkedLines, file, start)


def test_where_files_cannot_be_mapped_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError

    file = tmp_path / "log.jsonl"
    file.write_bytes(b"a usage\nmore usage")
    expected = read(MarkedLines, file, 0)
    monkeypatch.setattr(mmap, "mmap", refuse)
    assert read(fastest_lines(), file, 0) == expected
