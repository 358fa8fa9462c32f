"""What is sent to a team's server: requests made of what the ledger has."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from immunos_mcp.errors import InvalidInputError
from immunos_mcp.gateway_messages import (
    VERSION,
    GatewayRequest,
    HandedOverTask,
    PassedCall,
    PushedPlanUsage,
    PushedRequest,
    PushedResponse,
    PushedTotal,
    PushedUsage,
    SentEngine,
    read_request,
)
from immunos_mcp.ledger.engines import engine_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.domain import Engine
    from immunos_mcp.ledger.unpushed import TeamReport, TeamUsage

Sent = TypeVar("Sent", PushedResponse, PushedRequest, PushedTotal, PushedPlanUsage)

DEFAULT_SESSION = "default"
"""The session of calls that name none, here and at the team's server, whatever that calls it."""


def pushed_usage(usage: TeamUsage, *, sends_labels: bool, is_last: bool) -> PushedUsage:
    """Return usage as it is sent."""
    responses = tuple(map(PushedResponse.of, usage.responses))
    totals = tuple(map(PushedTotal.of, usage.totals))
    if not sends_labels:
        responses = tuple(replace(each, label=None) for each in responses)
        totals = tuple(replace(each, label=None) for each in totals)
    return PushedUsage(
        responses,
        tuple(map(PushedRequest.of, usage.requests)),
        totals,
        tuple(map(PushedPlanUsage.of, usage.plan)),
        is_last,
    )


def understood(request: GatewayRequest) -> GatewayRequest:
    """Return a request without what no server takes, such as names that are too long."""
    usage = request.usage or PushedUsage()
    return replace(
        request,
        usage=PushedUsage(
            _taken(usage.responses, lambda each: PushedUsage(responses=(each,))),
            _taken(usage.requests, lambda each: PushedUsage(requests=(each,))),
            _taken(usage.totals, lambda each: PushedUsage(totals=(each,))),
            _taken(usage.plan, lambda each: PushedUsage(plan=(each,))),
            usage.is_last,
        ),
        handed_over=tuple(
            each
            for each in request.handed_over
            if _is_taken(GatewayRequest(VERSION, handed_over=(each,)))
        ),
    )


def _taken(sent: tuple[Sent, ...], alone: Callable[[Sent], PushedUsage]) -> tuple[Sent, ...]:
    return tuple(each for each in sent if _is_taken(GatewayRequest(VERSION, usage=alone(each))))


def _is_taken(request: GatewayRequest) -> bool:
    try:
        read_request(encoded(request))
    except InvalidInputError:
        return False
    return True


def encoded(request: GatewayRequest) -> bytes:
    """Return a request as it is sent."""
    return msgspec.json.encode(request)


def handed_over(report: TeamReport) -> HandedOverTask:
    """Return what a local model did for a decision of the team."""
    assert report.counts is not None
    assert report.request_id is not None
    assert report.team_decision_id is not None
    return HandedOverTask(
        report.request_id,
        report.team_decision_id,
        report.model,
        report.counts.input_tokens,
        report.counts.output_tokens,
        report.outcome,
        judge=report.judge,
        in_file=report.in_file,
        session=session_argument(report.session),
    )


def report_call(report: TeamReport, client: str) -> PassedCall | None:
    """Return the call that tells the team what was reported here; ``None``: there is nothing to tell."""
    arguments: dict[str, object] = {
        "decision_id": report.team_decision_id,
        "outcome": None if report.outcome is None else report.outcome.value,
        "session": session_argument(report.session),
    }
    if report.counts is not None:
        arguments |= {
            "model": report.model,
            "request_id": report.request_id,
            **msgspec.structs.asdict(report.counts),
        }
    elif report.outcome is None or report.team_decision_id is None:
        return None
    return PassedCall("record_usage", given(arguments), client)


def given(arguments: dict[str, object]) -> dict[str, object]:
    """Return the arguments that are not left out."""
    return {name: value for name, value in arguments.items() if value is not None}


def session_argument(name: str) -> str | None:
    """Return the argument for a session; ``None``: it is the one that calls are for without."""
    return None if name == DEFAULT_SESSION else name


def sent_engine(engine: Engine | None) -> SentEngine | None:
    """Return the state of the local engines as it is sent."""
    if engine is None:
        return None
    try:
        return msgspec.json.decode(engine_text(engine), type=SentEngine)
    except msgspec.ValidationError:
        # There is more of it than a server takes.
        return None
