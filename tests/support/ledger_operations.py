"""Every operation that the program runs on a ledger, each with arguments that it takes.

``filled`` makes the ledger that the arguments refer to.
"""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import immunos_mcp
from immunos_mcp.domain import (
    UNJOINED,
    Classification,
    Decision,
    DelegatedTask,
    Judge,
    Outcome,
    PlanUsage,
    Provider,
    Reason,
    Session,
    Task,
    TaskState,
    TokenCounts,
    Usage,
    WarningLevel,
)
from immunos_mcp.ledger import (
    budget_uses,
    changed_settings,
    decisions,
    delegated_tasks,
    examination,
    export,
    history,
    ingestion,
    joined_team,
    measured_usage,
    overrides,
    people,
    plan_limits,
    project_settings,
    pruning,
    pushed_usage,
    pushing,
    report_figures,
    reported_usage,
    session_snapshots,
    session_start,
    sessions,
    spend,
    stored_settings,
    team_decisions,
    unpushed,
)
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.dialect import change_mark
from immunos_mcp.logged_usage import MeasuredUsage, RequestUsage
from immunos_mcp.router import Router
from immunos_mcp.rules.roles import Role
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.dialect import Connection

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TASK = Task("debug", Classification.ROUTINE)
DECISION = Decision("m:1", Provider.OLLAMA, Reason.TASK_OPTIMIZED, WarningLevel.NORMAL, 0)
COUNTS = TokenCounts(1, 2, 3, 4)
EXPORTED = tuple(name for name in export.TABLES if name != "schema_version")


NOTED = unpushed.Change("response", "m0", 1)
BUDGETS = Settings(budgets="daily=20 usd/day; all=9 tokens/month")
CROSSING = ("daily", NOW, "warning")
TOLD = ("daily", NOW, "critical")
TEAM = joined_team.JoinedTeam("g", "https://budget.example.com", "red", "ada", NOW, NOW, True)


class Operation(NamedTuple):
    """An operation with its arguments.

    Attributes:
        run: runs it on a connection at a time; everything it returns can be compared.
        writes: whether the program runs it with ``write``.
    """

    run: Callable[[Connection, datetime], object]
    writes: bool = False

    async def on(self, ledger: Ledger, now: datetime = NOW) -> object:
        """Run it as the program does."""
        return await (ledger.write if self.writes else ledger.read)(self.run, now)


def _reading(run: Callable[[Connection, datetime], object]) -> Operation:
    return Operation(run)


def _writing(run: Callable[[Connection, datetime], object]) -> Operation:
    return Operation(run, writes=True)


def _noted(connection: Connection, now: datetime) -> None:
    task = DelegatedTask(1, "m:1", TaskState.RUNNING, "here 1", now, now, 5)
    delegated_tasks.note_task(connection, task)


def _exported(connection: Connection, _now: datetime) -> list[object]:
    batches: list[object] = []
    export.export(connection, export.chosen_tables(EXPORTED), None, batches.append)
    return [*map(repr, batches)]


def _answered(connection: Connection, now: datetime) -> object:
    made = team_decisions.TeamDecision("default", TASK, DECISION, 7, UNJOINED, "/apps")
    return team_decisions.store_team_answer(connection, now, (NOTED,), made)


def _note_as_unpushed(connection: Connection) -> None:
    connection.execute("INSERT INTO immunos_mcp_unpushed VALUES (?, ?, ?)", NOTED)


def _unset_for_project(connection: Connection, now: datetime) -> object:
    # What is not set cannot be taken back a second time.
    project_settings.change_project_settings(connection, "/apps", {"ladder": "off"}, "t", now)
    return project_settings.unset_project_settings(connection, "/apps", ("ladder",), "t", now)


