"""A frame of the live screen as lines of text. Loads rich.

The colours are those of the terminal's own palette that can be read on light and on dark; what they say is
in words or signs as well.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from immunos_mcp.domain import WarningLevel
from immunos_mcp.rules.formatting import brief_cost, compact, printable, usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.answers.status import BudgetStatus, StatusAnswer
    from immunos_mcp.answers.watch import UsageToday, UsedBy, WatchAnswer

_STYLES = {
    WarningLevel.NORMAL: "green",
    WarningLevel.WARNING: "bold magenta",
    WarningLevel.CRITICAL: "bold red",
}
_SIGNS = {WarningLevel.NORMAL: "  ", WarningLevel.WARNING: "! ", WarningLevel.CRITICAL: "!!"}
_LEVELS_OF_PLAN = ((90, WarningLevel.CRITICAL), (75, WarningLevel.WARNING))
_HEADING, _QUIET, _TROUBLE = "bold", "dim", "bold red"

_BAR_CELLS = 10
_NAME_CELLS = 10
_PARTS = " ▏▎▍▌▋▊▉█"
_LEAST_DECISIONS = 4
_WIDE_COLUMN = 24
_DAY_SECONDS = 86_400


class Painter:
    """Paints frames of any size.

    Args:
        has_colours: whether there are colours besides bold and dim.
    """

    def __init__(self, *, has_colours: bool) -> None:
        self._out = StringIO()
        self._console = Console(
            file=self._out, width=1000, force_terminal=True, color_system="standard",
            no_color=not has_colours, legacy_windows=False, highlight=False, markup=False, emoji=False,
        )  # fmt: skip

    def lines(
        self, seen: WatchAnswer | None, trouble: str | None, width: int, height: int
    ) -> list[str]:
        """Return a frame of so many lines, each as wide as the screen, with the terminal's styles."""
        painted = self._frame(seen, trouble, width, height)
        self._out.seek(0)
        self._out.truncate()
        self._console.print(Text("\n").join(painted), soft_wrap=True, end="")
        return self._out.getvalue().split("\n")

    def plain(
        self, seen: WatchAnswer | None, trouble: str | None, width: int, height: int
    ) -> list[str]:
        """Return the same without styles."""
        return [line.plain for line in self._frame(seen, trouble, width, height)]

    def _frame(
        self, seen: WatchAnswer | None, trouble: str | None, width: int, height: int
    ) -> list[Text]:
        lines = [Text("immunos-mcp watch")] if seen is None else _lines(seen, width, height - 1)
        lines = lines[: max(0, height - 1)]
        lines += [Text()] * (height - 1 - len(lines))
        lines.append(_last_line(seen, trouble))
        for line in (lines := [line.copy() for line in lines]):
            line.truncate(width, overflow="ellipsis", pad=True)
        return lines


def _last_line(seen: WatchAnswer | None, trouble: str | None) -> Text:
    problem = trouble or (None if seen is None else seen.status.not_counting)
    if problem is None:
        return Text("q quits", _QUIET)
    return Text.assemble(("q quits  ", _QUIET), (printable(problem), _TROUBLE))


def _lines(seen: WatchAnswer, width: int, height: int) -> list[Text]:
    status = seen.status
    lines = [_header(seen, width), _session(status, width)]
    budgets = [*(_budget(each, seen.watched_at, width) for each in status.budgets or ())]
    budgets += [*_plan_limits(status, width)]
    lines += _at_most(budgets, max(1, height // 3))
    lines += [_pace(status, seen.watched_at), _savings(seen), Text()]
    used_lines = max(1, min(5, height - len(lines) - 3 - _LEAST_DECISIONS))
    lines += [*_usage(seen.today, width, used_lines), Text()]
    lines.append(Text("Decisions" if seen.decisions else "No decisions yet", _HEADING))
    lines += [_decision(each, width) for each in seen.decisions[: max(0, height - len(lines))]]
    return lines


def _at_most(lines: list[Text], most: int) -> list[Text]:
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], Text(f"and {len(lines) - most + 1} more", _QUIET)]


def _header(seen: WatchAnswer, width: int) -> Text:
    left = f"immunos-mcp  session {printable(seen.status.session)}"
    right = f"{seen.watched_at.astimezone():%a %d %b %H:%M}"
    return Text(set_cell_size(left, max(0, width - len(right))) + right, _HEADING)


def _session(status: StatusAnswer, width: int) -> Text:
    used = f"{compact(status.session_tokens)} of {compact(status.session_limit)} tokens"
    if status.uncounted_tokens is not None:
        used = f"not counting yet; {status.uncounted_tokens:,} tokens today"
    return _bar_line("session", status.percent_used, status.warning_level, used, "", "", width)


def _budget(budget: BudgetStatus, now: datetime, width: int) -> Text:
    if budget.used is None:
        return _bar_line(budget.name, None, budget.warning_level, budget.budget, "", "", width)
    is_usd = " usd/" in budget.budget
    least = ">" if budget.at_least else ""
    used = f"{least}{usd(budget.used) if is_usd else compact(budget.used)} of {_limit(budget)}"
    return _bar_line(
        budget.name,
        budget.percent_used,
        budget.warning_level,
        used,
        _rate(budget, now, is_usd=is_usd),
        _forecast(budget),
        width,
    )


def _limit(budget: BudgetStatus) -> str:
    number, _, rest = budget.budget.partition(" ")
    return f"{compact(float(number))} {rest}"


