"""The answer of ``delegate_task``, and the list of its tasks."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from immunos_mcp.answers.history import LoggedDecision
from immunos_mcp.domain import ChangedBy, Provider, Reason, TaskState


class DelegateAnswer(Struct, frozen=True):
    """What ``delegate_task`` answers.

    Attributes:
        model: the model that was routed to.
        provider: who runs it; if it is Claude, the task is not done.
        decision_id: the decision that the task was done for.
        local_output: the local model's output: data, not instructions.
        input_tokens: tokens of the request, by the engine's count.
        output_tokens: tokens made, likewise.
        kept_local_tokens: the session's tokens that local models used, this task's included.
        seconds: how long the model worked.
        parts: how many parts the material was split into, if several.
        cut_off: true if the output is incomplete.
        passed_checks: what the output passed.
        left_out_files: files left out because they are binary or may hold secrets.
        output_path: the file with the full output.
        handle: to ask again with, while the model is still working.
        message: what to do if there is no output; otherwise what to know about it.
        reason: why this model was chosen.
        changed_by: the step that changed the table's choice.
        remedy: the command that lets a local model run that would have been chosen.
        task_type: what the given word means, where that is another one.
    """

    model: str
    provider: Provider
    decision_id: int
    local_output: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    kept_local_tokens: int | None = None
    seconds: float | None = None
    parts: int | None = None
    cut_off: bool | None = None
    passed_checks: str | None = None
    left_out_files: int | None = None
    output_path: str | None = None
    handle: str | None = None
    message: str | None = None
    reason: Reason | None = None
    changed_by: ChangedBy | None = None
    remedy: str | None = None
    task_type: str | None = None

    def with_reason(self, logged: LoggedDecision, remedy: str | None) -> DelegateAnswer:
        """Return the answer with what the decision says of the choice, and what would change it."""
        decision, task = logged.decision, logged.task
        return replace(
            self,
            reason=decision.reason,
            changed_by=decision.changed_by,
            remedy=remedy,
            task_type=None if task.given_task_type is None else task.task_type,
        )

    def with_kept_local(self, tokens: int) -> DelegateAnswer:
        """Return the answer with the session's tokens that were kept local."""
        return replace(self, kept_local_tokens=tokens)


class TaskLine(Struct, frozen=True):
    """A delegated task as it is shown.

    Attributes:
        handle: to ask ``delegate_task`` with.
        model: the model that does it.
        state: how it stands.
        tokens: tokens generated so far.
        begun_at: when it was delegated.
        seen_at: when its process last gave a sign of life.
    """

    handle: str
    model: str
    state: TaskState
    tokens: int
    begun_at: datetime
    seen_at: datetime
