"""Material in parts that fit a model, and their results merged; the model is a function here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.delegation.chunking import (
    MOST_PARTS,
    Completion,
    ModelLimits,
    PromptTooLongError,
    Result,
    completed,
    divided,
    estimated_tokens,
)
from immunos_mcp.delegation.material import Document, Material
from immunos_mcp.delegation.request import Assignment
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = ModelLimits("m", context_tokens=1000, output_tokens=100)
LINES = tuple(f"entry {number:04}" for number in range(400))


def assignment(lines: tuple[str, ...], task_type: str = "summarize") -> Assignment:
    return Assignment(
        prompt="Sum up",
        task_type=task_type,
        material=Material((Document("log", lines),), 0),
        instructions=None,
        max_output_tokens=None,
        output=None,
        session=None,
    )


@dataclass
class Model:
    """Answers every prompt with one text, and refuses prompts with more bytes than it takes."""

    text: str = "found"
    most_bytes: int = 10**9
    incomplete: int | None = None
    prompts: list[str] = field(default_factory=list[str])

    async def complete(self, prompt: str, on_text: Callable[[str], None] | None) -> Completion:
        size = len(prompt.encode())
        if size > self.most_bytes:
            raise PromptTooLongError(LIMITS.context_tokens * size // self.most_bytes)
        self.prompts.append(prompt)
        if on_text is not None:
            on_text(self.text)
        return Completion(self.text, len(self.prompts) != self.incomplete)


async def done(model: Model, given: Assignment) -> tuple[Result, list[str]]:
    told: list[str] = []
    return await completed(given, LIMITS, model.complete, told.append), told


@given(st.lists(st.text(max_size=90), max_size=30), st.integers(2, 60))
def test_parts_hold_all_text_in_order_and_fit(lines: list[str], space: int) -> None:
    parts = divided(lines, space)
    assert "".join(piece for part in parts for piece in part) == "".join(lines)
    for part in parts:
        assert len(part) == 1 or sum(map(estimated_tokens, part)) <= space


@pytest.mark.anyio
async def test_what_fits_is_done_in_one_go_and_heard_as_it_comes() -> None:
    model = Model()
    result, told = await done(model, assignment(LINES[:3], "code_review"))
    assert (result, told) == (Result("found", is_complete=True, parts=1), ["found"])
    assert model.prompts == [
        "Sum up\n\nMaterial:\n== log\n1| entry 0000\n2| entry 0001\n3| entry 0002"
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("most_bytes", [10**9, 1200], ids=["as estimated", "denser"])
async def test_every_line_is_in_one_part_and_only_the_merged_result_is_heard(
    most_bytes: int,
) -> None:
    model = Model(most_bytes=most_bytes)
    result, told = await done(model, assignment(LINES))
    *parts, merged = model.prompts
    found = [line.split("| ")[1] for part in parts for line in part.splitlines() if "| " in line]
    assert tuple(found) == LINES
    assert merged.count("\nfound") == len(parts)
    assert (result.parts, told) == (len(model.prompts), ["found"])
    for number, part in enumerate(parts, 1):
        assert f"part {number} of several" in part


@pytest.mark.anyio
async def test_a_result_is_incomplete_if_any_part_was_cut_off() -> None:
    assert (await done(Model(), assignment(LINES)))[0].is_complete
    assert not (await done(Model(incomplete=2), assignment(LINES)))[0].is_complete


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (
            Model(),
            assignment(LINES, "code_review"),
            r"needs about [0-9]+ tokens, but m has a context of 1000",
        ),
        (Model(text="more " * 2000), assignment(LINES), "m does not shorten the material"),
        (Model(), assignment(LINES * 50), f"more than {MOST_PARTS} parts with m"),
    ],
    ids=["indivisible", "never shorter", "too many parts"],
)
async def test_what_cannot_be_done_is_refused_with_its_reason(
    model: Model, given: Assignment, words: str
) -> None:
    with pytest.raises(DelegationError, match=words):
        await done(model, given)