def _rate(budget: BudgetStatus, now: datetime, *, is_usd: bool) -> str:
    """Return what was used in each hour, or in each day, of the window so far."""
    if budget.starts_at is None or not budget.used:
        return ""
    seconds = (now - budget.starts_at).total_seconds()
    unit, length = ("h", 3600) if seconds < _DAY_SECONDS else ("d", _DAY_SECONDS)
    if seconds < 60:
        return ""
    rate = budget.used * length / seconds
    return f"{usd(rate) if is_usd else compact(rate)}/{unit}"


def _forecast(budget: BudgetStatus) -> str:
    if budget.gone_at is not None:
        return f"gone {budget.gone_at.astimezone():%a %H:%M}"
    return "" if budget.ends_at is None else f"ends {budget.ends_at.astimezone():%a %H:%M}"


def _plan_limits(status: StatusAnswer, width: int) -> Iterator[Text]:
    for limit in status.plan or ():
        levels = (level for least, level in _LEVELS_OF_PLAN if limit.used_percentage >= least)
        resets = f"resets {limit.resets_at.astimezone():%a %H:%M}"
        yield _bar_line(
            limit.window.replace("five_hour", "plan 5h").replace("seven_day", "plan 7d"),
            limit.used_percentage,
            next(levels, WarningLevel.NORMAL),
            "of the plan",
            "",
            resets,
            width,
        )


def _bar_line(
    name: str, percent: float | None, level: WarningLevel, used: str, rate: str, when: str, width: int
) -> Text:  # fmt: skip
    known = 0.0 if percent is None else percent
    shown = "?" if percent is None else f"{percent:.4g}%"
    style = _STYLES[level]
    end = f" {rate:>8} {when:<16}"
    room = max(0, width - _NAME_CELLS - _BAR_CELLS - 10 - len(end))
    return Text.assemble(
        set_cell_size(printable(name), _NAME_CELLS - 1) + " ",
        (_bar(known), style),
        (f" {shown:>6}{_SIGNS[level]} ", style),
        set_cell_size(printable(used), room),
        (end, _QUIET),
    )


def _bar(percent: float) -> str:
    eighths = round(min(100.0, max(0.0, percent)) / 100 * _BAR_CELLS * 8)
    whole, part = divmod(eighths, 8)
    bar = _PARTS[8] * whole + (_PARTS[part] if part else "")
    return f"{bar:·<{_BAR_CELLS}}"


def _pace(status: StatusAnswer, now: datetime) -> Text:
    parts: list[str] = []
    if status.tokens_per_minute is not None:
        parts.append(f"{compact(status.tokens_per_minute)} tokens/min now")
    if status.started_at is not None and (now - status.started_at).total_seconds() >= 60:
        minutes = (now - status.started_at).total_seconds() / 60
        parts.append(f"{compact(status.session_tokens / minutes)} over the session")
    for name, left in (
        ("warning", status.minutes_to_warning),
        ("auto-switch", status.minutes_to_auto_switch),
    ):
        parts += [] if left is None else [f"{name} in {left:,} min"]
    return _labelled("pace", ", ".join(parts) or "not known yet")


def _savings(seen: WatchAnswer) -> Text:
    kept = f"{compact(seen.status.kept_local_tokens)} tokens"
    if seen.kept_local_usd is not None:
        kept += f", {usd(seen.kept_local_usd)} at Claude's list price"
    return _labelled("kept local", kept)


def _labelled(label: str, text: str) -> Text:
    return Text(f"{label:<{_NAME_CELLS}} {text}")


def _usage(today: UsageToday, width: int, rows: int) -> Iterator[Text]:
    total = f"{compact(today.total.budget_tokens)} tokens"
    what = "by assistant, project, model and agent"
    yield Text(f"Today {what}: {total}, {_cost(today.total)}", _HEADING)
    column = (width - 6) // 4
    groups = (today.assistants, today.projects, today.models, today.agents)
    for row in range(min(rows, max(map(len, groups)))):
        names = (str, _last_folder, _model, _agent)
        cells = (
            _used(group, named, row, rows, column)
            for group, named in zip(groups, names, strict=True)
        )
        yield Text("  ".join(cells))


def _used(
    group: Sequence[UsedBy], named: Callable[[str], str], row: int, rows: int, width: int
) -> str:
    if row >= len(group):
        return " " * width
    if row == rows - 1 and len(group) > rows:
        return set_cell_size(f"and {len(group) - row} more", width)
    line = group[row]
    tokens, cost = f" {compact(line.budget_tokens):>5}", f" {_cost(line):>6}"
    figures = tokens + cost if width >= _WIDE_COLUMN else cost if line.usd else tokens
    name = named(printable(line.name)) or "(not known)"
    return set_cell_size(name, max(0, width - len(figures))) + figures


def _last_folder(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _model(name: str) -> str:
    return name.rpartition("/")[2].removeprefix("claude-")


def _agent(name: str) -> str:
    """Return the beginnings of a conversation's id and of its subagent's, which are long and random."""
    conversation, _, agent = name.partition("/")
    return f"{conversation[:4]}/{agent[:5]}" if agent else conversation[:8]


def _cost(line: UsedBy) -> str:
    return brief_cost(line.usd, line.at_least)


def _decision(logged: LoggedDecision, width: int) -> Text:
    decision = logged.decision
    time = f"{logged.decided_at.astimezone():%H:%M:%S} "
    names = max(10, (width - 9 - 26 - 4) // 2)
    return Text.assemble(
        (time, _QUIET),
        set_cell_size(printable(logged.task.task_type), names),
        "  ",
        (set_cell_size(printable(decision.model), names), "green" if _is_local(logged) else ""),
        "  ",
        (set_cell_size(logged.outcome or decision.reason, 26), _QUIET),
    )


def _is_local(logged: LoggedDecision) -> bool:
    return logged.decision.provider == "ollama"
