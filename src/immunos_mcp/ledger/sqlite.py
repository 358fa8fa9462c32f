"""The ledger's operations on a SQLite file, each one transaction.

Operations of several processes wait for each other in SQLite. How an operation gets to the file is
the subclass's: ``threaded.py`` for a server, ``inline.py`` for a command.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

from immunos_mcp.ledger import (
    decisions,
    measured_usage,
    plan_limits,
    reported_usage,
    sessions,
    standings,
    stored_settings,
)
from immunos_mcp.ledger.connection import transaction, translated
from immunos_mcp.ledger.records import ReadRecords

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from immunos_mcp.answers.report import ReportFigures
    from immunos_mcp.domain import (
        Decision,
        LoggedDecision,
        MeasuredUsage,
        Outcome,
        PlanUsage,
        Provider,
        Reason,
        RequestUsage,
        SessionRecord,
        SettingChange,
        Settings,
        Task,
        TranscriptPosition,
        Usage,
    )
    from immunos_mcp.ledger.export import ExportedRows
    from immunos_mcp.ledger.measured_usage import ReadingState
    from immunos_mcp.ledger.pruning import Pruned
    from immunos_mcp.ledger.reported_usage import Recorded
    from immunos_mcp.ledger.sessions import Reset
    from immunos_mcp.ledger.standings import Standing
    from immunos_mcp.ledger.stored_settings import SettingsChanged
    from immunos_mcp.replay.history import History
    from immunos_mcp.rules.settings import SettingChangeValue

Result = TypeVar("Result")

BUSY_TIMEOUT_SECONDS = 30.0
"""How long an operation waits for other programs that are writing to the ledger."""


class SqliteLedger(ABC):
    """A ledger in one SQLite file, opened at the first operation.

    Every operation raises ``LedgerError`` when the file cannot be used, and
    ``InvalidStoredSettingsError`` when it holds settings that cannot; a later call tries anew.
    Times are aware.
    """

    def __init__(self, path: Path, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> None:
        self.path = path
        self.busy_timeout_seconds = busy_timeout_seconds
        self._read_records = ReadRecords()

    @abstractmethod
    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` on the open connection, in turn with all other calls."""

    async def standing(self, name: str, now: datetime) -> tuple[Standing, dict[Reason, int]]:
        """Return a session as it is with its decisions by reason; opens and writes nothing."""
        return await self._read(lambda connection: standings.standing(connection, name, now))

    async def open_session(self, name: str, now: datetime) -> None:
        """Open a session under a name unless one is open."""
        await self._write(lambda connection: sessions.open_session(connection, name, now))

    async def decide(
        self,
        name: str,
        now: datetime,
        task: Task,
        rule: Callable[[Standing], Decision],
        engine: str | None = None,
    ) -> tuple[int, Decision]:
        """Let a pure rule decide a task on the session as it stands; log it and return its id.

        The engine is the one that the rule sees, as ``ledger.engine_text`` spells it.
        """
        return await self._write(
            lambda connection: decisions.decide(
                connection, name, now, task, rule, self._read_records, engine
            )
        )

    async def close_decision(
        self, decision_id: int, outcome: Outcome, seconds: float | None, now: datetime
    ) -> tuple[str, str]:
        """Keep what became of a decision; return its task type and model.

        Raises:
            InvalidInputError: the decision is unknown or closed otherwise. Nothing was changed.
        """

        def close(connection: sqlite3.Connection) -> tuple[str, str]:
            self._read_records.forget()
            return decisions.close_decision(connection, decision_id, outcome, seconds, now)

        return await self._write(close)

    async def record(
        self, name: str, now: datetime, usage: Usage, source: str, *, is_measured: bool = False
    ) -> Recorded:
        """Add a usage record to the session's totals and close the decision it belongs to.

        Claude's tokens are kept without being counted where the client's usage ``is_measured``.

        Raises:
            InvalidInputError: the decision is unknown or closed otherwise, or the request id
                stands for other usage. Nothing was changed.
        """

        def record(connection: sqlite3.Connection) -> Recorded:
            if usage.outcome is not None:
                self._read_records.forget()
            return reported_usage.record_usage(
                connection, name, now, usage, source, is_measured=is_measured
            )

        return await self._write(record)

    async def reading_state(self, now: datetime) -> ReadingState:
        """Return what has to be read of transcripts, and how far each was."""
        return await self._read(lambda connection: measured_usage.reading_state(connection, now))

    async def ingest(
        self, measured: Sequence[MeasuredUsage], positions: Sequence[TranscriptPosition] = ()
    ) -> int:
        """Take over measured usage and how far its transcripts were read; return what was new."""
        return await self._write(
            lambda connection: measured_usage.ingest(connection, measured, positions)
        )

    async def ingest_requests(self, requests: Sequence[RequestUsage]) -> int:
        """Take over usage that telemetry reported; return what was new of it."""
        return await self._write(
            lambda connection: measured_usage.ingest_requests(connection, requests)
        )

    async def record_plan_usage(self, plan: Sequence[PlanUsage], now: datetime) -> None:
        """Keep what the subscription's limits were last reported as."""
        await self._write(lambda connection: plan_limits.record_plan_usage(connection, plan, now))

    async def plan_usage(self, now: datetime) -> tuple[PlanUsage, ...]:
        """Return the subscription's limits as last reported, without windows that have ended."""
        return await self._read(lambda connection: plan_limits.plan_usage(connection, now))

    async def unread_lines(self) -> int:
        """Return how many lines of transcripts should carry usage and could not be read."""
        return await self._read(measured_usage.unread_lines)

    async def bind(self, name: str, folder: str | None) -> None:
        """Let a session name count one project folder alone from its next session on, or all."""
        await self._write(lambda connection: sessions.bind(connection, name, folder))

    async def reset(self, name: str, now: datetime, reason: str | None) -> Reset:
        """Close the open session of a name, if there is one, and open the next."""
        return await self._write(lambda connection: sessions.reset(connection, name, now, reason))

    async def settings(self) -> Settings:
        """Return the settings in force."""
        return await self._read(stored_settings.effective_settings)

    async def change_settings(
        self, changes: Mapping[str, SettingChangeValue], client: str, now: datetime
    ) -> SettingsChanged:
        """Apply all changes or none, and keep who changed what.

        Raises:
            InvalidInputError: it names every field that cannot be taken.
        """
        return await self._write(
            lambda connection: stored_settings.change_settings(connection, changes, client, now)
        )

    async def preview_settings(self, changes: Mapping[str, SettingChangeValue]) -> SettingsChanged:
        """Say what ``change_settings`` would do, without doing it; it raises the same."""
        return await self._read(
            lambda connection: stored_settings.preview_settings(connection, changes)
        )

    async def unset_settings(
        self, names: tuple[str, ...], client: str, now: datetime
    ) -> SettingsChanged:
        """Return some settings to their defaults, and keep who did.

        Raises:
            InvalidInputError: there is no such setting.
        """
        return await self._write(
            lambda connection: stored_settings.unset_settings(connection, names, client, now)
        )

    async def setting_changes(self, limit: int) -> tuple[SettingChange, ...]:
        """Return the newest changes of settings, newest first."""
        return await self._read(
            lambda connection: stored_settings.setting_changes(connection, limit)
        )

    async def decision(self, decision_id: int) -> tuple[str, Provider, Outcome | None] | None:
        """Return a decision's model, whose it is and what became of it; ``None``: there is none."""
        return await self._read(lambda connection: decisions.decision(connection, decision_id))

    async def logged_decision(self, decision_id: int) -> LoggedDecision:
        """Return a decision.

        Raises:
            InvalidInputError: there is none, or it was pruned.
        """

        def find(connection: sqlite3.Connection) -> LoggedDecision:
            found = decisions.newest_decisions(connection, None, 1, decision_id)
            if not found or found[0].decision_id != decision_id:
                raise decisions.unknown_decision(connection, decision_id)
            return found[0]

        return await self._read(find)

    async def decisions(self, name: str | None, limit: int) -> tuple[LoggedDecision, ...]:
        """Return the newest decisions of a session name, or of all, newest first."""
        return await self._read(
            lambda connection: decisions.newest_decisions(connection, name, limit)
        )

    async def replay(
        self,
        work: Callable[[History], Result],
        name: str | None = None,
        since: datetime | None = None,
        newest: int | None = None,
        alone: int | None = None,
    ) -> Result:
        """Let a pure function go through the past of a session name, or of all.

        Decisions before a moment, or beyond the newest so many, or all but one, are not replayed.
        """
        from immunos_mcp.ledger import history  # few commands need it

        return await self._read(
            lambda connection: work(history.history(connection, name, since, newest, alone))
        )

    async def prune(self, before: datetime, *, dry_run: bool) -> Pruned:
        """Replace rows older than a midnight by their sums, or only say how many there are."""
        from immunos_mcp.ledger import pruning  # one command needs it

        if not dry_run:
            return await self._write(lambda connection: pruning.prune(connection, before))

        def rehearse(connection: sqlite3.Connection) -> Pruned:
            connection.execute("SAVEPOINT rehearsal")
            pruned = pruning.prune(connection, before)
            connection.execute("ROLLBACK TO rehearsal")
            return pruned

        return await self._write(rehearse)

    async def compact(self) -> None:
        """Give the space of rows that are gone back to the disk."""

        def vacuum(connection: sqlite3.Connection) -> None:
            with translated(self.path):
                connection.execute("VACUUM")

        await self.run(vacuum)

    async def sessions(
        self, name: str | None, limit: int
    ) -> tuple[Settings, tuple[SessionRecord, ...]]:
        """Return the settings and the newest sessions of a name, or of all, newest first."""
        return await self._read(
            lambda connection: sessions.newest_sessions(connection, name, limit)
        )

    async def revisions(self) -> tuple[Settings, dict[str, tuple[int, ...]]]:
        """Return the settings and, for each open session, figures that change with its status."""
        return await self._read(sessions.revisions)

    async def report_figures(self, since: datetime | None) -> ReportFigures:
        """Return what a report counts, from a moment on or (``None``) of all there is."""
        from immunos_mcp.ledger import report_figures

        return await self._read(lambda connection: report_figures.report_figures(connection, since))

    async def export(
        self,
        tables: Sequence[str],
        since: datetime | None,
        sink: Callable[[ExportedRows], None],
    ) -> None:
        """Give every row of some tables to ``sink``, batch by batch, as they all are at one moment.

        It runs where the ledger's operations run, and they wait for it meanwhile; other processes
        do not. What it raises ends the export.
        """
        from immunos_mcp.ledger import export

        await self._read(lambda connection: export.export(connection, tables, since, sink))

    async def _read(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self.run(lambda connection: self._transact(connection, "BEGIN", operation))

    async def _write(self, operation: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self.run(
            lambda connection: self._transact(connection, "BEGIN IMMEDIATE", operation)
        )

    def _transact(
        self,
        connection: sqlite3.Connection,
        begin: str,
        operation: Callable[[sqlite3.Connection], Result],
    ) -> Result:
        with translated(self.path), transaction(connection, begin):
            return operation(connection)
