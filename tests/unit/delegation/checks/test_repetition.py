"""Answers that end in a loop, and answers that only look a little like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.delegation.checks.repetition import ends_in_loop

LOOPS = {
    "a word": "The answer is " + "no " * 200,
    "a sentence": "Line 3 is wrong.\n" + "I should check this again. " * 20,
    "lines": "Findings:\n" + "- one.py: fine\n- two.py: fine\n" * 15,
    "a paragraph": ("Let me think about this once more, from the start. " * 7 + "\n\n") * 9,
    "cut in the middle": ("Now the second part of it. " * 30)[:-11],
    "signs": "lol" * 200,
}
NO_LOOPS = {
    "empty": "",
    "short": "no no no no no no",
    "a rule": "Title\n" + "-" * 2000,
    "a table": "| a | b |\n" + "".join(f"| {number} | {number**2} |\n" for number in range(99)),
    "a loop that ended": "no " * 300
    + "and then it found that line 7 is wrong, which it explains here.",
    "few rows": "| name | 0 | 0 | 0 |\n" * 6,
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS)
def test_an_answer_that_ends_in_a_loop_is_one(text: str) -> None:
    assert ends_in_loop(text)


@pytest.mark.parametrize("text", NO_LOOPS.values(), ids=NO_LOOPS)
def test_an_answer_that_ends_is_none(text: str) -> None:
    assert not ends_in_loop(text)


@given(st.text(max_size=200), st.text("ab c\n", min_size=1, max_size=60), st.integers(0, 59))
def test_what_is_repeated_often_enough_is_found_wherever_it_is_cut(
    before: str, unit: str, cut: int
) -> None:
    text = before + unit * (800 // len(unit) + 9)
    text = text[: len(text) - cut % len(unit)]
    assert ends_in_loop(text) == any(map(str.isalnum, unit))
