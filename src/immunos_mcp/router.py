"""The router core: one method for each use case, shared by every entry point.

A method checks what it is given, runs one ledger operation and puts the answer together. It knows
nothing of MCP, of the command line or of SQL.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from immunos_mcp.answers.answers import (
    BindAnswer,
    ConfigAnswer,
    EngineStatus,
    ExplainAnswer,
    ModelLine,
    ModelsAnswer,
    OutcomeAnswer,
    RecordAnswer,
    ResetAnswer,
    RouteAnswer,
    SessionSummary,
    StatusAnswer,
    SyncAnswer,
)
from immunos_mcp.assistants.claude_code import transcripts
from immunos_mcp.domain import (
    MAXIMUM_TOKENS,
    Circumstances,
    Classification,
    Engine,
    EngineState,
    Outcome,
    Reason,
    Switch,
    Task,
    TokenCounts,
    Usage,
)
from immunos_mcp.errors import InvalidInputError, LedgerError, Problem
from immunos_mcp.ledger import ReadingState, engine_text
from immunos_mcp.rules import names, pace, policy
from immunos_mcp.rules import settings as settings_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.answers.answers import Explanation
    from immunos_mcp.answers.replay import ReplayAnswer
    from immunos_mcp.answers.report import Prices, ReportAnswer
    from immunos_mcp.assistants.claude_code.transcripts import Transcript, TranscriptFolders
    from immunos_mcp.domain import (
        Decision,
        LoggedDecision,
        PlanUsage,
        Provider,
        RequestUsage,
        SessionRecord,
        SettingChange,
        Settings,
    )
    from immunos_mcp.ledger import SettingsChanged, SqliteLedger, Standing
    from immunos_mcp.ledger.export import ExportedRows
    from immunos_mcp.ledger.pruning import Pruned
    from immunos_mcp.replay.history import History
    from immunos_mcp.rules.settings import SettingChangeValue

REPORTED = "reported"
"""Source of usage that a client says it had."""

DELEGATED = "delegated"
"""Source of usage that the local engine counted for a task handed over to it."""

MEASURED_CLIENT = "claude-code"
"""The client that writes transcripts, by the name that it gives itself."""

REHEARSED_DECISIONS = 1000
"""How many of the newest decisions a dry run decides again: a few milliseconds' worth."""

PLAN_REASONS = frozenset({Reason.PLAN_LIMIT_EXCEEDED, Reason.PLAN_LIMIT_WARNING})

LARGEST_ID = 2**63 - 1
MOST_SECONDS = 86_400
MOST_DAYS = 36_500

