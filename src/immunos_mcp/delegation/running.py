"""A delegated task while it is done: what is known of it, and what is answered at its end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from immunos_mcp.answers.delegation import DelegateAnswer
from immunos_mcp.delegation.chat import Meter
from immunos_mcp.delegation.processes import this_process
from immunos_mcp.domain import DelegatedTask, Outcome, Provider, TaskState
from immunos_mcp.errors import BadAnswerError, DelegationError
from immunos_mcp.rules.formatting import printable
from immunos_mcp.rules.ladder import faults_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.delegation.chunking import OnText, Result
    from immunos_mcp.delegation.request import Assignment, DelegationRequest
    from immunos_mcp.delegation.result_file import ResultFile
    from immunos_mcp.errors import ImmunosError

SUMMARY_CHARACTERS = 500


@dataclass(slots=True)
class RunningTask:
    """A delegated task and its progress.

    Attributes:
        request: the task as it was sent.
        assignment: the task as the model gets it.
        model: the model that does it.
        decision_id: the decision for that model.
        notice: what goes with the answer.
        failed: the models that failed at it before, with what was wrong.
        number: the decision that the task began with, which its handle names.
        deadline: until when it may take.
        fault: what is wrong with the answer.
        is_recorded: whether the model's work is in the ledger.
    """

    request: DelegationRequest
    assignment: Assignment
    model: str
    decision_id: int
    notice: str | None = None
    failed: tuple[tuple[str, str], ...] = ()
    number: int = 0
    deadline: float = math.inf
    fault: str | None = None
    is_recorded: bool = False
    done: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    meter: Meter = field(default_factory=Meter)
    state: TaskState = TaskState.WAITING
    waiters: int = 0
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: float = 0.0
    file: ResultFile | None = None
    outcome: Outcome | None = None
    is_judged: bool = False
    answer: DelegateAnswer | None = None
    error: ImmunosError | None = None

    def __post_init__(self) -> None:
        self.number = self.decision_id

    @property
    def handle(self) -> str:
        """What callers ask for it by."""
        return f"d{self.number}"

    @property
    def tried(self) -> tuple[str, ...]:
        """The models that did it so far, in order."""
        return (*(model for model, _ in self.failed), self.model)

    def hand_to(self, model: str, decision_id: int) -> None:
        """Let another model try, which is told what was wrong."""
        self.model, self.decision_id = model, decision_id
        self.assignment = replace(self.assignment, earlier_fault=self.fault)
        self.meter = Meter(self.meter.pieces)
        self.state = TaskState.WAITING
        self.file = self.outcome = self.answer = self.error = self.fault = None
        self.is_judged = self.is_recorded = False

    @property
    def end(self) -> TaskState:
        """How the task has ended."""
        if self.scope.cancelled_caught:
            return TaskState.CANCELLED
        is_done = self.answer is not None and self.answer.provider is not Provider.CLAUDE
        return TaskState.FINISHED if is_done else TaskState.FAILED

    def described(self) -> DelegatedTask:
        """Describe the task to other processes."""
        return DelegatedTask(
            self.number,
            self.model,
            self.state,
            this_process(),
            self.begun_at,
            datetime.now(UTC),
            self.meter.pieces,
        )


def both(on_text: OnText | None, add: OnText) -> OnText:
    """Return a receiver that passes text on to two."""

    def both(text: str) -> None:
        add(text)
        if on_text is not None:
            on_text(text)

    return both


def abandon(file: ResultFile, task: RunningTask) -> None:
    """Close the file of a task that failed, and say where what arrived is."""
    if not file.abandon(keep=not task.scope.cancelled_caught):
        return
    where = f"the text up to then is in {printable(str(file.path))}"
    if task.answer is None:
        task.error = DelegationError(f"{task.error}; {where}")
    else:
        task.answer = replace(
            task.answer, message=f"{task.answer.message} {where[0].upper()}{where[1:]}."
        )


def output_path(task: RunningTask) -> str:
    """Return the file that was asked for, to be shown."""
    output = task.assignment.output
    return "" if output is None else printable(str(output.path))


def answer_of(
    task: RunningTask, result: Result, passed: Sequence[str], longest_output: int | None
) -> DelegateAnswer:
    """Return the answer with a result, of which at most ``longest_output`` characters are returned.

    Raises:
        BadAnswerError: it is empty.
    """
    text, is_complete, parts = result
    if not text:
        raise BadAnswerError(f"{task.model} returned an empty answer", "raise max_output_tokens")
    is_in_file = task.file is not None and task.file.complete(text)
    shown = text[: SUMMARY_CHARACTERS if is_in_file else longest_output]
    is_cut_off = not is_complete or (not is_in_file and shown != text)
    counts = task.meter.counts
    message = " ".join(filter(None, (faults_text(task.failed), task.notice))) or None
    if not task.meter.is_whole:
        message = "The engine's token counts are missing or cannot be true; the ledger lacks them."
    if task.file is not None and not is_in_file:
        message = f"{output_path(task)} was deleted or replaced meanwhile; the output is only here."
    return DelegateAnswer(
        model=task.model,
        provider=Provider.OLLAMA,
        decision_id=task.decision_id,
        local_output=shown,
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        seconds=round(time.monotonic() - task.started_at, 1),
        parts=parts if parts > 1 else None,
        cut_off=True if is_cut_off else None,
        passed_checks=", ".join(passed) or None,
        left_out_files=task.assignment.material.left_out or None,
        output_path=output_path(task) if is_in_file else None,
        message=message,
    )
