"""Delegates a task to a local model: material in, text out, exact token counts to the ledger.

The model's text is passed on unchanged and never interpreted as instructions.
"""

from __future__ import annotations

import math
import time
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import anyio
from msgspec.structs import replace

from immunos_mcp.answers.delegation import DelegateAnswer
from immunos_mcp.delegation import chunking
from immunos_mcp.delegation.chat import TaskChat, limits_of
from immunos_mcp.delegation.checks import code, registry, trial
from immunos_mcp.delegation.elsewhere import collected_elsewhere
from immunos_mcp.delegation.engine_access import EngineAccess
from immunos_mcp.delegation.permission import check_permission
from immunos_mcp.delegation.processes import is_going_on
from immunos_mcp.delegation.request import checked
from immunos_mcp.delegation.result_file import ResultFile
from immunos_mcp.delegation.running import RunningTask, abandon, answer_of, both, output_path
from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    Judge,
    LocalModel,
    Outcome,
    Provider,
    Reason,
    Switch,
    Task,
    TaskState,
)
from immunos_mcp.errors import (
    BadAnswerError,
    CutAnswerError,
    DelegationError,
    ImmunosError,
    InvalidInputError,
    Problem,
)
from immunos_mcp.faults import report_bug
from immunos_mcp.rules import ladder, models, task_types

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from immunos_mcp.delegation.chunking import OnText, Result
    from immunos_mcp.delegation.elsewhere import Progress
    from immunos_mcp.delegation.request import Assignment, DelegationRequest
    from immunos_mcp.domain import Decision, Engine
    from immunos_mcp.engines.several import Engines
    from immunos_mcp.engines.watch import EngineWatch
    from immunos_mcp.router import Router
    from immunos_mcp.rules.settings import Settings


LONGEST_OUTPUT = 30_000
"""Characters of a result that are returned; a longer one is cut off and marked so."""

LONGEST_SECONDS = 1_800.0
MOST_WAITING = 8
"""Tasks that may wait for the engine, which runs one at a time."""

AWAY = "The team's server is away; your own ledger decided."
"""What is said of a task that the joined team's server did not decide on."""

RESULTS_KEPT = 32
PROGRESS_SECONDS = 1.0
SIGN_SECONDS = 5.0
"""How often a process tells the others that it still works on a task."""


class _Route(NamedTuple):
    """Which model does a task, by which decision."""

    model: str
    provider: Provider
    decision_id: int
    reason: Reason | None = None
    notice: str | None = None


