"""The router core: one method for each use case, shared by every entry point.

A method checks what it is given, runs one ledger operation and puts the answer together. It knows
nothing of MCP, of the command line or of SQL.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.assistants.looks import Look, Looks
from immunos_mcp.domain import UNJOINED, Classification, Engine, EngineState, Judge, Task
from immunos_mcp.errors import LedgerBusyError
from immunos_mcp.ledger.measured_usage import unread_lines
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.plan_limits import record_plan_usage
from immunos_mcp.ledger.session_snapshots import session_snapshot
from immunos_mcp.ledger.session_start import open_session
from immunos_mcp.ledger.sessions import reset_session, session_revisions
from immunos_mcp.ledger.stored_settings import effective_settings
from immunos_mcp.rules import levels, names
from immunos_mcp.rules.budgets import assistant_named
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.status import (
    engine_status,
    measured_tokens,
    recorded_usage,
    session_status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from immunos_mcp.answers.models import ModelsAnswer
    from immunos_mcp.answers.routing import Explanation, RouteAnswer, RoutedTask
    from immunos_mcp.answers.sessions import ResetAnswer
    from immunos_mcp.answers.settings import ConfigAnswer
    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.answers.usage import RecordAnswer
    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.assistants.looks import Seen
    from immunos_mcp.bindings import Bindings
    from immunos_mcp.budget_alerts import BudgetAlerts
    from immunos_mcp.domain import Decision, JoinKey, PlanUsage
    from immunos_mcp.gates import Gates
    from immunos_mcp.handover import Handover
    from immunos_mcp.ledger.connections.ledger import Ledger, Writing
    from immunos_mcp.ledger.pushing import Reporter
    from immunos_mcp.ledger.sessions import Revisions
    from immunos_mcp.logged_usage import RequestUsage
    from immunos_mcp.outcomes import Outcomes
    from immunos_mcp.project_settings import ProjectSettings
    from immunos_mcp.rules.circumstances import SessionSnapshot
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings

UNSPECIFIC = Look()
"""A look that names no conversation."""

REPORTED = "reported"
"""Source of usage that a client reported."""

DRY_RUN_DECISIONS = 1000
"""How many of the newest decisions a dry run decides again, which takes a few milliseconds."""


class Router:
    """The use cases, on one ledger.

    Every method raises ``InvalidInputError`` for invalid arguments, naming each, and the ledger's errors.
    After an error nothing has changed; everything that was returned is stored.

    Attributes:
        handover: the use cases of tasks that a local model does.
        bindings: the use cases of sessions that count one project folder only.
        gates: the use cases of the gates, for the default session.
        whose_settings: whose settings were returned or changed last, in words; ``None``: those of a ledger
            that has joined no team.
    """

    whose_settings: str | None = None

    def __init__(
        self,
        ledger: Ledger,
        default_session: str,
        clock: Callable[[], datetime] = utc_now,
        follower: Follower | None = None,
        engine: Callable[[], Engine] | None = None,
        opened_by_looks: str | None = None,
        folder: str | None = None,
        places: tuple[str, ...] = (),
    ) -> None:
        """Create the use cases of a ledger.

        Args:
            ledger: where everything is stored.
            default_session: the session of calls that name none.
            clock: the time, aware.
            follower: reads the usage that assistants log; ``None``: nobody does.
            engine: returns the last known state of the local engine, without waiting; ``None``:
                models are assumed to be available.
            opened_by_looks: the session that a status opens; ``None``: the default session.
            folder: the project folder that calls come from; ``None``: not known.
            places: the folders that calls come from, however wide, without links: their settings hold.
        """
        self._ledger = ledger
        self._default_session = default_session
        self._follower = follower
        self._looks = (
            None
            if follower is None
            else Looks(ledger, opened_by_looks or default_session, follower, places)
        )
        self._clock = clock
        self._folder = folder
        self._places = places
        self._engine = engine
        self._engine_as_text: tuple[Engine, str] | None = None

    # The modules of other use cases than looking at the status are imported where they are used: a status
    # line runs at every refresh of the screen, and importing them would take a fifth of its time.

    @cached_property
    def handover(self) -> Handover:
        """The use cases of tasks that a local model does."""
        from immunos_mcp.handover import Handover

        return Handover(self._ledger, self._default_session, self._clock)

    @cached_property
    def bindings(self) -> Bindings:
        """The use cases of sessions that count one project folder only."""
        from immunos_mcp.bindings import Bindings

        return Bindings(self._ledger, self._default_session)

    @cached_property
    def gates(self) -> Gates:
        """The use cases of hooks that hold work back."""
        from immunos_mcp.gates import Gates

        return Gates(self._ledger, self._default_session, self._clock, self._engine, self._places)

    @cached_property
    def project_settings(self) -> ProjectSettings:
        """The use cases of settings that hold in one project folder and below."""
        from immunos_mcp.project_settings import ProjectSettings

        return ProjectSettings(self._ledger, self._default_session, self._clock, self._places)

    @cached_property
    def outcomes(self) -> Outcomes:
        """The use cases of how routed tasks turned out."""
        from immunos_mcp.outcomes import Outcomes

        return Outcomes(self._ledger, self._clock)

    @cached_property
    def budget_alerts(self) -> BudgetAlerts:
        """The use case of telling others that a budget has reached a threshold."""
        from immunos_mcp.budget_alerts import BudgetAlerts

        return BudgetAlerts(self._ledger, self._clock)

    async def route_task(
        self,
        task_type: str,
        classification: str,
        estimated_tokens: int | None = None,
        session: str | None = None,
        *,
        explain: bool = False,
    ) -> RouteAnswer:
        """Decide which model does a task, log the decision, and explain it if asked."""
        routed = await self.decide_task(
            task_type, classification, estimated_tokens, session, explain=explain
        )
        return routed.answer

    async def decide_task(
        self,
        task_type: str,
        classification: str,
        estimated_tokens: int | None = None,
        session: str | None = None,
        *,
        explain: bool = False,
        client: str = "",
        key: JoinKey = UNJOINED,
        follows: int | None = None,
        tried: tuple[str, ...] = (),
        places: tuple[str, ...] = (),
    ) -> RoutedTask:
        """Do what ``route_task`` does, and return the logged decision beside its answer.

        A task that models failed at names them and the decision that this one follows. If none is left
        that may try, that is a ``DelegationError``, and nothing is logged. ``places`` are folders that the
        task belongs to beside those that calls come from.
        """
        from immunos_mcp.answers.routing import RoutedTask, answered
        from immunos_mcp.ledger.budget_uses import Caller
        from immunos_mcp.ledger.decisions import decide
        from immunos_mcp.rules import explanation, inputs, ladder, policy

        name = self._session_name(session)
        task = Task(
            names.normalise_task_type(task_type),
            inputs.member(Classification, "classification", classification),
            inputs.tokens("estimated_tokens", estimated_tokens),
            follows=follows,
            tried=tried,
        )
        explanations: list[Explanation] = []
        # Read here: a rule runs in the ledger's thread.
        engine = None if self._engine is None else self._engine()

        def rule(snapshot: SessionSnapshot, task: Task) -> Decision:
            settings, circumstances = snapshot.settings, _circumstances(snapshot, engine)
            if explain:
                explanations.append(explanation.explain(settings, circumstances, task))
            return ladder.untried(policy.decide(settings, circumstances, task), task)

        await self._begin(name)
        logged = await self._ledger.write(
            decide,
            name,
            self._clock(),
            task,
            rule,
            self._engine_text(engine),
            Caller(assistant_named(client), self._folder),
            key,
            (*self._places, *places),
        )
        return RoutedTask(answered(logged, explanations[0] if explanations else None), logged)

    async def record_usage(
        self,
        model: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_creation_input_tokens: int | None = None,
        cache_read_input_tokens: int | None = None,
        decision_id: int | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        session: str | None = None,
        client: str = "",
        seconds: float | None = None,
        judge: Judge = Judge.ASSISTANT,
    ) -> RecordAnswer:
        """Add a response's tokens to the session, and close the decision it belongs to, as ``judge`` says.

        What a client whose transcripts are read (``client`` is its name) reports of Claude's tokens
        is stored but not counted: it is measured already. With a decision and its outcome the tokens may
        be left out, and no usage is recorded.
        """
        from immunos_mcp.ledger.connections.repeating import write_repeatable
        from immunos_mcp.ledger.reported_usage import record_usage
        from immunos_mcp.rules import inputs

        name = self._session_name(session)
        kinds = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cache_creation_input_tokens": cache_creation_input_tokens,
            "cache_read_input_tokens": cache_read_input_tokens,
        }
        if inputs.is_outcome_alone(kinds, decision_id, outcome):
            assert decision_id is not None
            assert outcome is not None
            await self.catch_up()
            return await self.outcomes.record(name, decision_id, outcome, seconds, judge, model)
        usage = inputs.reported_usage(
            model,
            kinds,
            decision_id=decision_id,
            outcome=outcome,
            request_id=request_id,
            seconds=seconds,
            judge=judge,
        )
        await self._begin(name)
        # Only what has an id is recognised when it comes again.
        write = partial(write_repeatable, self._ledger) if request_id else self._ledger.write
        recorded = await write(
            record_usage, name, self._clock(), usage, REPORTED,
            is_measured=self.is_measured(client), reporter=self._reporter(client),
        )  # fmt: skip
        return recorded_usage(
            recorded.before,
            recorded.after,
            recorded.settings,
            is_repeat=recorded.repeated,
            is_counted=recorded.counted,
        )

    async def get_session_status(
        self, session: str | None = None, look: Look = UNSPECIFIC
    ) -> StatusAnswer:
        """Return a session's status; where assistants log their usage, asking opens the default session.

        If that fails, the answer says what is not counted.
        """
        name = self._session_name(session)
        now = self._clock()
        if self._looks is None:
            snapshot = await self._ledger.read(session_snapshot, name, now, self._places)
            answer = session_status(snapshot, now)
        else:
            seen = await self._looks.look(name, now, look)
            snapshot = seen.snapshot
            answer = await self._logged_status(self._looks.follower, seen, now, look)
        if self._engine is None:
            return answer
        return replace(answer, ollama=engine_status(self._engine(), snapshot.settings))

    async def _logged_status(
        self, follower: Follower, seen: Seen, now: datetime, look: Look
    ) -> StatusAnswer:
        """Return the status of a session that counts what assistants log, and what it lacks."""
        lines = await self._ledger.read(unread_lines)
        answer = session_status(seen.snapshot, now, lines, len(follower.unread_files))
        if seen.obstacle is None or answer.session_id is not None:
            return replace(answer, not_counting=seen.obstacle)
        midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        today = follower.measured_since(midnight, look.largest)
        tokens = measured_tokens(today, seen.snapshot.settings)
        return replace(
            answer,
            message=f"{tokens} tokens measured today are not counted yet.",
            measured_tokens=None,
            not_counting=seen.obstacle,
            uncounted_tokens=tokens,
        )

    async def open_session(self, session: str | None = None) -> None:
        """Open a session now, if none is open under the name.

        Raises:
            LedgerBusyError: another program writes to the ledger for more than a moment.
        """
        await self._ledger.write_soon(open_session, self._session_name(session), self._clock())

    async def reset_session(
        self, reason: str | None = None, session: str | None = None
    ) -> ResetAnswer:
        """Close the open session, if any, and open the next one; the history stays."""
        from immunos_mcp.answers.sessions import ResetAnswer

        name = self._session_name(session)
        checked_reason = None if reason is None else names.check_reason(reason)
        await self.catch_up()
        write = self._writing("reset_session", name)
        done = await write(reset_session, name, self._clock(), checked_reason)
        if done.closed is None:
            return ResetAnswer(session_id=done.session_id)
        return ResetAnswer(
            session_id=done.session_id,
            closed_session_id=done.closed.session_id,
            closed_tokens=levels.budget_tokens(done.closed.claude, done.settings),
            closed_kept_local_tokens=done.closed.local.total,
            closed_decisions=done.closed_decisions,
        )

    async def update_config(
        self,
        changes: Mapping[str, SettingChangeValue],
        client: str,
        dry_run: bool = False,
        session: str | None = None,
    ) -> ConfigAnswer:
        """Change settings, all or none; a dry run returns what would change and its effect.

        Args:
            changes: new values by setting; task mappings merge, and ``None`` removes one.
            client: who asks, for the settings' history.
            dry_run: change nothing, and decide the session's newest decisions again instead.
            session: the session whose decisions a dry run decides again.
        """
        from immunos_mcp.ledger.changed_settings import change_settings, preview_settings
        from immunos_mcp.rules.setting_changes import config_answer

        name = self._session_name(session)
        if not dry_run:
            if not changes:
                current = await self._ledger.read(effective_settings)
                return config_answer(current, current)
            write = self._writing("update_config", ", ".join(sorted(changes)))
            done = await write(change_settings, changes, client, self._clock())
            return config_answer(done.before, done.after)
        from immunos_mcp.ledger.history import replay  # few commands need it
        from immunos_mcp.replay.changed_settings import changed_settings
        from immunos_mcp.replay.summary import dry_run_summary

        would = await self._ledger.read(preview_settings, changes)
        effect = await self._ledger.read(
            replay,
            lambda past: dry_run_summary(past, changed_settings(past, changes)),
            name,
            newest=DRY_RUN_DECISIONS,
        )
        return replace(config_answer(would.before, would.after), dry_run=True, rehearsal=effect)

    async def unset_config(self, settings: tuple[str, ...], client: str) -> ConfigAnswer:
        """Return settings to their defaults, all or none."""
        from immunos_mcp.ledger.changed_settings import unset_settings
        from immunos_mcp.rules.setting_changes import config_answer

        done = await self._ledger.write(unset_settings, settings, client, self._clock())
        return config_answer(done.before, done.after)

    async def get_config(self) -> Settings:
        """Return the settings that hold everywhere."""
        return await self._ledger.read(effective_settings)

    async def list_models(self) -> ModelsAnswer:
        """Return which local models are mapped, installed, loaded and missing."""
        from immunos_mcp.rules.local_models import local_models  # few commands need it

        settings = await self._ledger.read(effective_settings)
        engine = Engine(EngineState.UNKNOWN) if self._engine is None else self._engine()
        return local_models(engine, settings)

    async def catch_up(self, *, is_patient: bool = True) -> None:
        """Import the usage that assistants have logged since the last call.

        Raises:
            LedgerBusyError: another program writes to the ledger for too long.
        """
        if self._follower is not None:
            await self._follower.catch_up(self._clock(), is_patient=is_patient)

    async def _begin(self, name: str) -> None:
        """Prepare a call that opens its session: the default one begins with the conversation."""
        if self._looks is not None:
            await self._looks.open(name, self._clock())
        await self.catch_up()

    def is_measured(self, client: str) -> bool:
        """Return whether a client, by its own name, logs its usage where the follower reads it."""
        return self._follower is not None and self._follower.is_measured(client)

    def _reporter(self, _client: str) -> Reporter | None:
        """Return who reports, where others may push what a client logs."""
        return None

    async def record_plan_usage(self, plan: Sequence[PlanUsage]) -> None:
        """Store the latest report of the subscription's limits, if there is any."""
        if plan:
            await self._ledger.write_soon(record_plan_usage, plan, self._clock())

    async def record_requests(self, requests: Sequence[RequestUsage]) -> int:
        """Store requests that a client's telemetry reported; return how many were new."""
        # Most looks find nothing to store.
        from immunos_mcp.ledger.connections.repeating import write_repeatable
        from immunos_mcp.ledger.ingestion import ingest_requests

        return await write_repeatable(self._ledger, ingest_requests, requests)

    async def list_revisions(self) -> Revisions:
        """Return the settings and, for each open session, figures that change with its status."""
        with suppress(LedgerBusyError):
            await self.catch_up(is_patient=False)
        return await self._ledger.read(session_revisions)

    def _writing(self, _action: str, _detail: str) -> Writing:
        """Return what runs an operation on what others share; a subclass may note it as well."""
        return self._ledger.write

    def _engine_text(self, engine: Engine | None) -> str | None:
        if engine is None:
            return None
        from immunos_mcp.ledger.engines import engine_text

        if self._engine_as_text is None or self._engine_as_text[0] is not engine:
            self._engine_as_text = (engine, engine_text(engine))
        return self._engine_as_text[1]

    def _session_name(self, session: str | None) -> str:
        return self._default_session if session is None else names.check_session_name(session)


def _circumstances(snapshot: SessionSnapshot, engine: Engine | None) -> Circumstances:
    return Circumstances(
        levels.budget_tokens(snapshot.session.claude, snapshot.settings),
        levels.plan_used_percent(snapshot.plan, snapshot.settings),
        engine,
        snapshot.record,
        snapshot.budgets,
        snapshot.held_tokens,
    )
