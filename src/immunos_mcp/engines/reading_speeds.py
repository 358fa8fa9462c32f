"""How fast an engine reads prompts, and so how long its silence before an answer is explained. Pure."""

from __future__ import annotations

SLOWEST_TOKENS_PER_SECOND = 20.0
"""Assumed of a model that has not read anything yet: a large one on an old processor."""

MARGIN = 3.0
"""How much slower than measured an engine may be: it may have other things to do."""

FEWEST_TOKENS = 256
"""Tokens of a prompt from which its time says something of the speed."""


class ReadingSpeeds:
    """The slowest speed that was seen of each model.

    The slowest, since an engine reads a prompt faster whose beginning it has read before.
    """

    def __init__(self) -> None:
        self._slowest: dict[str, float] = {}

    def add(self, model: str, tokens: int, seconds: float) -> None:
        """Take note of a prompt that was read."""
        if tokens >= FEWEST_TOKENS and seconds > 0:
            speed = tokens / seconds
            self._slowest[model] = min(speed, self._slowest.get(model, speed))

    def seconds(self, model: str, tokens: int) -> float:
        """Return how long reading so many tokens may take."""
        seen = self._slowest.get(model)
        return tokens / (SLOWEST_TOKENS_PER_SECOND if seen is None else seen / MARGIN)
