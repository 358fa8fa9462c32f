"""What conversations' own totals have beyond their responses and requests. Pure.

Times are as stored: text that sorts by time.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from functools import lru_cache, reduce
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from immunos_mcp.rules.names import plain_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Counts: TypeAlias = "tuple[int, ...]"
"""The four kinds of tokens, those written to the cache for an hour, and web searches."""

_NOTHING: Counts = (0, 0, 0, 0, 0, 0)
_NEVER = "9999"

_DATE = re.compile(r"[-@](?:20\d{6}|latest|default)\b")


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
    """A response or request that a conversation has; a fork has its parent's too.

    Attributes:
        is_copied: whether a fork has a copy of it: those of subagents stay with the parent.
    """

    identity: str
    conversation: str
    at: str
    model: str
    counts: Counts
    is_copied: bool


class Place(NamedTuple):
    """Where side usage is booked: at a state of a conversation, for one model."""

    conversation: str
    at: str
    model: str


def residuals(states: Sequence[State], covered: Sequence[Covered]) -> dict[Place, Counts]:
    """Return the side usage of each state that is wholly known, over the state before it.

    A total names the models that were asked for, and a response the one that answered, so models are
    compared by what their names have in common.

    Args:
        states: those of one family, oldest first.
        covered: the responses and requests of its conversations, in any order.
    """
    by_common_name = _residuals(
        [state._replace(models=_by_common_name(state.models)) for state in states],
        [_under_common_name(each) for each in covered],
    )
    found: dict[Place, Counts] = {}
    for state in states:
        for model in sorted(state.models):
            place = Place(state.conversation, state.at, common_name(model))
            if place in by_common_name:
                # The first of a model's names stands for all.
                side = by_common_name[place]
                found[place._replace(model=model)] = side
                by_common_name[place] = _NOTHING
    return found


def _under_common_name(each: Covered) -> Covered:
    name = common_name(each.model)
    return each if name == each.model else each._replace(model=name)


@lru_cache(maxsize=256)
def common_name(model: str) -> str:
    """Return what a model's names have in common."""
    name = _DATE.sub("", plain_model(model).rpartition("/")[2]).replace(".", "-")
    return name.removesuffix("-0") or model


def _by_common_name(models: Mapping[str, Counts]) -> dict[str, Counts]:
    sums: dict[str, Counts] = {}
    for model, counts in models.items():
        name = common_name(model)
        sums[name] = _plus(sums.get(name, _NOTHING), counts)
    return sums


def _residuals(states: Sequence[State], covered: Sequence[Covered]) -> dict[Place, Counts]:
    histories: defaultdict[str, list[State]] = defaultdict(list)
    for state in states:
        histories[state.conversation].append(state)
    named = frozenset(model for state in states for model in state.models)
    owners: set[str] = set()
    earlier: dict[str, Sequence[Covered]] = {}
    found: dict[Place, Counts] = {}
    of_conversation: defaultdict[str, list[Covered]] = defaultdict(list)
    for each in covered:
        of_conversation[each.conversation].append(each)
    # A parent has its first state before its fork has one.
    for conversation, history in histories.items():
        theirs = of_conversation[conversation]
        own = [each for each in theirs if each.identity not in owners]
        continued = _continued(states, history[0], theirs, own, earlier)
        inherited = _inherited(continued, history[0], own, named)
        found.update(_of_conversation(history, own, inherited, named))
        owners.update(each.identity for each in own)
        earlier[conversation] = theirs
    return found


class _Kin(NamedTuple):
    """What a conversation has of another one, up to one of its states; the largest is the next of kin.

    Attributes:
        surplus: less the responses that it should have as well, had it begun there.
        common: the responses that both have.
        at: when the state was.
        number: which of the states it is.
    """

    surplus: int
    common: int
    at: str
    number: int


def _continued(
    states: Sequence[State],
    first: State,
    theirs: Sequence[Covered],
    own: Sequence[Covered],
    earlier: Mapping[str, Sequence[Covered]],
) -> tuple[State, bool] | None:
    """Return the state that a conversation's first one may continue, and whether both have responses.

    A fork has those of its parent at that time, and not those of other forks.
    """
    begins = min((each.at for each in own), default=first.at)
    identities = {each.identity for each in theirs}
    kin = [
        _kin(state, number, earlier[state.conversation], identities)
        for number, state in enumerate(states)
        if state.conversation in earlier
        and state.at <= min(begins, first.at)
        and _is_within(state.models, first.models)
    ]
    if not kin:
        return None
    next_of_kin = max(kin)
    return states[next_of_kin.number], next_of_kin.common > 0


def _kin(state: State, number: int, covered: Sequence[Covered], identities: set[str]) -> _Kin:
    common = [each.at for each in covered if each.identity in identities]
    # What was before a compaction is not copied either.
    since = min(common, default=_NEVER)
    lacking = sum(
        each.is_copied and since <= each.at <= state.at and each.identity not in identities
        for each in covered
    )
    return _Kin(-lacking, len(common), state.at, number)


def _inherited(
    continued: tuple[State, bool] | None,
    first: State,
    own: Sequence[Covered],
    named: frozenset[str],
) -> Mapping[str, Counts]:
    """Return the total that a conversation's first state continues; empty: it began at zero."""
    if continued is None:
        return {}
    parent, has_common = continued
    # Without common responses it is a coincidence, if it leaves too little for the own ones.
    increase = _increase(first.models, parent.models)
    return parent.models if has_common or _fits(_sums(own, first), increase, named) else {}


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


