"""Thinking that a model writes into its answer, as models without the engine's support for it do."""

from __future__ import annotations

import re

_OPENING = ("<think>", "<thinking>")
_CLOSING = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_LONGEST_CLOSING = len("</thinking>")
_CLOSING_LINE = re.compile(r"^[ \t]*</think(?:ing)?>[ \t]*$", re.IGNORECASE | re.MULTILINE)


class ThoughtFilter:
    """Drops the thinking that an answer begins with from the pieces that it arrives in.

    A tag inside an answer is part of it: a task may be about such tags.

    Attributes:
        has_thought: whether there was any.
        is_thinking: whether the last piece ended within a thought.
    """

    def __init__(self) -> None:
        self.has_thought = False
        self.is_thinking = False
        self._is_speaking = False
        self._held = ""

    def said(self, text: str) -> str:
        """Return what a piece adds to the answer."""
        if self._is_speaking:
            return text
        self._held += text
        while self._drop_thought() or self._begin_thought():
            pass
        if self.is_thinking or _may_open(self._held):
            return ""
        self._is_speaking = True
        return self.rest()

    def rest(self) -> str:
        """Return what was held back, at the end of the answer: it was not the beginning of a tag."""
        held, self._held = self._held, ""
        return "" if self.is_thinking else held

    def _begin_thought(self) -> bool:
        begun = self._held.lstrip()
        for tag in _OPENING:
            if not self.is_thinking and begun[: len(tag)].lower() == tag:
                self.has_thought = self.is_thinking = True
                self._held = begun[len(tag) :]
                return True
        return False

    def _drop_thought(self) -> bool:
        if not self.is_thinking:
            return False
        closing = _CLOSING.search(self._held)
        if closing is None:
            # Only the beginning of a closing tag matters of what was thought so far.
            self._held = self._held[-_LONGEST_CLOSING:]
            return False
        self.is_thinking, self._held = False, self._held[closing.end() :]
        return True


def _may_open(text: str) -> bool:
    begun = text.lstrip().lower()
    return any(tag.startswith(begun) for tag in _OPENING)


def without_opened_thought(text: str) -> str:
    """Return an answer without the thinking before a lone closing tag: some prompts open the thought themselves."""
    closing = _CLOSING_LINE.search(text)
    if closing is None or any(tag in text[: closing.start()].lower() for tag in _OPENING):
        return text
    return text[closing.end() :].strip()
