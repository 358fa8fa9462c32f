"""Tasks done in forked processes, and the search that these use."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from immunos_mcp.assistants.byte_search import fastest_find
from immunos_mcp.assistants.reading_processes import in_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Part(Struct):
    task: int
    number: int
    content: bytes = b""


def parts(task: int) -> Iterator[Part]:
    for number in range(3):
        yield Part(task, number)


ALL = sorted((task, number) for task in range(9) for number in range(3))


def found_by(do: Callable[[int], Iterator[Part]]) -> list[tuple[int, int]]:
    return sorted((each.task, each.number) for each in in_processes(9, do, Part, 2))


def test_every_task_is_done_once() -> None:
    assert found_by(parts) == ALL


def test_what_fits_no_pipe_arrives_whole() -> None:
    def large(task: int) -> Iterator[Part]:
        for number in range(60):
            yield Part(task, number, bytes([number]) * 100_000)

    found = list(in_processes(3, large, Part, 3))
    assert sorted((each.task, each.number) for each in found) == [
        (task, number) for task in range(3) for number in range(60)
    ]
    assert all(each.content == bytes([each.number]) * 100_000 for each in found)


def test_tasks_of_killed_processes_are_done_here() -> None:
    here = os.getpid()

    def deadly(task: int) -> Iterator[Part]:
        if os.getpid() != here and task % 4 == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return parts(task)

    assert found_by(deadly) == ALL


def test_tasks_are_done_here_where_no_process_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    assert found_by(parts) == ALL


def test_an_error_in_a_task_is_the_callers() -> None:
    def broken(task: int) -> Iterator[Part]:
        if task == 5:
            raise ValueError("five")
        return parts(task)

    with pytest.raises(ValueError, match="five"):
        found_by(broken)


def test_processes_end_when_nobody_wants_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    fork = os.fork

    def noted() -> int:
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)

    def endless(task: int) -> Iterator[Part]:
        while True:
            yield Part(task, 0, bytes(100_000))

    found = in_processes(4, endless, Part, 2)
    assert next(iter(found)).number == 0
    found.close()
    assert len(children) == 2
    for child in children:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


@given(
    content=st.lists(st.sampled_from([b"ab", b"a", b"b", b"\0", b"\n"]), max_size=40).map(b"".join),
    wanted=st.sampled_from([b"ab", b"aab", b"b\0", b"abababab", b"\n"]),
    drawn=st.data(),
)
def test_the_fastest_search_finds_what_any_search_does(
    content: bytes, wanted: bytes, drawn: st.DataObject
) -> None:
    begin = drawn.draw(st.integers(0, len(content)))
    end = drawn.draw(st.integers(0, len(content)))
    buffer = bytearray(content)
    assert fastest_find()(buffer, wanted, begin, end) == buffer.find(wanted, begin, end)
    # Nothing holds on to the buffer, which would keep it from growing.
    buffer.extend(b"more")
