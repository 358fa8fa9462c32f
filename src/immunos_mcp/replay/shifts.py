"""How far session totals differ from the logged ones when tasks move between providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import Provider
from immunos_mcp.rules import levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from immunos_mcp.replay.history import History, PastDecision, PastWork
    from immunos_mcp.rules.settings import Settings


class Shifts:
    """The differences from the logged totals of all sessions, from the first decision on.

    A task that moves away from Claude takes the budget tokens of its responses along; one that moves to
    Claude adds those of its local responses. If the decision has no responses, its estimate is used.

    Attributes:
        totals: budget tokens to add to each session's logged total from now on.
        moves: the tokens added and when, by session.
        kept_tokens: budget tokens moved away from Claude.
        spent_tokens: tokens moved to Claude.
    """

    def __init__(self, history: History) -> None:
        self.totals: dict[int, int] = {}
        self.moves: dict[int, list[tuple[str, int]]] = {}
        self.kept_tokens = 0
        self.spent_tokens = 0
        self._work = _WorkByDecision(history.work)

    def move(self, past: PastDecision, provider: Provider, settings: Settings) -> None:
        """Move a decision's tokens to another provider."""
        tokens = self._tokens(past, provider, settings)
        if provider is Provider.OLLAMA:
            self.kept_tokens += tokens
            tokens = -tokens
        else:
            self.spent_tokens += tokens
        if tokens:
            self.totals[past.session_id] = self.totals.get(past.session_id, 0) + tokens
            self.moves.setdefault(past.session_id, []).append((past.decided_at, tokens))

    def _tokens(self, past: PastDecision, provider: Provider, settings: Settings) -> int:
        work = self._work.of(past.decision_id)
        if work is not None:
            counts = work.claude if provider is Provider.OLLAMA else work.local
            if counts.total:
                return levels.budget_tokens(counts, settings)
        return past.estimated_tokens or 0


class _WorkByDecision:
    """Looks up the tokens of decisions in ascending order; reads nothing before the first lookup."""

    def __init__(self, read: Callable[[], Iterable[PastWork]]) -> None:
        self._read = read
        self._rest: Iterator[PastWork] | None = None
        self._next: PastWork | None = None

    def of(self, decision_id: int) -> PastWork | None:
        if self._rest is None:
            self._rest = iter(self._read())
            self._next = next(self._rest, None)
        while self._next is not None and self._next.decision_id < decision_id:
            self._next = next(self._rest, None)
        found = self._next
        return found if found is not None and found.decision_id == decision_id else None
