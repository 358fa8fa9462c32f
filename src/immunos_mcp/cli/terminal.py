"""How answers look on a terminal. Pure; light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from immunos_mcp.rules.formatting import minute, second

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from immunos_mcp.answers.history import LoggedDecision, SettingChange
    from immunos_mcp.answers.models import ModelsAnswer
    from immunos_mcp.answers.replay import ReplayAnswer
    from immunos_mcp.answers.routing import ExplainAnswer
    from immunos_mcp.answers.sessions import SessionSummary
    from immunos_mcp.answers.status import StatusAnswer
    from immunos_mcp.domain import PlanUsage
    from immunos_mcp.rules.setting_kinds import SettingValue

BAR_CELLS = 20
NEWEST_CROSSINGS = 20


def status(answer: StatusAnswer) -> str:
    """Lay out a session's status over a few lines."""
    since = "not begun" if answer.started_at is None else f"since {minute(answer.started_at)} UTC"
    used = min(1.0, answer.session_tokens / answer.session_limit)
    percent = f"{answer.percent_used:,}".removesuffix(".0")
    cells = int(used * BAR_CELLS)
    bar = "#" * cells + "-" * (BAR_CELLS - cells)
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
        ("Made of", f"{_measured(answer)}, {answer.reported_tokens:,} reported"),
        ("Kept local", f"{answer.kept_local_tokens:,} tokens"),
        ("Thresholds", thresholds),
        ("Decisions", decisions or "none yet"),
        ("Recommended", f"{answer.recommended_model}. {answer.message}"),
    ]  # fmt: skip
    if answer.ollama is not None:
        missing = ", ".join(answer.ollama.missing or ())
        rows.append(("Ollama", answer.ollama.state + (f", lacks {missing}" if missing else "")))
    if answer.plan:
        rows.append(("Plan limits", ", ".join(_plan(usage) for usage in answer.plan)))
    if answer.folder is not None:
        rows.append(("Project", answer.folder))
    if answer.unread_lines or answer.unread_files:
        unread = f"{answer.unread_lines or 0} lines, {answer.unread_files or 0} files"
        rows.append(("Not readable", f"{unread} of Claude Code's transcripts"))
    return "\n".join(
        [
            f"Session {answer.session} ({since})",
            (
                f"[{bar}] {percent} %  {answer.session_tokens:,} of "
                f"{answer.session_limit:,} budget tokens  {answer.warning_level}"
            ),
            *(f"{name:<12} {text}" for name, text in rows),
        ]
    )


def _measured(answer: StatusAnswer) -> str:
    if answer.side_request_tokens is None:
        return f"{answer.measured_tokens:,} measured"
    return (
        f"{answer.measured_tokens:,} measured ({answer.side_request_tokens:,} by telemetry alone)"
    )


def _plan(usage: PlanUsage) -> str:
    window = usage.window.replace("_", "-")
    return f"{window} {usage.used_percentage:g} % used (until {minute(usage.resets_at)} UTC)"


def settings(values: Mapping[str, SettingValue]) -> str:
    """List settings, one a line; each mapping under its own name."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows.extend((f"{name}.{task_type}", model) for task_type, model in value.items())
        else:
            rows.append((name, f"{value:g}" if isinstance(value, float) else str(value)))
    return "\n".join(f"{name} = {text}" for name, text in rows)


def explanation(answer: ExplainAnswer) -> str:
    """Lay out how a decision came about, a line for each row, step and alternative."""
    told = answer.explanation
    lines = [
        (
            f"Decision {answer.decision_id} ({answer.session}, {second(answer.decided_at)} UTC): "
            f"{answer.classification} {answer.task_type} to {answer.model}, {answer.reason}"
        ),
        *(f"{'yes' if row.applies else 'no':<4} {row.reason:<22} {row.why}" for row in told.rows),
        *(f"then {step}" for step in told.steps),
        *(f"else, if {each.when}: {each.model} ({each.reason})" for each in told.alternatives),
    ]
    return "\n".join(lines)


def replayed(answer: ReplayAnswer) -> str:
    """Lay out what other settings would have made of the past."""
    lines = [
        (
            f"{answer.decisions:,} decisions, {answer.changed:,} would have named another model: "
            f"{answer.moved_to_ollama:,} from Claude to Ollama, "
            f"{answer.moved_to_claude:,} from Ollama to Claude"
        ),
        (
            f"Claude would have kept {answer.kept_tokens:,} budget tokens "
            f"and spent {answer.spent_tokens:,} more"
        ),
    ]
    if answer.models:
        rows = (
            (model, f"{share.before:,}", f"{share.after:,}")
            for model, share in answer.models.items()
        )
        lines += ["", _table(("model", "decisions", "would have been"), rows)]
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
        lines += ["", _table(("session", "level", "reached (UTC)", "would have been"), rows)]
        if len(newest) < len(answer.crossings):
            lines.append(f"and {len(answer.crossings) - len(newest):,} earlier; --json has all")
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
        lines += ["", _table(("id", "task", "class", "was", "would be", "reason"), rows)]
        left = answer.changed - len(answer.differing)
        if left:
            lines.append(f"and {left:,} more; --limit lists more")
    return "\n".join(lines)


def models(answer: ModelsAnswer) -> str:
    """Tabulate the local models below a line on the engine."""
    head = f"Ollama {answer.version or ''} at {answer.address}: {answer.state}".replace("  ", " ")
    if answer.words is not None:
        head += f" ({answer.words})"
    if answer.notice is not None:
        head += f"\n{answer.notice}"
    return f"{head}\n" + _table(
        ("model", "there", "size", "context", "for", "to do"),
        (
            (
                line.model,
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


def presets(known: Mapping[str, tuple[str, str, str]]) -> str:
    """Tabulate the presets of the task mappings."""
    rows = ((name, *models) for name, models in known.items())
    return _table(("preset", "code", "reasoning", "short tasks"), rows)


def setting_changes(changes: Sequence[SettingChange]) -> str:
    """Tabulate the history of the settings."""
    return _table(
        ("when (UTC)", "client", "setting", "from", "to"),
        (
            (
                second(change.changed_at),
                change.client,
                change.setting,
                change.before or _unset(change.setting),
                change.after or _unset(change.setting),
            )
            for change in changes
        ),
    )


def decisions(logged: Sequence[LoggedDecision]) -> str:
    """Tabulate decisions."""
    return _table(
        ("id", "when (UTC)", "session", "task", "class", "model", "reason", "at tokens", "outcome"),
        (
            (
                str(entry.decision_id),
                second(entry.decided_at),
                entry.session,
                entry.task.task_type,
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
    """Tabulate sessions."""
    return _table(
        ("id", "session", "from (UTC)", "to (UTC)", "tokens", "kept local", "decisions", "why"),
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


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _unset(setting: str) -> str:
    return "(none)" if "." in setting else "(default)"


def _in_minutes(minutes: int | None) -> str:
    return "" if minutes is None else f" (in {minutes:,} min)"
