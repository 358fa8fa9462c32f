"""Answers as text for a terminal. Pure, and quick to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.domain import ChangedBy, EngineState, Provider, Reason
from immunos_mcp.rules.formatting import minute, second

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from immunos_mcp.answers.budgets import Block
    from immunos_mcp.answers.delegation import TaskLine
    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.answers.models import EngineLine, ModelsAnswer
    from immunos_mcp.answers.replay import ReplayAnswer
    from immunos_mcp.answers.routing import ExplainAnswer
    from immunos_mcp.answers.sessions import BindAnswer, SessionSummary
    from immunos_mcp.answers.status import BudgetStatus, StatusAnswer
    from immunos_mcp.domain import Decision, PlanUsage, Task
    from immunos_mcp.rules.settings import Settings

BAR_CELLS = 20
NEWEST_CROSSINGS = 20


def status(answer: StatusAnswer) -> str:
    """Format a session's status."""
    since = "not started" if answer.started_at is None else f"since {minute(answer.started_at)} UTC"
    claude = answer.claude_tokens
    thresholds = (
        f"warning {answer.token_warning_threshold:,}{_in_minutes(answer.minutes_to_warning)}, "
        f"auto-switch {answer.token_auto_switch_threshold:,}"
        f"{_in_minutes(answer.minutes_to_auto_switch)}"
    )
    if answer.tokens_per_minute is not None:
        thresholds += f" at {answer.tokens_per_minute:,} tokens/min"
    decisions = ", ".join(f"{reason} {count}" for reason, count in answer.decisions.items())
    rows = [
        ("Claude", (
            f"input {claude.input_tokens:,}, output {claude.output_tokens:,}, "
            f"cache creation {claude.cache_creation_input_tokens:,}, "
            f"cache reads {claude.cache_read_input_tokens:,}"
        )),
        ("Sources", _sources(answer)),
        *([("Others", _others(answer.other_assistants))] if answer.other_assistants else []),
        ("Kept local", f"{answer.kept_local_tokens:,} tokens"),
        ("Thresholds", thresholds),
        ("Decisions", decisions or "none"),
        ("Recommended", f"{answer.recommended_model}. {answer.message}"),
        *([("Team", "its server is away; these are your own figures")] if answer.offline else []),
    ]  # fmt: skip
    if answer.ollama is not None:
        missing = ", ".join(answer.ollama.missing or ())
        if answer.ollama.state is not None:
            lacking = f", missing {missing}" if missing else ""
            rows.append(("Ollama", answer.ollama.state + lacking))
        rows += [
            (name, state.replace("_", " ")) for name, state in (answer.ollama.others or {}).items()
        ]
    rows += _budget_rows(answer.budgets) if answer.budgets else ()
    if answer.plan:
        rows.append(("Plan limits", ", ".join(_plan(usage) for usage in answer.plan)))
    if answer.gates is not None:
        rows.append(("Gates", answer.gates))
    if answer.folder is not None:
        rows.append(("Project", answer.folder))
    if answer.project_settings is not None:
        rows.append(("Set here", answer.project_settings))
    if answer.not_counting is not None:
        what = "Not counting" if answer.session_id is None else "Not current"
        rows.append((what, answer.not_counting))
    if answer.unread_lines or answer.unread_files:
        unread = f"{answer.unread_lines or 0} lines, {answer.unread_files or 0} files"
        rows.append(("Unreadable", f"{unread} of assistants' logs"))
    return "\n".join(
        [
            f"Session {answer.session} ({since})",
            _budget(answer),
            *(f"{name:<12} {text}" for name, text in rows),
        ]
    )


def _budget_rows(found: Sequence[BudgetStatus]) -> list[tuple[str, str]]:
    from immunos_mcp.rules.budget_check import budget_line  # most people have no budgets

    return [("Budget", budget_line(each)) for each in found]


def _budget(answer: StatusAnswer) -> str:
    if answer.uncounted_tokens is not None:
        return f"not counting yet; {answer.uncounted_tokens:,} tokens measured today"
    used = min(1.0, answer.session_tokens / answer.session_limit)
    percent = f"{answer.percent_used:,}".removesuffix(".0")
    cells = int(used * BAR_CELLS)
    bar = "#" * cells + "-" * (BAR_CELLS - cells)
    return (
        f"[{bar}] {percent}%  {answer.session_tokens:,} of "
        f"{answer.session_limit:,} budget tokens  {answer.warning_level}"
    )


