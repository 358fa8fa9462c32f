"""What ``doctor`` finds in a ledger's contents: settings, gates, unread lines, side requests, and times ahead."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants.configuration import PROGRAM
from immunos_mcp.assistants.findings import CLOCK_REMEDY, Finding, Verdict
from immunos_mcp.ledger.examination import RECENT
from immunos_mcp.ledger.moments import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from immunos_mcp.ledger.examination import Examination

LONGEST_LIST = 5
"""Files that one finding names."""


def contents_of(examined: Examination, running: Collection[str]) -> Iterator[Finding]:
    """Return the findings on what a ledger holds, of either kind.

    Args:
        examined: what is in it.
        running: Claude Code's conversations that a program still runs.
    """
    if examined.settings_problem is not None:
        yield Finding("settings", Verdict.FAIL, examined.settings_problem)
    yield from _project_settings(examined)
    if examined.gates is not None:
        yield Finding("gates", Verdict.WARN, examined.gates, f"{PROGRAM} on")
    if examined.unread_lines:
        seen = (
            f"{examined.unread_lines} transcript lines with usage could not be read, or repeat"
            " the id of another response:"
            f" {_listed(examined.unread_in)}"
        )
        yield Finding("transcripts", Verdict.WARN, seen, "their usage is missing from the totals")
    yield from _side_requests(examined, running)
    latest = datetime.now(UTC) + CLOCK_TOLERANCE
    if examined.began is not None and examined.began > latest:
        seen = f"a session began in the future, at {examined.began:%Y-%m-%d %H:%M} UTC"
        yield Finding("clock", Verdict.WARN, seen, f"{CLOCK_REMEDY}; then run {PROGRAM} reset")
    if examined.measured is not None and examined.measured > latest:
        seen = f"a response is dated in the future, {examined.measured:%Y-%m-%d %H:%M} UTC"
        yield Finding("clock", Verdict.WARN, seen, CLOCK_REMEDY)


def _project_settings(examined: Examination) -> Iterator[Finding]:
    """Say which folders have settings of their own, and which of those are gone."""
    for folder, own in examined.by_folder.items():
        seen = f"{folder} has settings of its own: {', '.join(own)}"
        if Path(folder).is_dir():
            yield Finding("projects", Verdict.OK, seen)
        else:
            undo = f"{PROGRAM} config unset {' '.join(own)} --project {shlex.quote(folder)}"
            remedy = f"set them for the folder's new place, if it has one; then {undo}"
            yield Finding("projects", Verdict.WARN, f"{seen}, but is no folder", remedy)


def _side_requests(examined: Examination, running: Collection[str]) -> Iterator[Finding]:
    """Name what of Claude Code's usage is in no log, or not yet."""
    check, uncovered = "side requests", examined.without_total
    going_on = sum(conversation in running for conversation in uncovered)
    ended = len(uncovered) - going_on
    if going_on:
        seen = (
            f"{_conversations(going_on)} still running: titles, compactions and other side requests are"
            " counted at the end, or at /clear; with telemetry, at once"
        )
        yield Finding(check, Verdict.OK, seen)
    if ended:
        seen = (
            f"{_conversations(ended)} of the last {RECENT.days} days without a total after the last response,"
            " and not running here: killed, or of a version that writes none. Their titles, compactions,"
            " other side requests and interrupted replies are not counted without telemetry"
        )
        yield Finding(check, Verdict.OK, seen)
    if examined.conversations:
        seen = (
            "not counted without telemetry, because no log has them: the requests for labels and permissions"
            " of --bg sessions, the quota request at start-up, sessions with --no-session-persistence"
        )
        yield Finding("unlogged", Verdict.OK, seen)


def _conversations(number: int) -> str:
    return f"{number} conversation{'' if number == 1 else 's'}"


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - LONGEST_LIST
    shown = ", ".join(names[:LONGEST_LIST])
    return shown if more <= 0 else f"{shown} and {more} more"
