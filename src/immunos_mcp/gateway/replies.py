"""Reading what a team's server answers, of which nothing is trusted: it reaches a model, a terminal and the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.gateway_messages import GatewayIdentity, GatewayReply
from immunos_mcp.rules import inputs, names
from immunos_mcp.rules.formatting import for_terminal, printable

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.answers.routing import RouteAnswer
    from immunos_mcp.domain import Task

Answer = TypeVar("Answer", GatewayIdentity, GatewayReply)

LARGEST_REPLY = 2**20
"""Bytes of a reply; a larger one is from no team's server."""

LONGEST_TEXT = 4000
"""Characters of each text, which a model may pay for."""

LONGEST_NAME = 200
"""Characters of the names of a team and a person."""

LARGEST_NUMBER = 2**62
"""Fits the ledger's 64 bits, and sums with it do as well."""


def read_reply(body: bytes, kind: type[Answer]) -> Answer:
    """Return what a body says, without what a terminal would obey.

    Raises:
        ValueError: it is not as a team's server answers.
    """
    try:
        plain = msgspec.json.encode(_bounded(msgspec.json.decode(body)))
        reply = msgspec.json.decode(plain, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("no reply of this version") from None
    return msgspec.structs.replace(
        reply,
        team=printable(reply.team[:LONGEST_NAME]),
        person=None if reply.person is None else printable(reply.person[:LONGEST_NAME]),
    )


def refusal_of(body: bytes) -> str:
    """Return what a refusal says, in one short line; empty: nothing that can be read."""
    try:
        found = msgspec.json.decode(body, type=dict[str, object]).get("error", "")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return printable(str(found)[:300])


def meant_task(asked: Task, logged: LoggedDecision, answer: RouteAnswer) -> Task:
    """Return a task as a decision of the team's server means it, if the decision can be logged here.

    Raises:
        InvalidInputError: something in it cannot be true; it is named.
    """
    inputs.checked_decision_id(logged.decision_id)
    for decision in (logged.decision, answer):
        names.check_model_name(decision.model)
        for name, value in msgspec.structs.asdict(decision).items():
            if isinstance(value, int | float) and not (0 <= value <= LARGEST_NUMBER):
                raise InvalidInputError(Problem(name, value, "0 or more"))
    meant = names.normalise_task_type(logged.task.task_type)
    given = None if meant == asked.task_type else asked.task_type
    return msgspec.structs.replace(asked, task_type=meant, given_task_type=given)


def _bounded(value: Json) -> Json:
    if isinstance(value, str):
        return for_terminal(value[:LONGEST_TEXT])
    if isinstance(value, list):
        return [_bounded(each) for each in value]
    if isinstance(value, dict):
        return {cast("str", _bounded(name)): _bounded(each) for name, each in value.items()}
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        raise ValueError("a number that no ledger holds")
    return value