def _fits(
    known: Mapping[str, Counts], increase: Mapping[str, Counts], named: frozenset[str]
) -> bool:
    """Return whether an increase may have all that is known of it."""
    by_name = {model: counts for model, counts in known.items() if model in named}
    if not _is_within(by_name, increase):
        return False
    rest = _sum(_increase(increase, by_name).values())
    others = _sum(counts for model, counts in known.items() if model not in named)
    return all(small <= large for small, large in zip(others, rest, strict=True))


def _of_conversation(
    history: Sequence[State],
    own: Sequence[Covered],
    inherited: Mapping[str, Counts],
    named: frozenset[str],
) -> dict[Place, Counts]:
    plain = [State("", "", None, inherited, is_whole=True), *history[:-1]]
    known = _by_state(history, own, _increases(history, plain), named)
    bases = _bases(history, plain, known, named)
    increases = _increases(history, bases)
    found: dict[Place, Counts] = {}
    for number, (state, increase) in enumerate(zip(history, increases, strict=True)):
        if bases[number] is not plain[number]:
            # What the other program's total has no room for is in this one.
            rest = _increase(known[number - 1], increases[number - 1])
            overflow = {model: rest[model] for model in rest.keys() & named}
            known[number] = _both(known[number], overflow)
        if not state.is_whole:
            continue
        side = _increase(increase, known[number])
        for model in sorted(known[number].keys() - named):
            side = _less(side, known[number][model])
        found.update(
            {Place(state.conversation, state.at, model): rest for model, rest in side.items()}
        )
    return found


def _increases(history: Sequence[State], bases: Sequence[State]) -> list[dict[str, Counts]]:
    return [
        _increase(state.models, base.models) for base, state in zip(bases, history, strict=True)
    ]


def _bases(
    history: Sequence[State],
    plain: Sequence[State],
    known: Sequence[Mapping[str, Counts]],
    named: frozenset[str],
) -> Sequence[State]:
    """Return the state that each one continues: the one before it, unless two programs ran at once.

    Of two programs that continued the same conversation, each has a total without what the other one
    used. A later program would have a larger total, and responses of its own.
    """
    bases = [*plain]
    for number, (earlier, state) in enumerate(pairwise(history), 1):
        base = bases[number - 1]
        is_larger = _is_within(earlier.models, state.models)
        increase = _increase(earlier.models, base.models)
        is_later = bool(known[number]) or _fits(known[number - 1], increase, named)
        is_known = bool(base.models) and earlier.is_whole and state.is_whole
        if is_known and not (is_larger and is_later) and _is_within(base.models, state.models):
            bases[number] = base
    return bases


def _both(one: Mapping[str, Counts], other: Mapping[str, Counts]) -> dict[str, Counts]:
    return {
        model: _plus(one.get(model, _NOTHING), other.get(model, _NOTHING))
        for model in one.keys() | other.keys()
    }


def _less(side: Mapping[str, Counts], counts: Counts) -> dict[str, Counts]:
    """Take away what a model used that no total names: it answered for the one that has most left."""
    left = dict(side)
    for model in sorted(left, key=lambda model: (-sum(left[model][:4]), model)):
        taken = tuple(map(min, left[model], counts))
        left[model] = _minus(left[model], taken)
        counts = _minus(counts, taken)
    return left


def _by_state(
    history: Sequence[State],
    own: Sequence[Covered],
    increases: Sequence[Mapping[str, Counts]],
    named: frozenset[str],
) -> list[dict[str, Counts]]:
    """Return what each state's increase is known to have of each model, and last what came after all."""
    ends = [state.next_at or _NEVER for state in history]
    ends = [max(ends[: number + 1]) for number in range(len(ends))]
    known: list[dict[str, Counts]] = [{} for _ in range(len(ends) + 1)]
    for each in sorted(own, key=lambda covered: covered.at):
        number = bisect_left(ends, each.at)
        # A response at the very end of a state's time is the first of the next.
        while number < len(ends) and each.at >= ends[number]:
            number += 1
        # What came after the last time before a state is in it or in the next, if it is too large for it.
        while number < len(ends) and each.at > history[number].at:
            with_it = {**known[number], each.model: _with(known[number], each)}
            if _fits(with_it, increases[number], named):
                break
            number += 1
        known[number][each.model] = _with(known[number], each)
    return known


def _with(known: Mapping[str, Counts], each: Covered) -> Counts:
    return _plus(known.get(each.model, _NOTHING), each.counts)


def _increase(after: Mapping[str, Counts], before: Mapping[str, Counts]) -> dict[str, Counts]:
    return {
        model: tuple(map(max, _minus(counts, before.get(model, _NOTHING)), _NOTHING))
        for model, counts in after.items()
    }


def _sum(many: Iterable[Counts]) -> Counts:
    return reduce(_plus, many, _NOTHING)


def _plus(one: Counts, other: Counts) -> Counts:
    return tuple(first + second for first, second in zip(one, other, strict=True))


def _minus(one: Counts, other: Counts) -> Counts:
    return tuple(first - second for first, second in zip(one, other, strict=True))
