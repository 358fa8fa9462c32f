"""One answer of a model as it arrives, and whether it can be one at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from immunos_mcp.delegation.checks.repetition import ends_in_loop
from immunos_mcp.delegation.chunking import TEMPLATE_TOKENS, Completion
from immunos_mcp.engines.responses import PromptCutError
from immunos_mcp.engines.thoughts import without_opened_thought
from immunos_mcp.errors import BadAnswerError, DelegationError

if TYPE_CHECKING:
    from immunos_mcp.delegation.chunking import OnText
    from immunos_mcp.engines.responses import ChatCounts

NEVER_CUTS_SINCE = (0, 12, 6)
"""The version of Ollama from which on a prompt that does not fit is an error, as requested."""

_RUNS = re.compile(r"(\S)\1{3,}")
_LONGEST_TOKEN = 16
"""Bytes; the tokens of common tokenizers are longer only for runs of one character."""


class Answer:
    """The text of an answer, at most so many tokens of it.

    A piece is a token, except where several make one character. Later ones are counted and dropped: if the
    chat was broken off, the engine would not tell its counts.
    """

    def __init__(self, most_tokens: int, on_text: OnText | None) -> None:
        self._left = most_tokens
        self._on_text = on_text
        self._parts: list[str] = []
        self._is_whole = True

    def add(self, text: str) -> None:
        """Add a piece."""
        if not text:
            return
        if self._left == 0:
            self._is_whole = False
            return
        self._left -= 1
        self._parts.append(text)
        if self._on_text is not None:
            self._on_text(text)

    def completion(self, final: ChatCounts, model: str) -> Completion:
        """Return the whole answer.

        Raises:
            BadAnswerError: the model only thought, or repeats itself.
            DelegationError: the engine's content filter ended it, which says nothing of the model.
        """
        if final.is_filtered:
            raise DelegationError(
                f"the engine's content filter ended {model}'s answer; do the task yourself"
            )
        if final.is_thought:
            raise BadAnswerError(
                f"{model} used all of its {final.output_tokens} tokens for thinking and gave no answer",
                "raise max_output_tokens, or do the task yourself",
            )
        text = without_opened_thought("".join(self._parts)).strip()
        if ends_in_loop(text):
            raise BadAnswerError(
                f"{model} repeated itself instead of finishing its answer",
                "ask for less, or do the task yourself",
            )
        return Completion(text, final.is_complete and self._is_whole)


def check_prompt_was_read(
    prompt: str, num_ctx: int, final: ChatCounts, version: str | None
) -> None:
    """Check by the engine's count that it read the whole prompt: some cut one that does not fit.

    Args:
        prompt: what it was sent.
        num_ctx: the context.
        final: its counts.
        version: of Ollama; ``None``: it is another engine.

    Raises:
        PromptCutError: it did not.
    """
    read = final.input_tokens
    if read == 0:
        return  # versions that cut prompts leave the count out for one that they had read before
    can_be_cut = (
        version is not None
        and len(prompt.encode()) + TEMPLATE_TOKENS > num_ctx
        and not _never_cuts(version)
    )
    is_half = can_be_cut and abs(read - (num_ctx // 2 + 2)) <= 2
    if is_half or read < _fewest_tokens(prompt):
        who, remedy = "the engine", ""
        if version is not None:
            who = f"Ollama {version or 'of an unknown version'}"
            remedy = f"update Ollama ({'.'.join(map(str, NEVER_CUTS_SINCE))} or later), "
        raise PromptCutError(
            f"{who} read only {read} tokens of the prompt and cut the rest; {remedy}use fewer or smaller"
            " files, or do the task yourself"
        )


def _never_cuts(version: str) -> bool:
    found = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    return found is not None and tuple(map(int, found.groups())) >= NEVER_CUTS_SINCE


def _fewest_tokens(prompt: str) -> int:
    """Return a number of tokens that a prompt has at least: a tokenizer joins no words."""
    plain = _RUNS.sub(r"\1", prompt)
    return max(len(plain.split()) * 9 // 10, len(plain.encode()) // (2 * _LONGEST_TOKEN))
