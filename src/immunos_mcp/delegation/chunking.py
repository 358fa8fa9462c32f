"""Fits a task into a model's context: estimates tokens, splits material and merges the results.

The model is a function here, so that all of this can be tested without one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.delegation.material import numbered
from immunos_mcp.errors import BadAnswerError, DelegationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from immunos_mcp.delegation.request import Assignment

    OnText = Callable[[str], None]
    """Receives the text of a result as it arrives."""

    Complete = Callable[[str, OnText | None], Awaitable["Completion"]]
    """Returns the model's answer to one prompt.

    Raises:
        PromptTooLongError: the prompt exceeds the model's context.
    """

DIVISIBLE_TASKS = frozenset({"summarize", "file_analysis", "code_scan"})
"""Task types whose material may be split into parts and their results merged."""

MOST_PARTS = 64
BYTES_PER_TOKEN = 3
"""Fewer than in any common tokenizer for text or code, so that estimates are too high, not too low."""

TEMPLATE_TOKENS = 64
"""Room for the tokens that the engine's chat template adds to a prompt."""

SMALLEST_PART = 256
"""Tokens of material in a part; splitting into smaller ones is pointless."""

_MERGE = "The material is what was found in each part of it. Merge it."


class PromptTooLongError(Exception):
    """A prompt exceeds the model's context, by the engine's count."""

    def __init__(self, needed_tokens: int) -> None:
        super().__init__(needed_tokens)
        self.needed_tokens = needed_tokens

    def smaller(self, space: int, context_tokens: int) -> int:
        """Return room for material that should fit, assuming the same density; at least an eighth less."""
        return min(space * context_tokens // self.needed_tokens, space) * 7 // 8


class ModelLimits(NamedTuple):
    """What a model may use for a task.

    Attributes:
        model: the name it was requested by.
        context_tokens: its largest context.
        output_tokens: the part of it that is reserved for thinking and answer.
        thinking_tokens: the part of ``output_tokens`` that is not for the answer.
        loaded_context: the context that it is loaded with; 0: it is not loaded, or nothing says.
    """

    model: str
    context_tokens: int
    output_tokens: int
    thinking_tokens: int = 0
    loaded_context: int = 0


class Completion(NamedTuple):
    """A model's answer to one prompt; incomplete if it was cut off."""

    text: str
    is_complete: bool


class Result(NamedTuple):
    """The result of a task, whether it is complete, and the number of parts it was split into."""

    text: str
    is_complete: bool
    parts: int


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of a text, rather too many than too few."""
    return len(text.encode()) // BYTES_PER_TOKEN + 1


def prompt_text(assignment: Assignment, lines: Sequence[str], note: str = "") -> str:
    """Return the prompt for a task with some lines of its material."""
    parts = [assignment.prompt]
    if assignment.instructions:
        parts.append(assignment.instructions)
    if assignment.schema is not None:
        parts.append(f"Answer with JSON of this schema alone: {json.dumps(assignment.schema)}")
    if assignment.earlier_fault:
        parts.append(f"An earlier answer was wrong, avoid that: {assignment.earlier_fault[:400]}")
    if note:
        parts.append(note)
    if lines:
        parts.append("Material:\n" + "\n".join(lines))
    return "\n\n".join(parts)


def divided(lines: Sequence[str], space: int) -> list[list[str]]:
    """Split lines into parts of at most ``space`` tokens; a longer line is split itself."""
    parts: list[list[str]] = [[]]
    used = 0
    longest = space * BYTES_PER_TOKEN // 4
    pieces = (
        line[start : start + longest]
        for line in lines
        for start in range(0, max(1, len(line)), longest)
    )
    for piece in pieces:
        tokens = estimated_tokens(piece)
        if used + tokens > space and parts[-1]:
            parts.append([])
            used = 0
        parts[-1].append(piece)
        used += tokens
    return parts


async def completed(
    assignment: Assignment, limits: ModelLimits, complete: Complete, on_text: OnText | None
) -> Result:
    """Let a model do a task: in one prompt if the material fits, otherwise in parts if the task allows it.

    Args:
        assignment: the task.
        limits: the model's limits.
        complete: returns the model's answer to one prompt.
        on_text: receives the text of the result, not of its parts.

    Raises:
        DelegationError: the material does not fit.
    """
    lines = [
        line
        for document in assignment.material.documents
        for line in (f"== {document.name}", *numbered(document))
    ]
    context_tokens, output_tokens = limits.context_tokens, limits.output_tokens
    frame = estimated_tokens(prompt_text(assignment, []))
    space = context_tokens - output_tokens - frame - TEMPLATE_TOKENS
    needed = _size(lines)
    try:
        if needed <= space:
            return Result(*await complete(prompt_text(assignment, lines), on_text), parts=1)
    except PromptTooLongError as error:
        needed = error.needed_tokens
        space = error.smaller(space, context_tokens)
    if assignment.task_type not in DIVISIBLE_TASKS or space < SMALLEST_PART:
        raise DelegationError(
            f"the task needs about {needed + output_tokens} tokens, but {limits.model} has a context"
            f" of {context_tokens}; use fewer or smaller files, or a model with a longer context"
        )
    return await _Merging(assignment, limits, complete, space).result(lines, on_text)


class _Merging:
    """Processes material part by part, then the results, until they fit in one part."""

    def __init__(
        self, assignment: Assignment, limits: ModelLimits, complete: Complete, space: int
    ) -> None:
        self._assignment = assignment
        self._limits = limits
        self._complete = complete
        self._space = space
        self._parts = 0
        self._is_complete = True

    async def result(self, lines: Sequence[str], on_text: OnText | None) -> Result:
        while True:
            waiting = divided(lines, self._space)
            if len(waiting) == 1:
                merged = await self._part(waiting, _MERGE, on_text)
                if merged is not None:
                    return Result(merged, self._is_complete, self._parts)
            found = await self._each(waiting)
            if _size(found) >= _size(lines):
                fault = f"{self._limits.model} does not shorten the material"
                raise BadAnswerError(fault, "do the task yourself")
            lines = found

    async def _each(self, waiting: list[list[str]]) -> list[str]:
        """Return the results of all parts, as material to merge."""
        found: list[str] = []
        while waiting:
            number = self._parts + 1
            note = f"This is part {number} of several; another step merges the results."
            text = await self._part(waiting, note, None)
            if text is not None:
                found += [f"== part {number}", *text.splitlines()]
        return found

    async def _part(
        self, waiting: list[list[str]], note: str, on_text: OnText | None
    ) -> str | None:
        """Process and remove the first part; ``None``: it was too long, and all are split smaller now."""
        if self._parts == MOST_PARTS:
            raise DelegationError(
                f"the task needs more than {MOST_PARTS} parts with {self._limits.model};"
                " use fewer or smaller files"
            )
        try:
            text, is_complete = await self._complete(
                prompt_text(self._assignment, waiting[0], note), on_text
            )
        except PromptTooLongError as error:
            # The estimate was too low for this text, so probably for the rest too.
            self._space = error.smaller(self._space, self._limits.context_tokens)
            waiting[:] = divided([line for part in waiting for line in part], self._space)
            return None
        del waiting[0]
        self._parts += 1
        self._is_complete = self._is_complete and is_complete
        return text


def _size(lines: Sequence[str]) -> int:
    return sum(map(estimated_tokens, lines))
