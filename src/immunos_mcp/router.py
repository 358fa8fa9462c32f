"""The router core: one method for each use case, shared by every entry point.

A method checks what it is given, runs one ledger operation and puts the answer together. It knows
nothing of MCP, of the command line or of SQL.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.answers.routing import ExplainAnswer, RouteAnswer, answered
from immunos_mcp.answers.sessions import BindAnswer, ResetAnswer
from immunos_mcp.answers.settings import ConfigAnswer
from immunos_mcp.answers.usage import OutcomeAnswer, RecordAnswer, SyncAnswer
from immunos_mcp.domain import (
    Classification,
    Engine,
    EngineState,
    Outcome,
    Switch,
    Task,
    TokenCounts,
    Usage,
)
from immunos_mcp.errors import InvalidInputError, LedgerError, Problem
from immunos_mcp.ledger.decisions import (
    close_decision,
    decide,
    decision_state,
    logged_decision,
    newest_decisions,
)
from immunos_mcp.ledger.engines import engine_text
from immunos_mcp.ledger.measured_usage import ingest_requests, unread_lines
from immunos_mcp.ledger.plan_limits import record_plan_usage
from immunos_mcp.ledger.reported_usage import record_usage
from immunos_mcp.ledger.session_snapshots import session_snapshot
from immunos_mcp.ledger.sessions import (
    bind_session,
    newest_sessions,
    open_session,
    reset_session,
    session_revisions,
)
from immunos_mcp.ledger.stored_settings import (
    change_settings,
    effective_settings,
    preview_settings,
    setting_changes,
    unset_settings,
)
from immunos_mcp.rules import explanation, inputs, names, policy
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.local_models import local_models
from immunos_mcp.rules.setting_changes import apply, differences, notable_values
from immunos_mcp.rules.status import engine_status, session_status, session_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.answers.history import LoggedDecision, SettingChange
    from immunos_mcp.answers.models import ModelsAnswer
    from immunos_mcp.answers.pruning import Pruned
    from immunos_mcp.answers.replay import ReplayAnswer
    from immunos_mcp.answers.report import ReportAnswer
    from immunos_mcp.answers.routing import Explanation
    from immunos_mcp.answers.sessions import SessionSummary
    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.domain import Decision, PlanUsage, RequestUsage
    from immunos_mcp.ledger.connections.sqlite import SqliteLedger
    from immunos_mcp.ledger.decisions import DecisionState
    from immunos_mcp.ledger.export import ExportedRows
    from immunos_mcp.ledger.sessions import Revisions
    from immunos_mcp.ledger.stored_settings import SettingsChanged
    from immunos_mcp.reports.prices import Prices
    from immunos_mcp.rules.circumstances import SessionSnapshot
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings

REPORTED = "reported"
"""Source of usage that a client says it had."""

DELEGATED = "delegated"
"""Source of usage that the local engine counted for a task handed over to it."""

REHEARSED_DECISIONS = 1000
"""How many of the newest decisions a dry run decides again: a few milliseconds' worth."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Router:
    """The use cases, on one ledger.

    Every method raises ``InvalidInputError`` for arguments it cannot take, naming each, and the ledger's
    errors. Whatever was raised, nothing was changed; whatever was returned is stored.
    """

    def __init__(
        self,
        ledger: SqliteLedger,
        default_session: str,
        clock: Callable[[], datetime] = _utc_now,
        follower: Follower | None = None,
        engine: Callable[[], Engine] | None = None,
    ) -> None:
        """Put the use cases on a ledger.

        Args:
            ledger: where everything is kept.
            default_session: the session of calls that name none.
            clock: the time, aware.
            follower: reads what assistants write down of their usage; ``None``: nobody does.
            engine: says at once how the local engine lately was; ``None``: models are taken for
                granted.
        """
        self._ledger = ledger
        self._default_session = default_session
        self._follower = follower
        self._clock = clock
        self._engine = engine
        self._spelled_engine: tuple[Engine, str] | None = None

    async def route_task(
        self,
        task_type: str,
        classification: str,
        estimated_tokens: int | None = None,
        session: str | None = None,
        *,
        explain: bool = False,
    ) -> RouteAnswer:
        """Decide which model does a task, log the decision, and tell how it came about if asked."""
        name = self._session_name(session)
        task = Task(
            names.normalise_task_type(task_type),
            inputs.member(Classification, "classification", classification),
            inputs.tokens("estimated_tokens", estimated_tokens),
        )

        explanations: list[Explanation] = []
        # Read here: a rule runs in the ledger's thread.
        engine = None if self._engine is None else self._engine()

        def rule(snapshot: SessionSnapshot) -> Decision:
            settings = snapshot.settings
            circumstances = Circumstances(
                policy.budget_tokens(snapshot.session.claude, settings),
                policy.plan_used_percent(snapshot.plan, settings),
                engine,
                snapshot.record,
            )
            if explain:
                explanations.append(explanation.explain(settings, circumstances, task))
            return policy.decide(settings, circumstances, task)

        await self.catch_up()
        logged = await self._ledger.write(
            decide, name, self._clock(), task, rule, self._engine_text(engine)
        )
        return answered(logged, explanations[0] if explanations else None)

    async def record_usage(
        self,
        model: str,
        input_tokens: int,
        output_tokens: int,
        cache_creation_input_tokens: int | None = None,
        cache_read_input_tokens: int | None = None,
        decision_id: int | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        session: str | None = None,
        client: str = "",
        seconds: float | None = None,
    ) -> RecordAnswer:
        """Add a response's tokens to the session, and close the decision it belongs to.

        What a client whose transcripts are read (``client`` is its name) reports of Claude's tokens
        is kept and not counted: it is measured already.
        """
        name = self._session_name(session)
        if outcome is not None and decision_id is None:
            takes = "a decision_id with it, to say whose outcome it is"
            raise InvalidInputError(Problem("outcome", outcome, takes))
        if seconds is not None and decision_id is None:
            takes = "a decision_id with it, to say whose work it was"
            raise InvalidInputError(Problem("seconds", seconds, takes))
        if decision_id is not None:
            decision_id = inputs.decision_id(decision_id)
        usage = Usage(
            model=names.check_model_name(model),
            counts=TokenCounts(
                inputs.tokens("input_tokens", input_tokens) or 0,
                inputs.tokens("output_tokens", output_tokens) or 0,
                inputs.tokens("cache_creation_input_tokens", cache_creation_input_tokens) or 0,
                inputs.tokens("cache_read_input_tokens", cache_read_input_tokens) or 0,
            ),
            request_id=None if request_id is None else names.check_request_id(request_id),
            decision_id=decision_id,
            outcome=None if outcome is None else inputs.member(Outcome, "outcome", outcome),
            seconds=inputs.seconds(seconds),
        )
        await self.catch_up()
        recorded = await self._ledger.write(
            record_usage, name, self._clock(), usage, REPORTED, is_measured=self.is_measured(client)
        )
        tokens_before = policy.budget_tokens(recorded.before.claude, recorded.settings)
        tokens_after = policy.budget_tokens(recorded.after.claude, recorded.settings)
        level_before = policy.warning_level(tokens_before, recorded.settings)
        level_after = policy.warning_level(tokens_after, recorded.settings)
        return RecordAnswer(
            session_tokens=tokens_after,
            kept_local_tokens=recorded.after.local.total,
            warning_level=level_after,
            crossed=None if level_before is level_after else level_after,
            repeated=recorded.repeated or None,
            counted=None if recorded.counted else False,
        )

    async def get_session_status(self, session: str | None = None) -> StatusAnswer:
        """Say where a session stands; a session that nobody used yet is not opened by asking."""
        name = self._session_name(session)
        await self.catch_up()
        now = self._clock()
        snapshot = await self._ledger.read(session_snapshot, name, now)
        if self._follower is None:
            answer = session_status(snapshot, now)
        else:
            lines = await self._ledger.read(unread_lines)
            answer = session_status(snapshot, now, lines, len(self._follower.unread_files))
        if self._engine is None:
            return answer
        return replace(answer, ollama=engine_status(self._engine(), snapshot.settings))

    async def refuse_agent(self, session: str | None = None) -> policy.Recommendation | None:
        """Return the local model to use instead of a subagent, and why; ``None``: it may start.

        Subagents are refused where the setting ``deny_agent_tool`` is on and every task stays local.
        """
        status = await self.get_session_status(session)
        settings = await self._ledger.read(effective_settings)
        if settings.deny_agent_tool is Switch.OFF:
            return None
        if status.recommended_model != settings.default_local_model:
            return None
        return policy.Recommendation(status.recommended_model, status.message)

    async def open_session(self, session: str | None = None) -> None:
        """Begin to count, if no session is open under the name."""
        await self._ledger.write(open_session, self._session_name(session), self._clock())

    async def reset_session(
        self, reason: str | None = None, session: str | None = None
    ) -> ResetAnswer:
        """Close the open session, if there is one, and open the next; history stays."""
        name = self._session_name(session)
        words = None if reason is None else names.check_reason(reason)
        await self.catch_up()
        done = await self._ledger.write(reset_session, name, self._clock(), words)
        if done.closed is None:
            return ResetAnswer(session_id=done.session_id)
        return ResetAnswer(
            session_id=done.session_id,
            closed_session_id=done.closed.session_id,
            closed_tokens=policy.budget_tokens(done.closed.claude, done.settings),
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
        """Change settings, all or none; a dry run says what would change and what it would do.

        Args:
            changes: new values by setting; task mappings merge, and ``None`` removes one.
            client: who asks, for the settings' history.
            dry_run: change nothing, and decide the session's newest decisions again instead.
            session: the session whose decisions a dry run rehearses.
        """
        name = self._session_name(session)
        if not dry_run:
            if not changes:
                current = await self._ledger.read(effective_settings)
                return ConfigAnswer({}, notable_values(current))
            return _config(
                await self._ledger.write(change_settings, changes, client, self._clock())
            )
        from immunos_mcp.ledger.history import replay  # few commands need it
        from immunos_mcp.replay.changed_settings import changed_settings
        from immunos_mcp.replay.summary import dry_run_summary

        would = await self._ledger.read(preview_settings, changes)
        rehearsal = await self._ledger.read(
            replay,
            lambda past: dry_run_summary(past, changed_settings(past, changes)),
            name,
            newest=REHEARSED_DECISIONS,
        )
        return replace(_config(would), dry_run=True, rehearsal=rehearsal)

    async def replay(
        self,
        changes: Mapping[str, SettingChangeValue],
        since: datetime | None = None,
        session: str | None = None,
        most: int = 20,
    ) -> ReplayAnswer:
        """Run the logged tasks through the policy with other settings; nothing is changed.

        Args:
            changes: what differs from the settings of the time, as ``update_config`` takes it.
            since: earlier decisions are left out.
            session: the session name; ``None``: all.
            most: how many differing decisions are listed.
        """
        from immunos_mcp.ledger.history import replay  # few commands need it
        from immunos_mcp.replay.changed_settings import changed_settings
        from immunos_mcp.replay.summary import replay_summary

        name = None if session is None else names.check_session_name(session)
        await self._ledger.read(preview_settings, changes)
        return await self._ledger.read(
            replay,
            lambda past: replay_summary(
                past,
                changed_settings(past, changes),
                lambda settings: apply(settings, changes),
                most,
            ),
            name,
            since,
        )

    async def unset_config(self, settings: tuple[str, ...], client: str) -> ConfigAnswer:
        """Return settings to their defaults, all or none."""
        return _config(await self._ledger.write(unset_settings, settings, client, self._clock()))

    async def get_config(self) -> Settings:
        """Return the settings in force."""
        return await self._ledger.read(effective_settings)

    async def explain_decision(self, decision_id: int) -> ExplainAnswer:
        """Tell how a logged decision came about, from what it was made from at the time.

        Raises:
            InvalidInputError: there is no such decision, or what it was made from was pruned.
        """
        from immunos_mcp.ledger.history import replay  # few commands need it
        from immunos_mcp.replay.engine import inputs_of

        logged = await self._ledger.read(logged_decision, inputs.decision_id(decision_id))
        decision = logged.decision
        past = await self._ledger.read(replay, inputs_of, alone=decision_id)
        if past is None:
            takes = "a decision of which nothing was pruned"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        return ExplainAnswer(
            decision_id=logged.decision_id,
            session=logged.session,
            decided_at=logged.decided_at,
            task_type=logged.task.task_type,
            classification=logged.task.classification,
            model=decision.model,
            reason=decision.reason,
            explanation=explanation.explain(*past),
        )

    async def record_outcome(
        self, decision_id: int, outcome: str, seconds: float | None = None
    ) -> OutcomeAnswer:
        """Keep what became of a decision, of which no usage is reported.

        Raises:
            InvalidInputError: there is no such decision, it is closed otherwise, or the seconds are
                not from 0 to a day.
        """
        known = inputs.member(Outcome, "outcome", outcome)
        closed = await self._ledger.write(
            close_decision,
            inputs.decision_id(decision_id),
            known,
            inputs.seconds(seconds),
            self._clock(),
        )
        return OutcomeAnswer(decision_id, known, closed.task_type, closed.model)

    async def open_decision(self, decision_id: int) -> DecisionState:
        """Return a decision that is not closed yet.

        Raises:
            InvalidInputError: there is no such decision, or it is closed.
        """
        found = await self._decision(decision_id)
        if found is None:
            raise inputs.unknown_decision(decision_id)
        if found.outcome is not None:
            takes = f"a decision that is open; this one is closed as {found.outcome}"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        return found

    async def find_outcome(self, decision_id: int) -> Outcome | None:
        """Return what became of a decision; ``None``: it is open.

        Raises:
            InvalidInputError: there is no such decision.
        """
        found = await self._decision(decision_id)
        if found is None:
            takes = "the handle of a delegate_task answer"
            raise InvalidInputError(Problem("handle", f"d{decision_id}", takes))
        return found.outcome

    async def _decision(self, decision_id: int) -> DecisionState | None:
        if not inputs.is_id(decision_id):
            return None
        return await self._ledger.read(decision_state, decision_id)

    async def record_delegated(
        self,
        model: str,
        counts: TokenCounts,
        decision_id: int,
        outcome: Outcome | None,
        session: str | None = None,
        seconds: float | None = None,
    ) -> int:
        """Keep what a delegated task used and became; return the session's tokens kept local.

        That the model answered is no judgement of its answer: whoever reports another outcome is right.
        """
        usage = Usage(
            model,
            counts,
            decision_id=decision_id,
            outcome=outcome,
            seconds=seconds,
            is_judged=False,
        )
        name = self._session_name(session)
        recorded = await self._ledger.write(record_usage, name, self._clock(), usage, DELEGATED)
        return recorded.after.local.total

    async def list_models(self) -> ModelsAnswer:
        """Say which local models are mapped, installed, loaded and missing."""
        settings = await self._ledger.read(effective_settings)
        engine = Engine(EngineState.UNKNOWN) if self._engine is None else self._engine()
        return local_models(engine, settings)

    async def catch_up(self, largest: int | None = None) -> None:
        """Take over what assistants have written down of their usage since the last look.

        Args:
            largest: with more unread bytes than this, nothing is read.
        """
        if self._follower is not None:
            await self._follower.catch_up(self._clock(), largest)

    async def sync(
        self, since: datetime | None, progress: Callable[[int, int], None]
    ) -> SyncAnswer:
        """Take over the history in all transcripts, as far back as ``since`` (``None``: all).

        Args:
            since: usage before this moment is left out.
            progress: told the bytes read so far and the bytes there are, after each portion.
        """
        if self._follower is None:
            return SyncAnswer(transcripts=0, added=0)
        return await self._follower.sync(self._clock(), since, progress)

    def is_measured(self, client: str) -> bool:
        """Tell whether a client, by the name it gives itself, writes its usage down where we read."""
        return self._follower is not None and self._follower.is_measured(client)

    async def record_plan_usage(self, plan: Sequence[PlanUsage]) -> None:
        """Keep what the subscription's limits were last reported as."""
        await self._ledger.write(record_plan_usage, plan, self._clock())

    async def record_requests(self, requests: Sequence[RequestUsage]) -> int:
        """Take over requests that a client's telemetry reported; return how many were new."""
        return await self._ledger.write(ingest_requests, requests)

    async def prune(self, keep_days: int, *, dry_run: bool = False) -> Pruned:
        """Replace detail older than so many days (UTC) by sums; every total stays as it is.

        Raises:
            InvalidInputError: the days are not from 1 to ``inputs.MOST_DAYS``.
        """
        from immunos_mcp.ledger.pruning import preview_prune, prune  # one command needs it

        days = timedelta(days=inputs.days("keep_days", keep_days))
        await self.catch_up()
        midnight = self._clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if dry_run:
            return await self._ledger.write(preview_prune, midnight - days)
        pruned = await self._ledger.write(prune, midnight - days)
        # Where others are at work, the next pruning gives the space back.
        with suppress(LedgerError):
            await self._ledger.compact()
        return pruned

    async def bind(self, folder: str | None, session: str | None = None) -> BindAnswer:
        """Let a session name count one project folder's measured usage alone, or all again.

        The open session goes on as it is; the binding holds from the next one on.
        """
        name = self._session_name(session)
        await self._ledger.write(bind_session, name, folder)
        return BindAnswer(session=name, folder=folder)

    async def list_setting_changes(self, limit: int) -> tuple[SettingChange, ...]:
        """Return the newest changes of settings, newest first."""
        return await self._ledger.read(setting_changes, limit)

    async def list_decisions(self, limit: int, session: str | None) -> tuple[LoggedDecision, ...]:
        """Return the newest decisions, newest first; of every session when none is named."""
        name = None if session is None else names.check_session_name(session)
        return await self._ledger.read(newest_decisions, name, limit)

    async def list_sessions(self, limit: int, session: str | None) -> tuple[SessionSummary, ...]:
        """Return the newest sessions, newest first; under every name when none is given."""
        name = None if session is None else names.check_session_name(session)
        newest = await self._ledger.read(newest_sessions, name, limit)
        return tuple(session_summary(record, newest.settings) for record in newest.sessions)

    async def report(self, since: datetime | None, prices: Prices) -> ReportAnswer:
        """Say what became of tokens, decisions and models, from a moment on or (``None``) ever.

        Args:
            since: earlier usage and decisions are left out; records of models never are.
            prices: list prices, for what tokens cost and would have cost.
        """
        from immunos_mcp.ledger.report_figures import report_figures  # one command needs it
        from immunos_mcp.reports import compose

        await self.catch_up()
        now = self._clock()
        figures = await self._ledger.read(report_figures, since)
        return compose.compose(figures, since, prices, now)

    async def export(
        self,
        tables: Sequence[str],
        since: datetime | None,
        sink: Callable[[ExportedRows], None],
    ) -> None:
        """Give every row of some tables to ``sink``, batch by batch, as they all are at one moment.

        Args:
            tables: public names, each once; none: all tables there are.
            since: rows that belong to an earlier time are left out; ``None``: none are.
            sink: is called with an empty batch at the beginning of each table, then with its rows.

        Raises:
            InvalidInputError: there is no such table, or it is named twice.
        """
        from immunos_mcp.ledger import export  # one command needs it

        for place, table in enumerate(tables):
            if table not in export.TABLES:
                raise InvalidInputError(
                    Problem("table", table, f"one of {', '.join(export.TABLES)}")
                )
            if table in tables[:place]:
                raise InvalidInputError(Problem("table", table, "each table once"))
        await self.catch_up()
        await self._ledger.read(export.export, tables or export.TABLES, since, sink)

    async def list_revisions(self) -> Revisions:
        """Return the settings and, for each open session, figures that change with its status."""
        await self.catch_up()
        return await self._ledger.read(session_revisions)

    def _engine_text(self, engine: Engine | None) -> str | None:
        if engine is None:
            return None
        if self._spelled_engine is None or self._spelled_engine[0] is not engine:
            self._spelled_engine = (engine, engine_text(engine))
        return self._spelled_engine[1]

    def _session_name(self, session: str | None) -> str:
        return self._default_session if session is None else names.check_session_name(session)


def _config(done: SettingsChanged) -> ConfigAnswer:
    return ConfigAnswer(
        changes=differences(done.before, done.after),
        settings=notable_values(done.after),
    )
