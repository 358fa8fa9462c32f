"""The use cases that read the ledger's history; only the command line has them.

Each imports what it needs itself, since a command runs one of them in a process of its own.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.domain import CLAUDE_CODE, Session, TokenCounts
from immunos_mcp.errors import InvalidInputError, LedgerError, Problem
from immunos_mcp.ledger.dialect import change_mark
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.sessions import newest_sessions
from immunos_mcp.rules import inputs, names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from immunos_mcp.answers.budgets import Block
    from immunos_mcp.answers.history import LoggedDecision, SettingChange
    from immunos_mcp.answers.pruning import Pruned
    from immunos_mcp.answers.replay import ReplayAnswer
    from immunos_mcp.answers.report import ReportAnswer
    from immunos_mcp.answers.routing import ExplainAnswer
    from immunos_mcp.answers.sessions import SessionSummary
    from immunos_mcp.answers.status import BudgetStatus
    from immunos_mcp.answers.usage import SyncAnswer
    from immunos_mcp.answers.watch import UsageToday
    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.export import ExportedRows
    from immunos_mcp.reports.prices import Prices
    from immunos_mcp.rules.roles import Person
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings


class Archive:
    """The history of one ledger, with all its sessions.

    Every method raises ``InvalidInputError`` for invalid arguments, naming each, and the ledger's errors.
    Only ``prune`` and ``sync`` change anything, and neither changes a total.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], datetime] = utc_now,
        follower: Follower | None = None,
        reader: Person | None = None,
    ) -> None:
        """Create the use cases of a ledger's history.

        Args:
            ledger: where everything is stored.
            clock: the time, aware.
            follower: reads the usage that assistants log; ``None``: nobody does.
            reader: who reads reports; ``None``: whoever may open the ledger.
        """
        self._ledger = ledger
        self._clock = clock
        self._follower = follower
        self._reader = reader

    def as_read_by(self, person: Person | None) -> Archive:
        """Return the same history as a person may see it; ``None``: all of it."""
        from immunos_mcp.rules.roles import sees_everybody

        if person is None or sees_everybody(person):
            return self
        from immunos_mcp.ledger.connections.of_person import LedgerOfPerson

        own = LedgerOfPerson(self._ledger, person.person_id)
        return Archive(own, self._clock, self._follower, person)

    async def list_decisions(self, limit: int, session: str | None) -> tuple[LoggedDecision, ...]:
        """Return the newest decisions, newest first; of every session when none is named."""
        from immunos_mcp.ledger.decisions import newest_decisions

        name = None if session is None else names.check_session_name(session)
        return await self._ledger.read(newest_decisions, name, limit)

    async def list_sessions(self, limit: int, session: str | None) -> tuple[SessionSummary, ...]:
        """Return the newest sessions, newest first; under every name when none is given."""
        name = None if session is None else names.check_session_name(session)
        newest = await self._ledger.read(newest_sessions, name, limit)
        from immunos_mcp.rules.status import session_summary

        return tuple(session_summary(record, newest.settings) for record in newest.sessions)

    async def list_setting_changes(self, limit: int) -> tuple[SettingChange, ...]:
        """Return the newest changes of settings, newest first."""
        from immunos_mcp.ledger.changed_settings import setting_changes

        return await self._ledger.read(setting_changes, limit)

    async def explain_decision(self, decision_id: int) -> ExplainAnswer:
        """Explain a logged decision from the inputs that it was made with.

        Raises:
            InvalidInputError: the decision does not exist, or its inputs were pruned.
        """
        from immunos_mcp.answers.routing import ExplainAnswer
        from immunos_mcp.ledger.decisions import logged_decision
        from immunos_mcp.ledger.history import replay
        from immunos_mcp.replay.engine import inputs_of
        from immunos_mcp.rules.explanation import explain
        from immunos_mcp.rules.own_settings import own_text

        logged = await self._ledger.read(logged_decision, inputs.checked_decision_id(decision_id))
        decision = logged.decision
        past = await self._ledger.read(replay, inputs_of, only=decision_id)
        if past is None:
            from immunos_mcp.ledger.team_decisions import is_of_left_team, team_decision_id

            theirs = await self._ledger.read(team_decision_id, decision_id)
            if theirs is not None:
                message = (
                    f"decision {decision_id} was made by the team's server, where it is number"
                    f" {theirs}; route with `explain`, or ask an admin to explain it there"
                )
                raise InvalidInputError(Problem("decision_id", decision_id, message=message))
            why = "its inputs have been pruned"
            if await self._ledger.read(is_of_left_team, decision_id):
                why = "the server of a team that this ledger has left made it"
            message = f"decision {decision_id} cannot be explained: {why}"
            raise InvalidInputError(Problem("decision_id", decision_id, message=message))
        return ExplainAnswer(
            decision_id=logged.decision_id,
            session=logged.session,
            decided_at=logged.decided_at,
            task_type=logged.task.task_type,
            classification=logged.task.classification,
            model=decision.model,
            reason=decision.reason,
            explanation=explain(past.settings, past.circumstances, past.task),
            given_task_type=logged.task.given_task_type,
            project_settings=own_text(past.settings, past.origins),
        )

    async def replay(
        self,
        changes: Mapping[str, SettingChangeValue],
        since: datetime | None = None,
        session: str | None = None,
        most: int = 20,
    ) -> ReplayAnswer:
        """Replay the logged tasks with other settings; nothing is changed.

        Args:
            changes: settings that differ from those of the time, as for ``update_config``.
            since: earlier decisions are left out.
            session: the session name; ``None``: all.
            most: how many differing decisions are listed.
        """
        from immunos_mcp.ledger.changed_settings import preview_settings
        from immunos_mcp.ledger.history import replay
        from immunos_mcp.replay.changed_settings import changed_settings
        from immunos_mcp.replay.summary import replay_summary
        from immunos_mcp.rules.setting_changes import apply

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

    async def blocks(self, days: int) -> tuple[Block, ...]:
        """Return the plan's five-hour blocks of the last days, oldest first.

        Raises:
            InvalidInputError: the days are not from 1 to ``inputs.MOST_DAYS``.
        """
        from immunos_mcp.ledger.spend import used_by_quarter
        from immunos_mcp.ledger.stored_settings import effective_settings
        from immunos_mcp.rules.blocks import blocks

        span = timedelta(days=inputs.days("days", days))
        await self._catch_up()
        now = self._clock()
        settings = await self._ledger.read(effective_settings)
        used = await self._ledger.read(
            used_by_quarter, now - span, now + timedelta(days=1), CLAUDE_CODE
        )
        portions = (
            (at, TokenCounts(*spent[:4]), spent.nanodollars, spent.unpriced > 0)
            for at, spent in used
        )
        return tuple(blocks(portions, settings, now))

    async def change_mark(self) -> tuple[int, ...]:
        """Return numbers that are others once anybody has changed the ledger."""
        return (self._ledger.replacements, *await self._ledger.read(change_mark))

    async def usage_today(self) -> UsageToday:
        """Return what hosted models used since midnight, of what was stored so far."""
        from immunos_mcp.ledger.spend import used_by_agent
        from immunos_mcp.ledger.stored_settings import effective_settings
        from immunos_mcp.rules.budget_windows import calendar_span, zone_named
        from immunos_mcp.rules.budgets import Window
        from immunos_mcp.rules.usage_today import Portion, usage_today

        now = self._clock()
        settings = await self._ledger.read(effective_settings)
        midnight = calendar_span(Window.DAY, now, zone_named(settings.time_zone)).start
        used = await self._ledger.read(used_by_agent, midnight, now + timedelta(days=1))
        portions = [
            Portion(
                each.place.assistant,
                each.place.folder,
                each.model,
                each.agent,
                TokenCounts(*each.spent[:4]),
                each.spent.nanodollars,
                each.spent.unpriced > 0,
            )
            for each in used
        ]
        return usage_today(midnight, portions, settings)

    async def report(self, since: datetime | None, prices: Prices) -> ReportAnswer:
        """Report tokens, decisions and models since a moment, or (``None``) of all time.

        Args:
            since: earlier usage and decisions are left out; records of models never are.
            prices: list prices, for what tokens cost and would have cost.
        """
        from immunos_mcp.ledger.report_figures import report_figures
        from immunos_mcp.reports import compose

        await self._catch_up()
        now = self._clock()
        figures = await self._ledger.read(report_figures, since, prices.long_inputs)
        report = compose.compose(figures, since, prices, now, self._reader)
        if not figures.settings.budgets:
            return report
        return replace(report, budgets=await self._budgets(figures.settings, now))

    async def _budgets(self, settings: Settings, now: datetime) -> tuple[BudgetStatus, ...]:
        """Return how far the budgets are used that are for no session."""
        from immunos_mcp.ledger.budget_uses import read_budget_uses
        from immunos_mcp.rules import budgets
        from immunos_mcp.rules.status import budget_status

        uses = await self._ledger.read(read_budget_uses, settings, Session(None, ""), now)
        return tuple(
            budget_status(state, now)
            for state in budgets.states(settings.budgets, uses)
            if state.budget.window is not budgets.Window.SESSION
        )

    async def usage_of_people(self, since: datetime | None, prices: Prices) -> str:
        """Return what hosted models used by day, person, assistant, project and model, as CSV with a header.

        Args:
            since: earlier usage is left out.
            prices: list prices.
        """
        from immunos_mcp.ledger.report_figures import daily_usage
        from immunos_mcp.reports.people import people_table

        await self._catch_up()
        used = await self._ledger.read(daily_usage, since, prices.long_inputs)
        return people_table(used, prices, self._reader)

    async def export(
        self,
        tables: Sequence[str],
        since: datetime | None,
        sink: Callable[[ExportedRows], None],
    ) -> None:
        """Pass every row of some tables to ``sink``, batch by batch, from one consistent snapshot.

        Args:
            tables: public names, each once; none: all tables.
            since: rows that belong to an earlier time are left out; ``None``: none are.
            sink: is called with an empty batch at the beginning of each table, then with its rows.

        Raises:
            InvalidInputError: a table does not exist or is named twice.
        """
        from immunos_mcp.ledger import export

        chosen = export.chosen_tables(tables)
        await self._catch_up()
        await self._ledger.read(export.export, chosen, since, sink)

    async def sync(
        self, since: datetime | None, progress: Callable[[int, int], None]
    ) -> SyncAnswer:
        """Import the history in all transcripts, back to ``since`` (``None``: all of it).

        Args:
            since: usage before this moment is left out.
            progress: called after each portion with the bytes read so far and the total.
        """
        from immunos_mcp.answers.usage import SyncAnswer

        if self._follower is None:
            return SyncAnswer(transcripts=0, added=0)
        return await self._follower.sync(self._clock(), since, progress)

    async def prune(self, keep_days: int, *, dry_run: bool = False) -> Pruned:
        """Compact records older than so many days (UTC) into totals, which stay exact.

        Raises:
            InvalidInputError: the days are not from 1 to ``inputs.MOST_DAYS``.
        """
        from immunos_mcp.ledger.pruning import preview_prune, prune

        days = timedelta(days=inputs.days("keep_days", keep_days))
        await self._catch_up()
        midnight = self._clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if dry_run:
            return await self._ledger.write(preview_prune, midnight - days)
        pruned = await self._ledger.write(prune, midnight - days)
        # If others are using the file, the next pruning frees the space.
        with suppress(LedgerError):
            await self._ledger.compact()
        return pruned

    async def _catch_up(self) -> None:
        if self._follower is not None:
            await self._follower.catch_up(self._clock(), None)