OPERATIONS: dict[str, Operation] = {
    # First those that need the joined team; PostgreSQL has no triggers for a team to join.
    "joined_team": _reading(lambda it, _: joined_team.joined_team(it)),
    "unpushed": _reading(lambda it, _: unpushed.unpushed(it, 100)),
    "waiting_for_team": _reading(lambda it, _: joined_team.waiting_for_team(it)),
    "note_contact": _writing(lambda it, now: joined_team.note_contact(it, now, is_reached=False)),
    "store_team_answer": _writing(_answered),
    "team_decision_id": _reading(lambda it, _: team_decisions.team_decision_id(it, 1)),
    "is_of_left_team": _reading(lambda it, _: team_decisions.is_of_left_team(it, 1)),
    "leave_team": _writing(lambda it, _: joined_team.leave_team(it)),
    "history_page": _reading(lambda it, _: unpushed.history_page(it, unpushed.Place(), None, 100)),
    "newest_response": _reading(lambda it, _: unpushed.newest_response(it)),
    "usage_from": _reading(lambda it, now: joined_team.usage_from(it, "default", now)),
    "bind_session": _writing(lambda it, _: sessions.bind_session(it, "default", "/code")),
    # A number of the connection's own: another connection's says something else.
    "change_mark": _reading(lambda it, _: type(change_mark(it))),
    "change_project_settings": _writing(
        lambda it, now: project_settings.change_project_settings(
            it, "/apps", {"handover": "on"}, "t", now
        )
    ),
    "change_settings": _writing(
        lambda it, now: changed_settings.change_settings(it, {"session_limit": 300_000}, "t", now)
    ),
    "close_decision": _writing(
        lambda it, now: decisions.close_decision(it, 1, Outcome.SUCCESS, 2.5, now, Judge.USER)
    ),
    "daily_usage": _reading(lambda it, _: report_figures.daily_usage(it, None)),
    "decide": _writing(
        lambda it, now: decisions.decide(
            it, "default", now, TASK, lambda _snapshot, _task: DECISION
        )
    ),
    "decision_state": _reading(lambda it, _: decisions.decision_state(it, 1)),
    "end_overrides": _writing(overrides.end_overrides),
    "end_pushing": _writing(lambda it, _now: pushing.end_pushing(it, 1)),
    "audited": _writing(
        lambda it, now: people.audited(
            it, people.Deed(now, "x", "y"), people.add_person, "bob", Role.MEMBER, now
        )
    ),
    "list_people": _reading(lambda it, _now: people.list_people(it)),
    "list_tokens": _reading(lambda it, _now: people.list_tokens(it)),
    "token_holder": _reading(lambda it, now: people.token_holder(it, "a" * 64, now)),
    "person_named": _reading(lambda it, _now: people.person_named(it, "ada")),
    "list_deeds": _reading(lambda it, _now: people.list_deeds(it, 5)),
    "effective_settings": _reading(lambda it, _: stored_settings.effective_settings(it)),
    "export": _reading(_exported),
    "find_task": _reading(lambda it, _: delegated_tasks.find_task(it, 1)),
    "first_told": _writing(lambda it, now: budget_uses.first_told(it, *CROSSING, now)),
    "forget_future": _writing(measured_usage.forget_future),
    "forget_told": _writing(lambda it, _: budget_uses.forget_told(it, *TOLD)),
    "ingest": _writing(
        lambda it, now: ingestion.ingest(it, [MeasuredUsage("m1", now, "claude-x", 1)])
    ),
    "ingest_requests": _writing(
        lambda it, now: ingestion.ingest_requests(it, [RequestUsage("r1", now, "claude-x", COUNTS)])
    ),
    "look_into": _reading(lambda it, _: examination.look_into(it)),
    "list_bindings": _reading(lambda it, _: sessions.list_bindings(it)),
    "logged_decision": _reading(lambda it, _: decisions.logged_decision(it, 1)),
    "newest_decisions": _reading(lambda it, _: decisions.newest_decisions(it, None, 1000)),
    "newest_sessions": _reading(lambda it, _: sessions.newest_sessions(it, None, 10)),
    "newest_tasks": _reading(lambda it, _: delegated_tasks.newest_tasks(it, 10)),
    "note_task": _writing(_noted),
    "open_session": _writing(lambda it, now: session_start.open_session(it, "new", now)),
    "open_until": _reading(lambda it, now: session_start.open_until(it, "default", now)),
    "preview_project_settings": _reading(
        lambda it, _: project_settings.preview_project_settings(it, "/apps", {"handover": "on"})
    ),
    "preview_prune": _writing(lambda it, now: pruning.preview_prune(it, now + timedelta(days=1))),
    "preview_settings": _reading(
        lambda it, _: changed_settings.preview_settings(it, {"session_limit": 300_000})
    ),
    "prune": _writing(lambda it, now: pruning.prune(it, now + timedelta(days=1))),
    "read_budget_uses": _reading(
        lambda it, now: budget_uses.read_budget_uses(it, BUDGETS, Session(None, ""), now)
    ),
    "reading_state": _reading(measured_usage.reading_state),
    "plan_usage": _reading(plan_limits.plan_usage),
    "record_hook_texts": _writing(lambda it, now: overrides.record_hook_texts(it, 1, 20, now)),
    "record_outcome": _writing(
        lambda it, now: reported_usage.record_outcome(
            it, "default", now, 1, Outcome.SUCCESS, None, Judge.ASSISTANT, None
        )
    ),
    "record_plan_usage": _writing(
        lambda it, now: plan_limits.record_plan_usage(it, [PlanUsage("five_hour", 50.0, now)], now)
    ),
    "record_usage": _writing(
        lambda it, now: reported_usage.record_usage(
            it, "default", now, Usage("claude-x", COUNTS, "new"), "reported"
        )
    ),
    "remove_bindings": _writing(lambda it, _: sessions.remove_bindings(it, None)),
    "replay": _reading(lambda it, _: history.replay(it, lambda past: len([*past.decisions()]))),
    "report_figures": _reading(lambda it, _: report_figures.report_figures(it, None)),
    "reset_session": _writing(lambda it, now: sessions.reset_session(it, "default", now, None)),
    "session_revisions": _reading(lambda it, _: sessions.session_revisions(it)),
    "session_snapshot": _reading(
        lambda it, now: session_snapshots.session_snapshot(it, "default", now)
    ),
    "set_override": _writing(
        lambda it, now: overrides.set_override(
            it, overrides.OverrideKind.PAUSE, now + timedelta(hours=1), now
        )
    ),
    "settings_by_folder": _reading(lambda it, _: stored_settings.settings_by_folder(it)),
    "settings_for": _reading(lambda it, _: project_settings.settings_for(it, "default", "/apps/a")),
    "setting_changes": _reading(lambda it, _: changed_settings.setting_changes(it, 10)),
    "standing_snapshot": _reading(
        lambda it, now: session_snapshots.standing_snapshot(it, "default", now)
    ),
    "used_by_agent": _reading(
        lambda it, now: spend.used_by_agent(it, now - timedelta(days=9), now)
    ),
    "used_by_quarter": _reading(
        lambda it, now: spend.used_by_quarter(it, now - timedelta(days=9), now, "claude-code")
    ),
    "store_pushed": _writing(
        lambda it, now: pushed_usage.store_pushed(
            it,
            pushed_usage.Pushed(
                [MeasuredUsage("m1", now, "claude-x", 1)],
                [RequestUsage("r1", now, "claude-x", COUNTS)],
            ),
            1,
            ("claude-code",),
            now,
            "pushed",
        )
    ),
    "take_allowance": _writing(overrides.take_allowance),
    "unread_lines": _reading(lambda it, _: measured_usage.unread_lines(it)),
    "unset_project_settings": _writing(_unset_for_project),
    "unset_settings": _writing(
        lambda it, now: changed_settings.unset_settings(it, ("claude_model",), "t", now)
    ),
    "join_team": _writing(lambda it, _: joined_team.join_team(it, TEAM._replace(person="bob"))),
}