class Delegations:
    """The tasks that this process has delegated; ``run`` runs them.

    At most ``longest_output`` characters of a result are returned.
    """

    def __init__(
        self,
        router: Router,
        engines: Engines,
        watch: EngineWatch,
        longest_output: int | None = LONGEST_OUTPUT,
    ) -> None:
        self._longest_output = longest_output
        self._router = router
        self._engines = engines
        self._watch = watch
        self._access = EngineAccess(engines, watch)
        self._tasks: dict[str, RunningTask] = {}
        self._group: TaskGroup | None = None
        self._started = anyio.Event()

    async def run(self) -> None:
        """Run tasks until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            self._started.set()
            await anyio.sleep_forever()

    async def delegate(
        self,
        request: DelegationRequest,
        allowed: Sequence[Path],
        *,
        progress: Progress | None = None,
        on_text: OnText | None = None,
    ) -> DelegateAnswer:
        """Let the routed local model do a task; if it is routed to Claude, only return that.

        Args:
            request: the task.
            allowed: folders and files that may be read and written.
            progress: receives the number of tokens so far and a line of text.
            on_text: receives the text as it arrives.

        Raises:
            InvalidInputError: an argument is invalid; nothing was routed or done.
            DelegationError: the model cannot run, the task does not fit its context, or it failed.
        """
        assignment = await checked(request, allowed)
        settings = await self._settings(assignment)
        meaning = task_types.meant(assignment.task_type, settings)
        assignment = replace(assignment, task_type=meaning)
        engine = await self._watch.fresh()
        model, provider, decision_id, reason, away = await self._route(request, assignment)
        if provider is Provider.CLAUDE:
            advice = ladder.advice(model, decision_id, meaning, settings)
            if reason is Reason.HANDOVER_FORBIDDEN:
                advice = f"The user forbids handing this over (handover). {advice}"
            advice = " ".join(filter(None, (advice, away)))
            answer = DelegateAnswer(model, provider, decision_id, message=advice)
            return await self._with_reason(answer, settings)
        engine = await self._access.checked(model, engine, settings)
        if sum(is_going_on(task.state) for task in self._tasks.values()) > MOST_WAITING:
            raise DelegationError(
                f"{MOST_WAITING} tasks are already waiting for {model}; try again later, or do it yourself"
            )
        notices = (away, await self._access.notices(model, engine, settings))
        notice = " ".join(filter(None, notices)) or None
        task = RunningTask(request, assignment, model, decision_id, notice=notice)
        self._tasks[task.handle] = task
        self._drop_old()
        await self._started.wait()
        assert self._group is not None
        self._group.start_soon(self._work, task, engine, on_text)
        return await self._wait(task, progress)

    async def collect(self, handle: str, progress: Progress | None = None) -> DelegateAnswer:
        """Wait for an earlier task and return its result.

        Raises:
            InvalidInputError: there is no such handle.
            DelegationError: the task failed, or its result is gone.
        """
        task = self._tasks.get(handle)
        if task is not None:
            return await self._wait(task, progress)
        number = handle.removeprefix("d")
        if handle.startswith("d") and number.isascii() and number.isdigit() and len(number) < 19:
            return await collected_elsewhere(self._router, int(number), progress)
        raise InvalidInputError(Problem("handle", handle, "the handle of a delegate_task answer"))

    async def _settings(self, assignment: Assignment) -> Settings:
        """Return the settings that hold for a task, its files among it."""
        settings = self._router.project_settings
        return await settings.here(assignment.session, *assignment.places)

    async def _route(self, request: DelegationRequest, assignment: Assignment) -> _Route:
        tried: tuple[str, ...] = ()
        if request.decision_id is not None:
            known = await self._router.handover.unfinished_decision(request.decision_id)
            if known.outcome is None:
                return _Route(known.model, known.provider, request.decision_id)
            tried = (*known.tried, known.model)
        routed = await self._router.decide_task(
            request.task_type,
            request.classification,
            session=assignment.session,
            follows=request.decision_id,
            tried=tried,
            places=assignment.places,
        )
        answer = routed.answer
        notice = AWAY if answer.offline else None
        return _Route(answer.model, answer.provider, answer.decision_id, answer.reason, notice)

    async def _wait(self, task: RunningTask, progress: Progress | None) -> DelegateAnswer:
        settings = await self._settings(task.assignment)
        task.waiters += 1
        try:
            with anyio.move_on_after(settings.delegate_wait_seconds):
                await _until_done(task, progress)
        except anyio.get_cancelled_exc_class():
            if task.waiters == 1:
                task.scope.cancel()
            raise
        finally:
            task.waiters -= 1
        if task.error is not None:
            raise DelegationError(str(task.error)) from task.error
        if task.answer is not None:
            return await self._with_reason(task.answer, settings)
        message = (
            f"{task.state}: {task.meter.pieces} tokens so far. Call delegate_task with this handle."
        )
        return DelegateAnswer(
            task.model, Provider.OLLAMA, task.decision_id, handle=task.handle, message=message
        )

    async def _with_reason(self, answer: DelegateAnswer, settings: Settings) -> DelegateAnswer:
        logged = await self._router.handover.decided(answer.decision_id)
        wanted, remedy = logged.decision.table_model, None
        if wanted is not None and logged.decision.changed_by is ChangedBy.AVAILABILITY:
            remedy = models.availability(wanted, self._watch.current(), settings).remedy
        return answer.with_reason(logged, remedy)

    def _drop_old(self) -> None:
        done = [handle for handle, task in self._tasks.items() if not is_going_on(task.state)]
        for handle in done[: max(0, len(done) - RESULTS_KEPT)]:
            del self._tasks[handle]

    async def _work(self, task: RunningTask, engine: Engine, on_text: OnText | None) -> None:
        async with anyio.create_task_group() as signs:
            signs.start_soon(self._give_signs_of_life, task)
            with task.scope:
                await self._attempt(task, engine, on_text)
                while task.fault is not None:
                    next_engine = await self._climbed(task, on_text)
                    if next_engine is None:
                        break
                    await self._attempt(task, next_engine, on_text)
            signs.cancel_scope.cancel()
        if task.scope.cancelled_caught:
            task.outcome = None
            task.error = DelegationError("the task was cancelled")
        with anyio.CancelScope(shield=True):
            await self._end(task)

    async def _give_signs_of_life(self, task: RunningTask) -> None:
        while True:
            await anyio.sleep(SIGN_SECONDS)
            await self._note(task)

    async def _note(self, task: RunningTask) -> None:
        # Other processes do not learn of it then; the task itself goes on.
        try:
            await self._router.handover.note_task(task.described())
        except ImmunosError:
            pass
        except Exception as error:  # noqa: BLE001  # nor does a bug end it
            report_bug(f"task {task.handle}", error)

    async def _attempt(self, task: RunningTask, engine: Engine, on_text: OnText | None) -> None:
        """Do a task; this is where its faults become its error, whatever they are."""
        try:
            turn = self._access.turn(task.model, engine)
            if not turn.available_tokens:
                await self._note(task)
            async with turn:
                task.state, task.started_at = TaskState.RUNNING, time.monotonic()
                await self._note(task)
                if task.assignment.output is not None:
                    task.file = ResultFile(task.assignment.output)
                    on_text = both(on_text, task.file.add)
                if task.deadline == math.inf:
                    task.deadline = anyio.current_time() + LONGEST_SECONDS
                with anyio.fail_after(task.deadline - anyio.current_time()):
                    result = await self._result(task, engine, on_text)
            result, passed = await self._checked(task, result)
            if not result.is_complete:
                await self._leave_to_others(task)
            task.answer = answer_of(task, result, passed, self._longest_output)
            # Of an answer that was cut off nobody knows yet whether it does.
            task.outcome = Outcome.SUCCESS if result.is_complete else None
            # Commands of the user judge an answer; that it looks right judges nothing.
            task.is_judged = bool({each.name for each in task.assignment.commands} & {*passed})
        except TimeoutError:
            task.error = DelegationError(f"{task.model} took longer than {LONGEST_SECONDS:g} s")
        except BadAnswerError as error:
            task.outcome, task.error, task.fault = Outcome.FAILURE, error, error.fault
            # What is cut off at the caller's limit says little of the model.
            task.is_judged = not isinstance(error, CutAnswerError)
        except ImmunosError as error:
            # The engine or the task is to blame, not the model.
            task.error = error
        except OSError as error:
            task.error = DelegationError(f"{output_path(task)}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001  # the boundary of delegated tasks
            task.outcome = None
            task.error = DelegationError(report_bug(f"task {task.handle}", error))

    async def _climbed(self, task: RunningTask, on_text: OnText | None) -> Engine | None:
        """Hand a task at which a model failed to the next of its mapping; return the engine for that.

        ``None``: no local model goes on. The task then has Claude's as its answer, or stays as it is.
        """
        try:
            if not await self._has_ladder(task):
                return None
            with anyio.CancelScope(shield=True):
                await self._record(task)
                task.is_recorded = True
            chosen = await self._next_decision(task)
            return await self._handed_on(task, chosen, on_text)
        except ImmunosError as error:
            task.error = task.error or error
        except Exception as error:  # noqa: BLE001  # the boundary of delegated tasks
            task.error = DelegationError(report_bug(f"task {task.handle}", error))
        return None

    async def _next_decision(self, task: RunningTask) -> Decision:
        routed = await self._router.decide_task(
            task.request.task_type,
            task.request.classification,
            session=task.assignment.session,
            follows=task.decision_id,
            tried=task.tried,
            places=task.assignment.places,
        )
        return routed.answer

    async def _has_ladder(self, task: RunningTask) -> bool:
        """Return whether the task's type is mapped to several models, of which the next may try."""
        settings = await self._settings(task.assignment)
        mapped = models.mapped_models(task.assignment.task_type, settings)
        return settings.ladder is Switch.ON and len(mapped) > 1

    async def _leave_to_others(self, task: RunningTask) -> None:
        """Refuse an answer that was cut off, unless no other local model may try.

        Raises:
            CutAnswerError: another may try.
        """
        settings = await self._settings(task.assignment)
        classification = Classification(task.request.classification)
        again = Task(task.assignment.task_type, classification, tried=task.tried)
        engine = await self._watch.fresh()
        if next(ladder.local_rungs(again, engine, settings), None) is not None:
            raise CutAnswerError(f"{task.model}'s answer was cut off", "raise max_output_tokens")

    async def _handed_on(
        self, task: RunningTask, chosen: Decision, on_text: OnText | None
    ) -> Engine | None:
        assert task.fault is not None
        assert chosen.decision_id is not None
        failed = (*task.failed, (task.model, task.fault))
        settings = await self._settings(task.assignment)
        if chosen.provider is Provider.CLAUDE:
            advice = ladder.advice(
                chosen.model, chosen.decision_id, task.assignment.task_type, settings
            )
            message = f"{ladder.faults_text(failed)}. {advice}"
            task.answer = DelegateAnswer(
                chosen.model, chosen.provider, chosen.decision_id, message=message
            )
            task.error = None
            return None
        if task.file is not None:
            task.file.abandon(keep=False)
        if on_text is not None:
            on_text(f"\n\n({ladder.faults_text(failed[-1:])}; {chosen.model} tries again)\n\n")
        task.hand_to(chosen.model, chosen.decision_id)
        task.failed = failed
        engine = await self._access.checked(chosen.model, await self._watch.fresh(), settings)
        await self._access.machine_notice(chosen.model, engine, settings)
        return engine

    async def _end(self, task: RunningTask) -> None:
        """Record a task and tell those who wait for it, whatever happens."""
        try:
            if task.failed and task.error is not None:
                task.error = DelegationError(f"{ladder.faults_text(task.failed)}; {task.error}")
            if task.file is not None and task.end is not TaskState.FINISHED:
                abandon(task.file, task)
            if not task.is_recorded:
                await self._record(task)
        except Exception as error:  # noqa: BLE001  # the boundary of delegated tasks
            task.error = task.error or DelegationError(report_bug(f"task {task.handle}", error))
        finally:
            task.state = task.end
            await self._note(task)
            task.done.set()

    async def _result(self, task: RunningTask, engine: Engine, on_text: OnText | None) -> Result:
        # An engine that was too slow to probe may still do the task.
        found = models.find_model(task.model, engine)
        name = models.engine_name(task.model, engine)
        model = LocalModel(task.model) if found is None else engine.models[found]
        client = self._engines.named(name)
        settings = await self._settings(task.assignment)
        # It may have waited for its turn, and the user have forbidden it meanwhile.
        await check_permission(task.model, engine, client.where.url, settings)
        limits = await limits_of(
            task.model, model, task.assignment, client, settings.largest_context
        )
        task_type = task.assignment.task_type
        version = engine.version if name == models.OLLAMA else None
        schema = task.assignment.schema
        chat = TaskChat(client, model, limits, task_type, task.meter, version, schema)
        return await chunking.completed(task.assignment, limits, chat.complete, on_text)

    async def _checked(self, task: RunningTask, result: Result) -> tuple[Result, tuple[str, ...]]:
        """Check a whole result; return it as it is delivered, with the names of the checks it passed."""
        if not result.is_complete or not result.text:
            return result, ()
        subject = task.assignment.subject(result.text)
        passed = await anyio.to_thread.run_sync(
            registry.run, subject, task.assignment.checks, task.model
        )
        result = result._replace(text=code.delivered(subject))
        if task.assignment.commands:
            passed = (*passed, *await self._tried(task, result.text))
        return result, passed

    async def _tried(self, task: RunningTask, text: str) -> tuple[str, ...]:
        """Run the user's commands on a result; return the names of those that it passed."""
        commands = task.assignment.commands
        what = trial.Trial(text, task.model, commands, task.assignment.output_in_project)
        stop = Event()
        try:
            await anyio.to_thread.run_sync(trial.run, what, stop, abandon_on_cancel=True)
        except trial.TrialError as error:
            task.notice = " ".join(filter(None, (task.notice, f"Not checked: {error}.")))
            return ()
        finally:
            stop.set()
        return tuple(each.name for each in commands)

    async def _record(self, task: RunningTask) -> None:
        try:
            kept_local = await self._router.handover.record(
                task.model,
                task.meter.used,
                task.decision_id,
                task.outcome,
                task.assignment.session,
                None if task.answer is None else task.answer.seconds,
                Judge.CHECK if task.is_judged else None,
                in_file=task.answer is not None and task.answer.output_path is not None,
            )
        except ImmunosError as error:
            task.error = task.error or error
        else:
            if task.answer is not None:
                task.answer = task.answer.with_kept_local(kept_local)


async def _until_done(task: RunningTask, progress: Progress | None) -> None:
    while not task.done.is_set():
        with anyio.move_on_after(PROGRESS_SECONDS):
            await task.done.wait()
        if progress is not None and not task.done.is_set():
            pieces = task.meter.pieces
            await progress(pieces, f"{task.model}: {pieces} tokens, {task.state}")