def _sources(answer: StatusAnswer) -> str:
    if answer.measured_tokens is None:
        return f"none counted yet, {answer.reported_tokens:,} reported"
    measured = f"{answer.measured_tokens:,} measured"
    if answer.side_request_tokens is not None:
        measured += f" ({answer.side_request_tokens:,} by telemetry alone)"
    return f"{measured}, {answer.reported_tokens:,} reported"


def _others(tokens: Mapping[str, int]) -> str:
    return ", ".join(f"{assistant} {count:,}" for assistant, count in tokens.items()) + " measured"


def _plan(usage: PlanUsage) -> str:
    window = usage.window.replace("_", "-")
    return f"{window} {usage.used_percentage:g}% used (resets {minute(usage.resets_at)} UTC)"


def budgets(found: Sequence[BudgetStatus]) -> str:
    """List budgets with how far they are used."""
    if not found:
        return "No budget is set beside the session's own; add one with `immunos-mcp budget add`"
    return table(
        ("budget", "limit", "used", "of it", "level", "ends", "at this rate"),
        (
            (
                each.name,
                each.budget,
                "unknown"
                if each.used is None
                else f"{'>' if each.at_least else ''}{each.used:,.10g}",
                "-" if each.percent_used is None else f"{each.percent_used:g}%",
                each.warning_level,
                "-" if each.ends_at is None else f"{each.ends_at.astimezone():%a %d %b %H:%M}",
                "-" if each.gone_at is None else f"gone {each.gone_at.astimezone():%a %d %b %H:%M}",
            )
            for each in found
        ),
    )


def blocks(found: Sequence[Block]) -> str:
    """List the plan's five-hour blocks."""
    if not found:
        return "Claude Code has logged no usage in these days"
    return table(
        ("block", "input", "output", "cache creation", "cache reads", "budget tokens", "usd", ""),
        (
            (
                f"{each.starts_at.astimezone():%a %d %b %H:%M} - {each.ends_at.astimezone():%H:%M}",
                f"{each.tokens.input_tokens:,}",
                f"{each.tokens.output_tokens:,}",
                f"{each.tokens.cache_creation_input_tokens:,}",
                f"{each.tokens.cache_read_input_tokens:,}",
                f"{each.budget_tokens:,}",
                f"{'>' if each.at_least else ''}{each.usd:,.2f}",
                ""
                if each.projected_budget_tokens is None
                else f"current, {each.projected_budget_tokens:,} at its end at this rate",
            )
            for each in found
        ),
    )


def bindings(bound: Sequence[BindAnswer]) -> str:
    """List which sessions count one project only."""
    if not bound:
        return "No session is bound to a project folder; all count every project"
    return table(("session", "project folder"), [(each.session, each.folder) for each in bound])


def removed_bindings(removed: Sequence[BindAnswer]) -> str:
    """Return which sessions will count all projects again."""
    if not removed:
        return "No session was bound to a project folder"
    return "\n".join(
        f"Session {each.session} will count all projects from its next start" for each in removed
    )


MADE_BY_TEAM = "the team's server made it"
"""Stands for the command that explains a decision."""


def routed(logged: LoggedDecision, settings: Settings, *, is_by_team: bool = False) -> str:
    """Explain who does a task and why, and below it how much of the budget is used."""
    decision = logged.decision
    by_claude = decision.provider is Provider.CLAUDE
    who = f"Claude ({decision.model})" if by_claude else f"{decision.model} (local)"
    sentences = [
        f"{who} does this task: {_reason(decision, logged.task, settings)}.",
        *_remarks(logged),
    ]
    explained = f"explain it with `immunos-mcp explain {logged.decision_id}`"
    if is_by_team:
        explained = MADE_BY_TEAM
    budget = (
        f"Budget: {decision.session_tokens:,} of {settings.session_limit:,} tokens "
        f"({decision.warning_level}){_projection(decision)}. Decision {logged.decision_id}; "
        f"{explained}."
    )
    return f"{' '.join(sentences)}\n{budget}"


def _reason(decision: Decision, task: Task, settings: Settings) -> str:
    match decision.reason:
        case Reason.TASK_CRITICAL:
            return "critical tasks stay with Claude"
        case Reason.TASK_RESERVED:
            return f"{task.classification} tasks stay with Claude (claude_classifications)"
        case Reason.TASK_OPTIMIZED:
            return f"{_both_words(task)} is mapped to {_mapped(decision)}"
        case Reason.DEFAULT_COMPLEX:
            return f"{_both_words(task)} is not mapped to a local model"
        case Reason.TOKEN_BUDGET_EXCEEDED | Reason.TOKEN_BUDGET_WARNING:
            return _budget_reason(decision, settings)
        case _:
            return _limit_reason(decision, settings)


