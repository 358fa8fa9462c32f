"""When sessions reached their thresholds, and when they would have with other settings."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.answers.replay import Crossing
from immunos_mcp.domain import TokenCounts, WarningLevel
from immunos_mcp.rules import levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from immunos_mcp.replay.history import History, PastDecision, PastSession, PastUsage
    from immunos_mcp.rules.settings import Settings

END_OF_TIME = "9999"
CROSSED_LEVELS = (WarningLevel.WARNING, WarningLevel.CRITICAL)

Moves = list[tuple[str, int]]
"""Budget tokens added to a session, or removed (negative), each with its time, in order of time."""


class ThresholdTracker:
    """Tracks a session's total over time and when it reached its thresholds."""

    def __init__(self, session: PastSession, settings: Settings, moves: Moves) -> None:
        self.session = session
        self.settings = settings
        self.reached: dict[WarningLevel, str] = {}
        self._moves = moves[::-1]
        self._moved = 0
        self._weights = levels.weights_in_thousandths(settings)
        self._thousandths = 0

    def start_from(self, counts: TokenCounts, moment: str) -> None:
        """Start from a total whose details are gone, as of a given time."""
        self._add(counts)
        self._check_thresholds(moment)

    def may_reach(self) -> bool:
        """Return whether the session could have reached a threshold."""
        most = levels.budget_tokens(self.session.claude, self.settings)
        most += sum(max(0, tokens) for _, tokens in self._moves)
        return most >= self.settings.token_warning_threshold

    def apply_moves(self, until: str) -> None:
        """Apply the moves up to a given time."""
        while self._moves and self._moves[-1][0] <= until:
            at, tokens = self._moves.pop()
            self._moved += tokens
            self._check_thresholds(at)

    def add(self, usage: PastUsage) -> None:
        """Add usage, after the moves before it."""
        self.apply_moves(usage.at)
        self._add(usage)
        self._check_thresholds(usage.at)

    def _add(self, counts: PastUsage | TokenCounts) -> None:
        of_input, of_output, of_cache_creation, of_cache_read = self._weights
        self._thousandths += (
            counts.input_tokens * of_input
            + counts.output_tokens * of_output
            + counts.cache_creation_input_tokens * of_cache_creation
            + counts.cache_read_input_tokens * of_cache_read
        )

    def _check_thresholds(self, at: str) -> None:
        total = levels.rounded(self._thousandths) + self._moved
        level = levels.warning_level(total, self.settings)
        if level is not WarningLevel.NORMAL:
            self.reached.setdefault(WarningLevel.WARNING, at)
        if level is WarningLevel.CRITICAL:
            self.reached.setdefault(WarningLevel.CRITICAL, at)


class _Comparison(NamedTuple):
    """A session as it was and as it would have been."""

    session: PastSession
    before: ThresholdTracker
    after: ThresholdTracker

    def has_ended(self, moment: str) -> bool:
        return self.session.ended_at is not None and moment >= self.session.ended_at

    def counts_folder(self, folder: str | None) -> bool:
        own = self.session.folder
        return own is None or (folder is not None and f"{folder}/".startswith(f"{own}/"))


def crossings(
    history: History,
    settings_of: Callable[[PastDecision | None], tuple[Settings, Settings]],
    last_decisions: Mapping[int, PastDecision],
    moves: Mapping[int, Moves],
) -> Iterator[Crossing]:
    """Yield the thresholds that sessions reached or would have reached, with the times.

    Args:
        history: the logged past.
        settings_of: the settings before and after the change, of a decision; ``None``: the current
            ones.
        last_decisions: each session's last replayed decision.
        moves: the moves of each session.
    """
    compared: list[_Comparison] = []
    for session in history.sessions():
        before, after = settings_of(last_decisions.get(session.session_id))
        each = _Comparison(
            session,
            ThresholdTracker(session, before, []),
            ThresholdTracker(session, after, moves.get(session.session_id, [])),
        )
        if each.before.may_reach() or each.after.may_reach():
            compared.append(each)
    if compared:
        _track(compared, history)
    for each in compared:
        yield from _crossings_of(each)


def _track(compared: Sequence[_Comparison], history: History) -> None:
    if history.pruned_before is not None:
        _start_from_pruned(compared, history, history.pruned_before)
    for used, counting in _arrivals(compared, history.usage()):
        for each in counting:
            each.before.add(used)
            each.after.add(used)
    for each in compared:
        each.before.apply_moves(END_OF_TIME)
        each.after.apply_moves(END_OF_TIME)


def _start_from_pruned(
    compared: Sequence[_Comparison], history: History, pruned_before: str
) -> None:
    """Start every session from its tokens that were pruned."""
    left = {each.session.session_id: TokenCounts() for each in compared}
    for used, counting in _arrivals(compared, history.usage()):
        for each in counting:
            left[each.session.session_id] += TokenCounts(*used[3:])
    for session, before, after in compared:
        moment = min(pruned_before, session.ended_at or END_OF_TIME)
        pruned = session.claude - left[session.session_id]
        before.start_from(pruned, moment)
        after.start_from(pruned, moment)


def _arrivals(
    compared: Sequence[_Comparison], usage: Iterable[PastUsage]
) -> Iterator[tuple[PastUsage, Sequence[_Comparison]]]:
    """Yield each usage with the sessions that count it; ``compared`` is in order of start."""
    by_session = {each.session.session_id: each for each in compared}
    waiting = list(reversed(compared))
    current: list[_Comparison] = []
    for used in usage:
        while waiting and waiting[-1].session.started_at <= used.at:
            current.append(waiting.pop())
        if any(each.has_ended(used.at) for each in current):
            current = [each for each in current if not each.has_ended(used.at)]
        if used.session_id is None:
            counting = [each for each in current if each.counts_folder(used.folder)]
        else:
            counting = [by_session[used.session_id]] if used.session_id in by_session else []
        yield used, counting


def _crossings_of(compared: _Comparison) -> Iterator[Crossing]:
    session, before, after = compared
    for level in CROSSED_LEVELS:
        was, would = before.reached.get(level), after.reached.get(level)
        if was or would:
            yield Crossing(session.session_id, session.name, level, _moment(was), _moment(would))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
