"""What conversations' own totals have beyond their responses and requests. Pure.

Times are as stored: text that sorts by time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Counts: TypeAlias = "tuple[int, ...]"
"""The four kinds of tokens, those written to the cache for an hour, and web searches."""

_NOTHING: Counts = (0, 0, 0, 0, 0, 0)
_NEVER = "9999"


class State(NamedTuple):
    """The total of one conversation at some moment.

    Attributes:
        at: the last time written down before it.
        next_at: the first response after it; ``None``: none yet.
        models: the total of each model.
        is_whole: whether all the responses in it are known.
    """

    conversation: str
    at: str
    next_at: str | None
    models: Mapping[str, Counts]
    is_whole: bool


class Covered(NamedTuple):
    """A response or request that a conversation has; a fork has its parent's too."""

    identity: str
    conversation: str
    at: str
    model: str
    counts: Counts


class Place(NamedTuple):
    """Where side usage is booked: at a state of a conversation, for one model."""

    conversation: str
    at: str
    model: str


def residuals(states: Sequence[State], covered: Sequence[Covered]) -> dict[Place, Counts]:
    """Return the side usage of each state that is wholly known, over the state before it.

    Args:
        states: those of one family, oldest first.
        covered: the responses and requests of its conversations, in any order.
    """
    histories: defaultdict[str, list[State]] = defaultdict(list)
    for state in states:
        histories[state.conversation].append(state)
    owners: set[str] = set()
    done: list[str] = []
    found: dict[Place, Counts] = {}
    of_conversation: defaultdict[str, list[Covered]] = defaultdict(list)
    for each in covered:
        of_conversation[each.conversation].append(each)
    # A parent has its first state before its fork has one.
    for conversation, history in histories.items():
        theirs = of_conversation[conversation]
        own = [each for each in theirs if each.identity not in owners]
        shared = {each.identity for each in theirs if each.identity in owners}
        owners.update(each.identity for each in own)
        common = {
            other: len(shared.intersection(each.identity for each in of_conversation[other]))
            for other in done
        }
        done.append(conversation)
        inherited = _inherited(states, history[0], own, common)
        found.update(_of_conversation(history, own, inherited))
    return found


def _inherited(
    states: Sequence[State],
    first: State,
    own: Sequence[Covered],
    common_with: Mapping[str, int],
) -> Mapping[str, Counts]:
    """Return the total that a conversation's first state continues; empty: it began at zero.

    A fork of a fork has the responses of both, and continues the one that it has more in common with.
    """
    begins = min((each.at for each in own), default=first.at)
    kin = [
        (common_with[state.conversation], state.at, number)
        for number, state in enumerate(states)
        if state.conversation in common_with
        and state.at <= min(begins, first.at)
        and _is_within(state.models, first.models)
    ]
    if not kin:
        return {}
    common, _, number = max(kin)
    inherited = states[number].models
    # Without common responses it is a coincidence, if it leaves too little for the own ones.
    if not common and not _is_within(_sums(own, first), _increase(first.models, inherited)):
        return {}
    return inherited


def _is_within(part: Mapping[str, Counts], whole: Mapping[str, Counts]) -> bool:
    return all(
        small <= large
        for model, counts in part.items()
        for small, large in zip(counts, whole.get(model, _NOTHING), strict=True)
    )


def _sums(own: Sequence[Covered], first: State) -> dict[str, Counts]:
    sums: dict[str, Counts] = {}
    for each in own:
        if each.at < (first.next_at or _NEVER):
            sums[each.model] = _plus(sums.get(each.model, _NOTHING), each.counts)
    return sums


def _of_conversation(
    history: Sequence[State], own: Sequence[Covered], inherited: Mapping[str, Counts]
) -> dict[Place, Counts]:
    before = State("", "", None, inherited, is_whole=True)
    increases = [
        _increase(state.models, earlier.models) for earlier, state in pairwise([before, *history])
    ]
    known = _by_state(history, own, increases)
    found: dict[Place, Counts] = {}
    for number, state in enumerate(history):
        if not state.is_whole:
            continue
        for model, grown in increases[number].items():
            rest = zip(grown, known[number, model], strict=True)
            side = tuple(max(0, total - counted) for total, counted in rest)
            found[Place(state.conversation, state.at, model)] = side
    return found


def _by_state(
    history: Sequence[State], own: Sequence[Covered], increases: Sequence[Mapping[str, Counts]]
) -> Mapping[tuple[int, str], Counts]:
    """Return what each state's increase is known to have, by the state's number and the model."""
    ends = [state.next_at or _NEVER for state in history]
    ends = [max(ends[: number + 1]) for number in range(len(ends))]
    known: defaultdict[tuple[int, str], Counts] = defaultdict(lambda: _NOTHING)
    for each in sorted(own, key=lambda covered: covered.at):
        number = bisect_left(ends, each.at)
        # A response at the very end of a state's time is the first of the next.
        while number < len(ends) and each.at >= ends[number]:
            number += 1
        # What came after the last time before a state is in it or in the next, if it is too large for it.
        while number < len(ends) and each.at > history[number].at:
            with_it = _plus(known[number, each.model], each.counts)
            if _is_within({each.model: with_it}, increases[number]):
                break
            number += 1
        known[number, each.model] = _plus(known[number, each.model], each.counts)
    return known


def _increase(after: Mapping[str, Counts], before: Mapping[str, Counts]) -> dict[str, Counts]:
    return {
        model: tuple(
            max(0, large - small)
            for large, small in zip(counts, before.get(model, _NOTHING), strict=True)
        )
        for model, counts in after.items()
    }


def _plus(one: Counts, other: Counts) -> Counts:
    return tuple(first + second for first, second in zip(one, other, strict=True))