def _both_words(task: Task | ExplainAnswer) -> str:
    given = task.given_task_type
    return task.task_type if given is None else f"{task.task_type} ({given})"


def _budget_reason(decision: Decision, settings: Settings) -> str:
    tokens = f"{decision.session_tokens:,}"
    if decision.reason is Reason.TOKEN_BUDGET_EXCEEDED:
        threshold = settings.token_auto_switch_threshold
        return (
            f"the budget has reached the auto-switch threshold ({tokens} of {threshold:,} tokens)"
        )
    threshold = settings.token_warning_threshold
    return (
        f"the budget has reached the warning threshold ({tokens} of {threshold:,} tokens), "
        "and from there routine tasks stay local"
    )


def _limit_reason(decision: Decision, settings: Settings) -> str:
    from immunos_mcp.answers.routing import SPEND_REASONS

    if decision.reason is Reason.HANDOVER_FORBIDDEN:
        return "tasks are never handed over here (handover)"
    if decision.reason in SPEND_REASONS:
        return _spend_reason(decision)
    used = f"{decision.plan_used_percent or 0:g}% of your plan's limit is used"
    if decision.reason is Reason.PLAN_LIMIT_EXCEEDED:
        return f"{used}, and from {settings.plan_auto_switch_percent}% all tasks stay local"
    return f"{used}, and from {settings.plan_warning_percent}% routine tasks stay local"


def _spend_reason(decision: Decision) -> str:
    used = f"{decision.budget_used_percent or 0:g}% of the budget {decision.budget} is used"
    which = "all" if decision.reason is Reason.SPEND_LIMIT_EXCEEDED else "routine"
    return f"{used}, and from its threshold {which} tasks stay local"


def _mapped(decision: Decision) -> str:
    from immunos_mcp.rules.obstacles import obstacle

    if decision.table_model is None:
        return "it"
    if decision.changed_by is ChangedBy.AVAILABILITY and decision.remedy is not None:
        return f"{decision.table_model}, {obstacle(decision.remedy).clause}"
    if decision.trial:
        return f"{decision.table_model}, but another model is being tried"
    return f"{decision.table_model}, which has failed too often at it"


def _remarks(logged: LoggedDecision) -> Iterable[str]:
    from immunos_mcp.rules.obstacles import obstacle

    decision, outcome = logged.decision, f"immunos-mcp outcome {logged.decision_id}"
    if decision.remedy is not None:
        found = obstacle(decision.remedy)
        if decision.available is False:
            yield f"{found.sentence}."
        is_enough = found.is_fixed and decision.changed_by is not None
        then = " and tasks like this go to the local model" if is_enough else ""
        yield f"{found.advice} `{decision.remedy}`{then}."
    if decision.trial:
        yield f"This is a trial: record its outcome with `{outcome} success` or `{outcome} failure`."
    if decision.advised_model is not None:
        yield f"The track record suggests {decision.advised_model} instead."


def _projection(decision: Decision) -> str:
    if decision.projected_tokens is None:
        return ""
    level = decision.projected_level
    changed = "" if level is None or level is decision.warning_level else f" ({level})"
    return f", {decision.projected_tokens:,} after this task{changed}"


def explanation(answer: ExplainAnswer) -> str:
    """Format the explanation of a decision, a line for each row, step and alternative."""
    found = answer.explanation
    lines = [
        (
            f"Decision {answer.decision_id} ({answer.session}, {second(answer.decided_at)} UTC): "
            f"{answer.classification} {_both_words(answer)} -> {answer.model} ({answer.reason})"
        ),
        *(f"{'yes' if row.applies else 'no':<4} {row.reason:<22} {row.why}" for row in found.rows),
        *(f"then {step}" for step in found.steps),
        *([] if answer.project_settings is None else [f"set here {answer.project_settings}"]),
        *(f"if {each.when}: {each.model} ({each.reason})" for each in found.alternatives),
    ]
    return "\n".join(lines)


