"""Thinking inside an answer is dropped, however the answer is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from immunos_mcp.engines.thoughts import ThoughtFilter, without_opened_thought

ANSWERS = [
    ("The answer", "The answer", False),
    ("<think>long reasoning</think>\n\nThe answer", "The answer", False),
    ("\n <THINK>a</Think>The answer", "The answer", False),
    ("<thinking>a\n<b></thinking> The answer", "The answer", False),
    ("<think></think><think>again</think>x", "x", False),
    ("<think>reasoning never ends", "", True),
    ("<think>", "", True),
    ("<think>a</think", "", True),
    ("<think>a</think>", "", False),
    ("<thin", "<thin", False),
    ("<thinker>", "<thinker>", False),
    ("Use <think>tags</think> here", "Use <think>tags</think> here", False),
    ("", "", False),
]


def said(pieces: list[str]) -> tuple[str, bool]:
    thoughts = ThoughtFilter()
    text = "".join([thoughts.said(piece) for piece in pieces])
    return text + thoughts.rest(), thoughts.is_thinking


@pytest.mark.parametrize(("whole", "answer", "is_thinking"), ANSWERS)
def test_the_thinking_before_an_answer_is_dropped(
    whole: str, answer: str, is_thinking: bool
) -> None:
    for pieces in ([whole], list(whole), [whole[:9], whole[9:]]):
        text, still_thinks = said(pieces)
        assert (text.strip(), still_thinks) == (answer, is_thinking)


TAGS = ["<think>", "</think>", "<thinking>", "</thinking>", "<", ">", "think", "/", " ", "\n", "a"]


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join), st.lists(st.integers(0, 60)))
@example("<think><</think>a", [8])
def test_where_an_answer_is_cut_into_pieces_changes_nothing(whole: str, cuts: list[int]) -> None:
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    assert said(pieces) == said([whole])
    if "<think" not in whole:
        assert said(pieces) == (whole, False)


def test_a_thought_that_the_prompt_opened_is_dropped_up_to_its_closing_line() -> None:
    assert without_opened_thought("So I must\n</think>\n\nThe answer") == "The answer"
    for whole in ("It ends with `</think>` here", "Use\n<think>\n</think>\nin XML", "The answer"):
        assert without_opened_thought(whole) == whole
