"""What a use case accepts as its arguments: every check raises ``InvalidInputError``, naming the field."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from immunos_mcp.domain import MAXIMUM_TOKENS, Outcome, TokenCounts, Usage
from immunos_mcp.errors import InvalidInputError, Problem, any_of, nearest
from immunos_mcp.rules import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from immunos_mcp.domain import Judge

LARGEST_ID = 2**63 - 1
MOST_SECONDS = 86_400
MOST_DAYS = 36_500

Member = TypeVar("Member", bound=StrEnum)


def member(kind: type[Member], field: str, text: str) -> Member:
    """Return the member of an enumeration that a text stands for."""
    try:
        return kind(text)
    except ValueError:
        problem = Problem(field, text, any_of(kind), nearest(text, kind))
        raise InvalidInputError(problem) from None


def tokens(field: str, count: int | None) -> int | None:
    """Return a count of tokens, if one was given."""
    if count is None or 0 <= count <= MAXIMUM_TOKENS:
        return count
    raise InvalidInputError(Problem(field, count, f"a whole number from 0 to {MAXIMUM_TOKENS}"))


def checked_seconds(given: float | None) -> float | None:
    """Return how long something took, if that was given."""
    if given is None or 0 <= given <= MOST_SECONDS:
        return given
    raise InvalidInputError(Problem("seconds", given, f"a number from 0 to {MOST_SECONDS}"))


def days(field: str, given: int) -> int:
    """Return a number of whole days."""
    if 1 <= given <= MOST_DAYS:
        return given
    raise InvalidInputError(Problem(field, given, f"a whole number from 1 to {MOST_DAYS}"))


def is_id(number: int) -> bool:
    """Return whether a number can be the id of a decision."""
    return 1 <= number <= LARGEST_ID


def unknown_decision(decision_id: int) -> InvalidInputError:
    """Return the error for an id that no decision has."""
    expected = "the id of an earlier decision"
    return InvalidInputError(Problem("decision_id", decision_id, expected))


def checked_decision_id(number: int) -> int:
    """Return the id of a decision."""
    if is_id(number):
        return number
    raise unknown_decision(number)


def is_outcome_alone(
    kinds: Mapping[str, int | None], decision_id: int | None, outcome: str | None
) -> bool:
    """Return whether a report says how a task went, without its tokens."""
    has_tokens = any(count is not None for count in kinds.values())
    return decision_id is not None and outcome is not None and not has_tokens


def _missing(model: str | None, kinds: Mapping[str, int | None]) -> list[Problem]:
    """Return what a report of tokens lacks."""
    count = f"a whole number from 0 to {MAXIMUM_TOKENS}"
    lacking = [kind for kind in ("input_tokens", "output_tokens") if kinds[kind] is None]
    return [
        *([Problem("model", None, "a model name")] if model is None else []),
        *(Problem(kind, None, count) for kind in lacking),
    ]


def reported_usage(
    model: str | None,
    kinds: Mapping[str, int | None],
    *,
    decision_id: int | None,
    outcome: str | None,
    request_id: str | None,
    seconds: float | None,
    judge: Judge,
) -> Usage:
    """Return the usage that a client reports for a response.

    Args:
        model: the model's name.
        kinds: tokens by kind, under the names of ``TokenCounts``; those of the cache may be ``None``.
        decision_id: the decision it belongs to.
        outcome: whether that task succeeded.
        request_id: the client's own name of the response.
        seconds: how long the work took.
        judge: who says so.
    """
    missing = _missing(model, kinds)
    if model is None or missing:
        raise InvalidInputError(*missing)
    if decision_id is None:
        for field, given in (("outcome", outcome), ("seconds", seconds)):
            if given is not None:
                message = f"{field}: needs a decision_id, the decision that it belongs to"
                raise InvalidInputError(Problem(field, given, message=message))
    else:
        decision_id = checked_decision_id(decision_id)
    return Usage(
        model=names.check_model_name(model),
        counts=TokenCounts(**{kind: tokens(kind, count) or 0 for kind, count in kinds.items()}),
        request_id=None if request_id is None else names.check_request_id(request_id),
        decision_id=decision_id,
        outcome=None if outcome is None else member(Outcome, "outcome", outcome),
        seconds=checked_seconds(seconds),
        judge=judge,
    )