REPEATING = "write_repeatable"
"""The function that gets the ledger before the operation."""

WRITES = tuple(name for name, operation in OPERATIONS.items() if operation.writes)


def run_by_the_program() -> set[tuple[str, bool]]:
    """Return the operations that the source runs on a ledger, each with whether it writes."""
    found: set[tuple[str, bool]] = set()
    for file in Path(immunos_mcp.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        # Parsing takes long, and few modules have a ledger.
        tree = ast.parse(text if re.search(rf"ledger\.(read|write)\b|{REPEATING}", text) else "")
        found.update(
            (_last_name(_operation_of(node)), _last_name(node.func) != "read")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _is_of_ledger(node.func)
        )
    # A private one is of one kind of ledger alone, and tried with that; "operation" is whatever was given.
    return {
        (name, writes) for name, writes in found if not name.startswith("_") and name != "operation"
    }


def _operation_of(call: ast.Call) -> ast.expr:
    return call.args[_last_name(call.func) == REPEATING]


def _is_of_ledger(function: ast.expr) -> bool:
    if _last_name(function) not in {"read", "write", "write_soon", REPEATING}:
        return False
    # A method that was given a name of its own is called by that name.
    return isinstance(function, ast.Name) or (
        isinstance(function, ast.Attribute) and _last_name(function.value).endswith("ledger")
    )


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def filled(file: Path) -> Path:
    """Make a ledger with a session, a binding, settings, decisions and usage, all before ``NOW``."""
    with InlineSqliteLedger(file) as ledger:
        run_sync(fill(ledger))
    return file


async def fill(ledger: Ledger) -> None:
    """Store what ``filled`` stores."""
    hour = iter(NOW - timedelta(hours=left) for left in range(20, 0, -1))
    router = Router(ledger, "default", lambda: next(hour))
    await router.update_config({"claude_model": "claude-opus-4.6"}, "test")
    await router.bindings.add("/apps", "elsewhere")
    await router.project_settings.change("/apps", {"handover": "never"}, "test")
    await router.gates.allow_once()
    for number in range(3):
        await router.route_task("debug", "routine")
        await router.record_usage("claude-x", number, 1, request_id=f"request-{number}")
    await ledger.write(budget_uses.first_told, *TOLD, NOW)
    await ledger.write(people.add_person, "ada", Role.MEMBER, NOW)
    await ledger.write(people.add_token, "ada", "a" * 64, "laptop", None, NOW)
    await ledger.write(pushing.note_pushing, 1, ("codex",), NOW)
    await ledger.write(joined_team.join_team, TEAM)
    await ledger.write(_note_as_unpushed)
    # A clock that was ahead opened it.
    await Router(ledger, "ahead", lambda: NOW + timedelta(hours=9)).open_session()