def replayed(answer: ReplayAnswer) -> str:
    """Format what other settings would have changed."""
    lines = [
        (
            f"{answer.decisions:,} decisions, {answer.changed:,} would change: "
            f"{answer.moved_to_ollama:,} from Claude to Ollama, "
            f"{answer.moved_to_claude:,} from Ollama to Claude"
        ),
        (
            f"Claude would have saved {answer.kept_tokens:,} budget tokens "
            f"and spent {answer.spent_tokens:,} more"
        ),
    ]
    if answer.models:
        rows = (
            (model, f"{share.before:,}", f"{share.after:,}")
            for model, share in answer.models.items()
        )
        lines += ["", table(("model", "decisions", "with changes"), rows)]
    if answer.crossings:
        newest = answer.crossings[-NEWEST_CROSSINGS:]
        rows = (
            (
                f"{each.session_id} {each.session}",
                each.level,
                "never" if each.before is None else second(each.before),
                "never" if each.after is None else second(each.after),
            )
            for each in newest
        )
        lines += ["", table(("session", "level", "reached (UTC)", "with changes"), rows)]
        if len(newest) < len(answer.crossings):
            lines.append(f"and {len(answer.crossings) - len(newest):,} earlier (--json lists all)")
    if answer.differing:
        rows = (
            (
                str(each.decision_id),
                each.task_type,
                each.classification,
                each.before,
                each.after,
                each.reason,
            )
            for each in answer.differing
        )
        lines += ["", table(("id", "task", "class", "before", "after", "reason"), rows)]
        left = answer.changed - len(answer.differing)
        if left:
            lines.append(f"and {left:,} more (raise --limit to list them)")
    return "\n".join(lines)


def models(answer: ModelsAnswer) -> str:
    """Format the local models as a table, below a line about the engine."""
    from immunos_mcp.answers.models import EngineLine

    heads = [*map(_engine, answer.engines or ())]
    is_used = any(line.engine is None for line in answer.models)
    if is_used or not heads or answer.state is not EngineState.DOWN:
        own = (answer.state, answer.address, answer.version, answer.words, answer.notice)
        heads.insert(0, _engine(EngineLine("Ollama", *own)))
    return (
        "\n".join(heads)
        + "\n"
        + table(
            ("model", "status", "size", "context", "task types", "fix"),
            (
                (
                    line.model if line.engine is None else f"{line.model} ({line.engine})",
                    {None: "?", False: "missing", True: "loaded" if line.loaded else "installed"}[
                        line.installed
                    ],
                    line.parameter_size or "-",
                    "-" if line.context_length is None else f"{line.context_length:,}",
                    ", ".join(line.task_types) or "-",
                    line.remedy or "",
                )
                for line in answer.models
            ),
        )
    )


def _engine(line: EngineLine) -> str:
    told = f"{line.engine} {line.version or ''} at {line.address}: {line.state.replace('_', ' ')}"
    words = "" if line.words is None else f" ({line.words})"
    notice = "" if line.notice is None else f"\n{line.notice}"
    return told.replace("  ", " ") + words + notice


def tasks(lines: Sequence[TaskLine]) -> str:
    """Format delegated tasks as a table."""
    if not lines:
        return "No task was delegated yet."
    return table(
        ("task", "model", "state", "tokens", "begun (UTC)", "last seen (UTC)"),
        (
            (
                line.handle,
                line.model,
                line.state,
                f"{line.tokens:,}",
                second(line.begun_at),
                second(line.seen_at),
            )
            for line in lines
        ),
    )


def decisions(logged: Sequence[LoggedDecision]) -> str:
    """Format decisions as a table."""
    return table(
        ("id", "time (UTC)", "session", "task", "class", "model", "reason", "tokens", "outcome"),
        (
            (
                str(entry.decision_id),
                second(entry.decided_at),
                entry.session,
                _both_words(entry.task),
                entry.task.classification,
                entry.decision.model,
                entry.decision.reason,
                f"{entry.decision.session_tokens:,}",
                entry.outcome or "-",
            )
            for entry in logged
        ),
    )


def sessions(summaries: Sequence[SessionSummary]) -> str:
    """Format sessions as a table."""
    return table(
        (
            "id",
            "session",
            "start (UTC)",
            "end (UTC)",
            "tokens",
            "kept local",
            "decisions",
            "reason",
        ),
        (
            (
                str(summary.session_id),
                summary.session,
                second(summary.started_at),
                "open" if summary.ended_at is None else second(summary.ended_at),
                f"{summary.session_tokens:,}",
                f"{summary.kept_local_tokens:,}",
                f"{summary.decisions:,}",
                summary.end_reason or "-",
            )
            for summary in summaries
        ),
    )


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Format rows under a header, in columns."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _in_minutes(minutes: int | None) -> str:
    return "" if minutes is None else f" (in {minutes:,} min)"
