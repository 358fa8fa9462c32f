"""What ``route_task`` answers, and the explanation of a decision."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.domain import Classification, Decision, Reason

PLAN_REASONS = frozenset({Reason.PLAN_LIMIT_EXCEEDED, Reason.PLAN_LIMIT_WARNING})
SPEND_REASONS = frozenset({Reason.SPEND_LIMIT_EXCEEDED, Reason.SPEND_LIMIT_WARNING})


class RowExplanation(Struct, frozen=True):
    """Why a row of the table did or did not decide.

    Attributes:
        reason: the row's reason.
        applies: whether it applies; the first that does decides.
        why: what it checked, with the numbers.
    """

    reason: Reason
    applies: bool
    why: str


class Alternative(Struct, frozen=True):
    """A change that would have led to another model."""

    when: str
    model: str
    reason: Reason


class Explanation(Struct, frozen=True):
    """The explanation of a decision, by the code that decides.

    Attributes:
        rows: the rows of the table, up to the one that decided.
        steps: what happened after the table, if anything did.
        alternatives: single changes that would have led to another model.
    """

    rows: tuple[RowExplanation, ...]
    steps: tuple[str, ...]
    alternatives: tuple[Alternative, ...]


class RouteAnswer(Decision, frozen=True):
    """What ``route_task`` answers: the decision, and its explanation if that was requested.

    ``offline`` is true where the joined team's server was away and this ledger decided.

    Every field costs its reader tokens, so ``projected_level`` is there only where the task would
    bring the session to another level than it is at, and ``plan_used_percent`` only where the
    subscription's limit decided, and ``budget`` only where it decided. ``available`` is absent where nothing is known of the model, and
    ``table_model`` always. ``task_type`` is there only where the given word means another one.
    """

    decision_id: int  # pyright: ignore[reportGeneralTypeIssues]  # whatever is answered has one
    table_model: None = None
    task_type: str | None = None
    explanation: Explanation | None = None
    offline: bool | None = None


def answered(logged: LoggedDecision, explanation: Explanation | None = None) -> RouteAnswer:
    """Return a logged decision as an answer, without what its reader does not need."""
    decision = logged.decision
    fields = asdict(decision)
    fields["decision_id"] = logged.decision_id
    fields["table_model"] = None
    if decision.projected_level is decision.warning_level:
        fields["projected_level"] = None
    if decision.reason not in PLAN_REASONS:
        fields["plan_used_percent"] = None
    if not decision.held_tokens or decision.reserved_tokens is not None:
        fields["held_tokens"] = None
    if decision.reason not in SPEND_REASONS:
        fields["budget"] = fields["budget_used_percent"] = None
    task_type = None if logged.task.given_task_type is None else logged.task.task_type
    return RouteAnswer(**fields, task_type=task_type, explanation=explanation)


class RoutedTask(Struct, frozen=True):
    """A task that was routed: what callers get, and the logged decision that text is written from.

    Attributes:
        is_by_team: whether the team's server decided, so that it cannot be explained here.
    """

    answer: RouteAnswer
    logged: LoggedDecision
    is_by_team: bool = False


class ExplainAnswer(Struct, frozen=True):
    """What ``explain`` answers: a logged decision and its explanation.

    Attributes:
        project_settings: what a project folder had set for itself that held.
    """

    decision_id: int
    session: str
    decided_at: datetime
    task_type: str
    classification: Classification
    model: str
    reason: Reason
    explanation: Explanation
    given_task_type: str | None = None
    project_settings: str | None = None