Member = TypeVar("Member", bound=StrEnum)


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
        transcripts: TranscriptFolders | None = None,
        engine: Callable[[], Engine] | None = None,
    ) -> None:
        """Put the use cases on a ledger.

        Args:
            ledger: where everything is kept.
            default_session: the session of calls that name none.
            clock: the time, aware.
            transcripts: where clients write their usage down; ``None``: it is not read.
            engine: says at once how the local engine lately was; ``None``: models are taken for
                granted.
        """
        self._ledger = ledger
        self._default_session = default_session
        self._transcripts = transcripts
        self._clock = clock
        self._engine = engine
        self._spelled_engine: tuple[Engine, str] | None = None
        self._read_so_far = ReadingState(None, {})
        self._unread_files: set[str] = set()

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
            _member(Classification, "classification", classification),
            _tokens("estimated_tokens", estimated_tokens),
        )

        explanations: list[Explanation] = []
        # Read here: a rule runs in the ledger's thread.
        engine = None if self._engine is None else self._engine()

        def rule(standing: Standing) -> Decision:
            settings = standing.settings
            plan_used_percent = policy.plan_used_percent(standing.plan, settings)
            circumstances = Circumstances(
                _budget_tokens(standing), plan_used_percent, engine, standing.record
            )
            if explain:
                explanations.append(policy.explain(settings, circumstances, task))
            return policy.decide(settings, circumstances, task)

        await self.catch_up()
        decision_id, decision = await self._ledger.decide(
            name, self._clock(), task, rule, self._engine_text(engine)
        )
        return RouteAnswer(
            model=decision.model,
            provider=decision.provider,
            reason=decision.reason,
            warning_level=decision.warning_level,
            session_tokens=decision.session_tokens,
            decision_id=decision_id,
            projected_tokens=decision.projected_tokens,
            projected_level=(
                None
                if decision.projected_level is decision.warning_level
                else decision.projected_level
            ),
            plan_used_percent=(
                decision.plan_used_percent if decision.reason in PLAN_REASONS else None
            ),
            available=decision.available,
            changed_by=decision.changed_by,
            remedy=decision.remedy,
            trial=decision.trial,
            advised_model=decision.advised_model,
            explanation=explanations[0] if explanations else None,
        )

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
        if decision_id is not None and not 1 <= decision_id <= LARGEST_ID:
            takes = "the decision_id of a route_task answer"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        usage = Usage(
            model=names.check_model_name(model),
            counts=TokenCounts(
                _tokens("input_tokens", input_tokens) or 0,
                _tokens("output_tokens", output_tokens) or 0,
                _tokens("cache_creation_input_tokens", cache_creation_input_tokens) or 0,
                _tokens("cache_read_input_tokens", cache_read_input_tokens) or 0,
            ),
            request_id=None if request_id is None else names.check_request_id(request_id),
            decision_id=decision_id,
            outcome=None if outcome is None else _member(Outcome, "outcome", outcome),
            seconds=_seconds(seconds),
        )
        await self.catch_up()
        recorded = await self._ledger.record(
            name, self._clock(), usage, REPORTED, is_measured=self.is_measured(client)
        )
        weights = recorded.settings.weights
        tokens_before = policy.budget_tokens(recorded.before.claude, weights)
        tokens_after = policy.budget_tokens(recorded.after.claude, weights)
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
        standing, decisions = await self._ledger.standing(name, now)
        unread_lines = 0 if self._transcripts is None else await self._ledger.unread_lines()
        answer = _status(standing, decisions, now, unread_lines, len(self._unread_files))
        if self._engine is None:
            return answer
        return replace(answer, ollama=_engine_status(self._engine(), standing.settings))

    async def refuse_agent(self, session: str | None = None) -> tuple[str, str] | None:
        """Return the local model to use instead of a subagent, and why; ``None``: it may start.

        Subagents are refused where the setting ``deny_agent_tool`` is on and every task stays local.
        """
        status = await self.get_session_status(session)
        settings = await self._ledger.settings()
        if settings.deny_agent_tool is Switch.OFF:
            return None
        if status.recommended_model != settings.default_local_model:
            return None
        return status.recommended_model, status.message

    async def open_session(self, session: str | None = None) -> None:
        """Begin to count, if no session is open under the name."""
        await self._ledger.open_session(self._session_name(session), self._clock())

    async def reset_session(
        self, reason: str | None = None, session: str | None = None
    ) -> ResetAnswer:
        """Close the open session, if there is one, and open the next; history stays."""
        name = self._session_name(session)
        words = None if reason is None else names.check_reason(reason)
        await self.catch_up()
        done = await self._ledger.reset(name, self._clock(), words)
        if done.closed is None:
            return ResetAnswer(session_id=done.session_id)
        return ResetAnswer(
            session_id=done.session_id,
            closed_session_id=done.closed.session_id,
            closed_tokens=policy.budget_tokens(done.closed.claude, done.settings.weights),
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
                current = await self._ledger.settings()
                return ConfigAnswer({}, settings_rules.notable_values(current))
            return _config(await self._ledger.change_settings(changes, client, self._clock()))
        from immunos_mcp.replay.summary import dry_run_summary  # few commands need it

        would = await self._ledger.preview_settings(changes)
        rehearsal = await self._ledger.replay(
            lambda past: dry_run_summary(past, _changed_policies(past, changes)),
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
        from immunos_mcp.replay.summary import replay_summary  # few commands need it

        name = None if session is None else names.check_session_name(session)
        await self._ledger.preview_settings(changes)
        return await self._ledger.replay(
            lambda past: replay_summary(
                past,
                _changed_policies(past, changes),
                lambda settings: settings_rules.apply(settings, changes),
                most,
            ),
            name,
            since,
        )

    async def unset_config(self, settings: tuple[str, ...], client: str) -> ConfigAnswer:
        """Return settings to their defaults, all or none."""
        return _config(await self._ledger.unset_settings(settings, client, self._clock()))

    async def get_config(self) -> Settings:
        """Return the settings in force."""
        return await self._ledger.settings()

    async def explain_decision(self, decision_id: int) -> ExplainAnswer:
        """Tell how a logged decision came about, from what it was made from at the time.

        Raises:
            InvalidInputError: there is no such decision, or what it was made from was pruned.
        """
        from immunos_mcp.replay.engine import inputs_of  # few commands need it

        if not 1 <= decision_id <= LARGEST_ID:
            takes = "the decision_id of a route_task answer"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        logged = await self._ledger.logged_decision(decision_id)
        decision = logged.decision
        past = await self._ledger.replay(inputs_of, alone=decision_id)
        if past is None:
            takes = "a decision of which nothing was pruned"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        explanation = policy.explain(*past)
        return ExplainAnswer(
            decision_id=logged.decision_id,
            session=logged.session,
            decided_at=logged.decided_at,
            task_type=logged.task.task_type,
            classification=logged.task.classification,
            model=decision.model,
            reason=decision.reason,
            explanation=explanation,
        )

    async def record_outcome(
        self, decision_id: int, outcome: str, seconds: float | None = None
    ) -> OutcomeAnswer:
        """Keep what became of a decision, of which no usage is reported.

        Raises:
            InvalidInputError: there is no such decision, it is closed otherwise, or the seconds are
                not from 0 to a day.
        """
        known = _member(Outcome, "outcome", outcome)
        if not 1 <= decision_id <= LARGEST_ID:
            takes = "the decision_id of a route_task answer"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        seconds = _seconds(seconds)
        task_type, model = await self._ledger.close_decision(
            decision_id, known, seconds, self._clock()
        )
        return OutcomeAnswer(decision_id, known, task_type, model)

    async def open_decision(self, decision_id: int) -> tuple[str, Provider]:
        """Return the model of a decision that is not closed yet, and whose it is.

        Raises:
            InvalidInputError: there is no such decision, or it is closed.
        """
        found = await self._decision(decision_id)
        if found is None:
            takes = "the decision_id of a route_task answer"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        model, provider, outcome = found
        if outcome is not None:
            takes = f"a decision that is open; this one is closed as {outcome}"
            raise InvalidInputError(Problem("decision_id", decision_id, takes))
        return model, provider

    async def find_outcome(self, decision_id: int) -> Outcome | None:
        """Return what became of a decision; ``None``: it is open.

        Raises:
            InvalidInputError: there is no such decision.
        """
        found = await self._decision(decision_id)
        if found is None:
            takes = "the handle of a delegate_task answer"
            raise InvalidInputError(Problem("handle", f"d{decision_id}", takes))
        return found[2]

    async def _decision(self, decision_id: int) -> tuple[str, Provider, Outcome | None] | None:
        return await self._ledger.decision(decision_id) if 1 <= decision_id <= LARGEST_ID else None

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
        recorded = await self._ledger.record(name, self._clock(), usage, DELEGATED)
        return recorded.after.local.total

    async def list_models(self) -> ModelsAnswer:
        """Say which local models are mapped, installed, loaded and missing."""
        settings = await self._ledger.settings()
        engine = Engine(EngineState.UNKNOWN) if self._engine is None else self._engine()
        named = policy.named_models(settings)
        known = {names.canonical_model(model) for model in named}
        others = [installed.name for name, installed in engine.models.items() if name not in known]
        return ModelsAnswer(
            state=engine.state,
            address=engine.address,
            models=tuple(
                _model_line(model, named.get(model, ()), engine, settings)
                for model in (*named, *others)
            ),
            version=engine.version or None,
            words=engine.words or None,
        )

    async def catch_up(self, largest: int | None = None) -> None:
        """Take over what clients have written down since the last look.

        Where nothing was written it costs one look at each transcript's size and time, and nothing
        is read at all until the ledger has a session for it to count in.

        Args:
            largest: with more unread bytes than this, nothing is read.
        """
        if self._transcripts is None:
            return
        if self._read_so_far.since is not None and not self._unread(self._read_so_far):
            return
        self._read_so_far = await self._ledger.reading_state(self._clock())
        if self._read_so_far.since is None:
            return
        waiting = self._unread(self._read_so_far)
        if largest is not None:
            positions = self._read_so_far.positions
            unread_bytes = sum(
                transcript.size - positions[transcript.path].read_bytes
                if transcript.path in positions
                else transcript.size
                for transcript in waiting
            )
            if unread_bytes > largest:
                return
        for transcript in waiting:
            await self._take_over(transcript, self._read_so_far.since)

    async def record_plan_usage(self, plan: Sequence[PlanUsage]) -> None:
        """Keep what the subscription's limits were last reported as."""
        await self._ledger.record_plan_usage(plan, self._clock())

    async def record_requests(self, requests: Sequence[RequestUsage]) -> int:
        """Take over requests that a client's telemetry reported; return how many were new."""
        return await self._ledger.ingest_requests(requests)

    async def sync(
        self, since: datetime | None, progress: Callable[[int, int], None]
    ) -> SyncAnswer:
        """Take over the history in all transcripts, as far back as ``since`` (``None``: all).

        Args:
            since: usage before this moment is left out.
            progress: told the bytes read so far and the bytes there are, after each transcript.
        """
        from immunos_mcp.assistants.claude_code import bulk_reading

        if self._transcripts is None:
            return SyncAnswer(transcripts=0, added=0)
        self._read_so_far = await self._ledger.reading_state(self._clock())
        needed = self._read_so_far.since
        if since is not None and needed is not None:
            # What an open session counts is never left out.
            since = min(since, needed)
        positions = self._read_so_far.positions
        usable = {
            path: position
            for path, position in positions.items()
            if transcripts.reaches_back(position, since)
        }
        waiting = self._transcripts.changed(usable, since)
        readings = [(transcript, usable.get(transcript.path)) for transcript in waiting]
        total = sum(transcript.size for transcript in waiting)
        read = added = 0
        for portion in bulk_reading.read_portions(readings, since):
            added += await self._ledger.ingest(portion.usage, portion.positions)
            positions.update((position.path, position) for position in portion.positions)
            self._unread_files.difference_update(position.path for position in portion.positions)
            self._unread_files.update(portion.unreadable)
            read += portion.size
            progress(read, total)
        lines = await self._ledger.unread_lines()
        return SyncAnswer(
            transcripts=len(waiting),
            added=added,
            unread_lines=lines or None,
            unread_files=len(self._unread_files) or None,
        )

    async def prune(self, keep_days: int, *, dry_run: bool = False) -> Pruned:
        """Replace detail older than so many days (UTC) by sums; every total stays as it is.

        Raises:
            InvalidInputError: the days are not from 1 to ``MOST_DAYS``.
        """
        if not 1 <= keep_days <= MOST_DAYS:
            takes = f"a whole number from 1 to {MOST_DAYS}"
            raise InvalidInputError(Problem("keep_days", keep_days, takes))
        await self.catch_up()
        midnight = self._clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        pruned = await self._ledger.prune(midnight - timedelta(days=keep_days), dry_run=dry_run)
        if dry_run:
            return replace(pruned, dry_run=True)
        # Where others are at work, the next pruning gives the space back.
        with suppress(LedgerError):
            await self._ledger.compact()
        return pruned

    async def bind(self, folder: str | None, session: str | None = None) -> BindAnswer:
        """Let a session name count one project folder's measured usage alone, or all again.

        The open session goes on as it is; the binding holds from the next one on.
        """
        name = self._session_name(session)
        await self._ledger.bind(name, folder)
        return BindAnswer(session=name, folder=folder)

    def _unread(self, state: ReadingState) -> list[Transcript]:
        assert self._transcripts is not None
        return self._transcripts.changed(state.positions, state.since)

    async def _take_over(self, transcript: Transcript, since: datetime | None) -> None:
        position = self._read_so_far.positions.get(transcript.path)
        try:
            for batch in transcripts.read(transcript, position, since):
                await self._ledger.ingest(batch.usage, (batch.position,))
                self._read_so_far.positions[transcript.path] = batch.position
        except OSError:
            self._unread_files.add(transcript.path)
        else:
            self._unread_files.discard(transcript.path)

    def is_measured(self, client: str) -> bool:
        """Tell whether a client, by the name it gives itself, writes its usage down where we read."""
        return (
            self._transcripts is not None
            and client.startswith(MEASURED_CLIENT)
            and self._transcripts.exist()
        )

    async def list_setting_changes(self, limit: int) -> tuple[SettingChange, ...]:
        """Return the newest changes of settings, newest first."""
        return await self._ledger.setting_changes(limit)

    async def list_decisions(self, limit: int, session: str | None) -> tuple[LoggedDecision, ...]:
        """Return the newest decisions, newest first; of every session when none is named."""
        name = None if session is None else names.check_session_name(session)
        return await self._ledger.decisions(name, limit)

    async def list_sessions(self, limit: int, session: str | None) -> tuple[SessionSummary, ...]:
        """Return the newest sessions, newest first; under every name when none is given."""
        name = None if session is None else names.check_session_name(session)
        settings, records = await self._ledger.sessions(name, limit)
        return tuple(_summary(record, settings) for record in records)

    async def report(self, since: datetime | None, prices: Prices) -> ReportAnswer:
        """Say what became of tokens, decisions and models, from a moment on or (``None``) ever.

        Args:
            since: earlier usage and decisions are left out; records of models never are.
            prices: list prices, for what tokens cost and would have cost.
        """
        from immunos_mcp.reports import compose

        await self.catch_up()
        now = self._clock()
        figures = await self._ledger.report_figures(since)
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
        from immunos_mcp.ledger import export

        for place, table in enumerate(tables):
            if table not in export.TABLES:
                raise InvalidInputError(
                    Problem("table", table, f"one of {', '.join(export.TABLES)}")
                )
            if table in tables[:place]:
                raise InvalidInputError(Problem("table", table, "each table once"))
        await self.catch_up()
        await self._ledger.export(tables or export.TABLES, since, sink)

    async def list_revisions(self) -> tuple[Settings, dict[str, tuple[int, ...]]]:
        """Return the settings and, for each open session, figures that change with its status."""
        await self.catch_up()
        return await self._ledger.revisions()

    def _engine_text(self, engine: Engine | None) -> str | None:
        if engine is None:
            return None
        if self._spelled_engine is None or self._spelled_engine[0] is not engine:
            self._spelled_engine = (engine, engine_text(engine))
        return self._spelled_engine[1]

    def _session_name(self, session: str | None) -> str:
        return self._default_session if session is None else names.check_session_name(session)


def _member(kind: type[Member], field: str, text: str) -> Member:
    try:
        return kind(text)
    except ValueError:
        takes = " or ".join(", ".join(kind).rsplit(", ", 1))
        raise InvalidInputError(Problem(field, text, takes)) from None


def _tokens(field: str, count: int | None) -> int | None:
    if count is None or 0 <= count <= MAXIMUM_TOKENS:
        return count
    raise InvalidInputError(Problem(field, count, f"a whole number from 0 to {MAXIMUM_TOKENS}"))


def _changed_policies(
    past: History, changes: Mapping[str, SettingChangeValue]
) -> Callable[[int], Settings]:
    """Return the settings of each decision's time with changes.

    Where these do not fit together with the others of that time, those in force now are changed.
    """

    @cache
    def changed(policy_id: int) -> Settings:
        try:
            return settings_rules.apply(past.policies[policy_id], changes)
        except InvalidInputError:
            return settings_rules.apply(past.current, changes)

    return changed


def _seconds(seconds: float | None) -> float | None:
    if seconds is None or 0 <= seconds <= MOST_SECONDS:
        return seconds
    raise InvalidInputError(Problem("seconds", seconds, f"a number from 0 to {MOST_SECONDS}"))


def _budget_tokens(standing: Standing) -> int:
    return policy.budget_tokens(standing.session.claude, standing.settings.weights)


def _engine_status(engine: Engine, settings: Settings) -> EngineStatus:
    missing = [
        model
        for model in policy.named_models(settings)
        if policy.can_run(model, engine, settings)[0] is False
    ]
    is_up = engine.state is EngineState.UP
    return EngineStatus(engine.state, tuple(missing) if is_up and missing else None)


def _model_line(
    model: str, task_types: tuple[str, ...], engine: Engine, settings: Settings
) -> ModelLine:
    installed = engine.models.get(names.canonical_model(model))
    _, remedy = policy.can_run(model, engine, settings)
    if installed is None:
        is_known = engine.state is EngineState.UP
        return ModelLine(model, task_types, False if is_known else None, remedy=remedy)
    return ModelLine(
        model,
        task_types,
        installed=True,
        loaded=installed.is_loaded,
        parameter_size=installed.parameter_size or None,
        size_bytes=installed.size_bytes or None,
        context_length=installed.context_length,
        remedy=remedy,
    )


def _summary(record: SessionRecord, settings: Settings) -> SessionSummary:
    session = record.session
    assert session.session_id is not None
    assert session.started_at is not None
    return SessionSummary(
        session_id=session.session_id,
        session=session.name,
        started_at=session.started_at,
        session_tokens=policy.budget_tokens(session.claude, settings.weights),
        kept_local_tokens=session.local.total,
        decisions=record.decisions,
        usage_records=session.usage_records,
        ended_at=record.ended_at,
        end_reason=record.end_reason,
    )


def _config(done: SettingsChanged) -> ConfigAnswer:
    return ConfigAnswer(
        changes=settings_rules.differences(done.before, done.after),
        settings=settings_rules.notable_values(done.after),
    )


def _status(
    standing: Standing,
    decisions: dict[Reason, int],
    now: datetime,
    unread_lines: int,
    unread_files: int,
) -> StatusAnswer:
    settings, session = standing.settings, standing.session
    tokens = _budget_tokens(standing)
    reported = policy.budget_tokens(session.claude - session.measured, settings.weights)
    side_requests = policy.budget_tokens(standing.side_requests, settings.weights)
    level = policy.warning_level(tokens, settings)
    plan_used_percent = policy.plan_used_percent(standing.plan, settings)
    plan_level = policy.plan_level(plan_used_percent, settings)
    recommended_model, message = policy.recommend(level, settings, plan_level)
    per_minute = None
    if session.started_at is not None:
        per_minute = pace.tokens_per_minute(session.pace, session.started_at, now)
    warning, auto_switch = settings.token_warning_threshold, settings.token_auto_switch_threshold
    return StatusAnswer(
        session=session.name,
        session_id=session.session_id,
        started_at=session.started_at,
        session_tokens=tokens,
        session_limit=settings.session_limit,
        percent_used=round(100 * tokens / settings.session_limit, 1),
        warning_level=level,
        token_warning_threshold=warning,
        token_auto_switch_threshold=auto_switch,
        recommended_model=recommended_model,
        message=message,
        kept_local_tokens=session.local.total,
        measured_tokens=tokens - reported,
        reported_tokens=reported,
        claude_tokens=session.claude,
        ollama_tokens=session.local,
        decisions=decisions,
        tokens_per_minute=None if per_minute is None else round(per_minute),
        minutes_to_warning=(
            None if per_minute is None else pace.minutes_until(warning, tokens, per_minute)
        ),
        minutes_to_auto_switch=(
            None if per_minute is None else pace.minutes_until(auto_switch, tokens, per_minute)
        ),
        side_request_tokens=side_requests or None,
        plan=standing.plan or None,
        folder=session.folder,
        unread_lines=unread_lines or None,
        unread_files=unread_files or None,
    )
