"""The doctor's checks of Claude Code, other than its server's entry."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from immunos_mcp.assistants.claude_code.configuration import TELEMETRY, status_line
from immunos_mcp.assistants.claude_code.hooks import HOOK_EVENTS, hook_group
from immunos_mcp.assistants.configuration import PROGRAM, Launch
from immunos_mcp.assistants.documents import items, member
from immunos_mcp.assistants.findings import CLOCK_REMEDY, Finding, Verdict
from immunos_mcp.ledger.moments import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.findings import AssistantState, DoctorContext
    from immunos_mcp.assistants.transcripts import Transcript

_TELEMETRY_PLACES = frozenset({"OTEL_EXPORTER_OTLP_ENDPOINT", "IMMUNOS_TELEMETRY"})


def findings(state: AssistantState) -> Iterator[Finding]:
    """Check the hooks, the status line and the telemetry export, if the server is set up."""
    settings = state.documents[1]
    if state.is_ours:
        yield from _always_load(state)
        yield _hooks(settings, state.install)
    if state.has_plugin or state.server is not None:
        yield _status_line(settings, state.install)
        yield _telemetry(_exported(state), state.install)


def _always_load(state: AssistantState) -> Iterator[Finding]:
    if member(state.server, ("alwaysLoad",)) is not True:
        seen = "not set, so the model sees only the names of the tools"
        yield Finding("alwaysLoad", Verdict.WARN, seen, state.install)


def _hooks(settings: Json, install: str) -> Finding:
    missing = [
        event
        for event in HOOK_EVENTS
        if not _has_hook(items(member(settings, ("hooks", event))), event)
    ]
    if not missing:
        return Finding("hooks", Verdict.OK, "installed")
    seen = f"missing for {', '.join(missing)}: the model learns about the budget only when it asks"
    return Finding("hooks", Verdict.WARN, seen, install)


def _has_hook(groups: list[Json], event: str) -> bool:
    wanted = hook_group(event)
    for group in groups:
        if not isinstance(group, dict) or group.get("matcher") is not None:
            continue
        if any(hook in items(group.get("hooks")) for hook in items(wanted["hooks"])):
            return True
    return False


def _status_line(settings: Json, install: str) -> Finding:
    name, line = "status line", member(settings, ("statusLine",))
    if status_line(Launch(PROGRAM)).is_ours(line):
        return Finding(name, Verdict.OK, str(member(line, ("command",))))
    if line is None:
        seen = "not set: the budget is not visible, and the plan's limits are unknown"
        return Finding(name, Verdict.WARN, seen, install)
    remedy = f"make it run {PROGRAM} statusline too, so that the plan's limits are known"
    return Finding(name, Verdict.WARN, "set to another program", remedy)


def _exported(state: AssistantState) -> dict[str, Json]:
    """Return the export's variables as the server gets them, including its flag."""
    variables: dict[str, Json] = dict(state.context.environment)
    for each in (member(state.documents[1], ("env",)), member(state.server, ("env",))):
        variables |= each if isinstance(each, dict) else {}
    exported = {name: variables.get(name) for name in TELEMETRY}
    if "--telemetry" in items(member(state.server, ("args",))):
        exported["IMMUNOS_TELEMETRY"] = "on"
    return exported


def _telemetry(exported: dict[str, Json], install: str) -> Finding:
    name = "telemetry"
    unset = [each for each, text in exported.items() if not text]
    if len(unset) == len(exported):
        seen = "off: requests outside transcripts (titles, compaction) are not counted"
        return Finding(name, Verdict.OK, seen, f"to count them: {install} --telemetry")
    if unset:
        seen = f"incomplete, so nothing arrives: {', '.join(unset)} not set"
        return Finding(name, Verdict.WARN, seen, f"{install} --telemetry")
    # Another port is fine if both sides use it.
    others = [
        f"{each}={exported[each]}"
        for each, wanted in TELEMETRY.items()
        if exported[each] != wanted and each not in _TELEMETRY_PLACES
    ]
    if others:
        seen = f"sent elsewhere: {', '.join(others)}"
        wanted = ", ".join(f"{each}={text}" for each, text in TELEMETRY.items())
        return Finding(name, Verdict.WARN, seen, f"the router needs {wanted}")
    return Finding(name, Verdict.OK, "on: requests outside transcripts count too")


def log_findings(context: DoctorContext) -> Iterator[Finding]:
    """Check that transcripts are read, are readable, and are not dated in the future."""
    name = "transcripts"
    if not context.options.read_transcripts:
        yield Finding(name, Verdict.WARN, "not read: IMMUNOS_TRANSCRIPTS is off", "unset it")
        return
    from immunos_mcp.assistants.claude_code.transcripts import transcript_folders

    yield from _config_folder(context.environment)
    folders = transcript_folders(context.options, context.environment)
    found = [] if folders is None else folders.changed({}, None)
    if folders is None or not (folders.exist() or folders.unreachable):
        yield Finding(
            name, Verdict.OK, "none on this machine; only usage that clients report is counted"
        )
        return
    yield _readable(found, sorted(folders.unreachable))
    links = folders.links()
    if links:
        seen = f"links are not followed, such as {links[0]}; what is behind them is not counted"
        remedy = "put the folder itself there, or set CLAUDE_CONFIG_DIR to where it is"
        yield Finding(name, Verdict.WARN, seen, remedy)
    now_ns = time.time_ns() + int(CLOCK_TOLERANCE.total_seconds()) * 10**9
    if any(transcript.modified_ns > now_ns for transcript in found):
        yield Finding(
            "clock", Verdict.WARN, "some transcripts are dated in the future", CLOCK_REMEDY
        )


def _readable(found: list[Transcript], unreachable: list[str]) -> Finding:
    name, remedy = "transcripts", "give this user read access to them"
    if unreachable:
        seen = f"{len(unreachable)} folders or files cannot be opened, such as {unreachable[0]}"
        return Finding(name, Verdict.FAIL, seen, remedy)
    closed = [each.name for each in found if not os.access(each.path, os.R_OK)]
    if closed:
        seen = f"{len(closed)} of {len(found)} cannot be read, such as {closed[0]}"
        return Finding(name, Verdict.FAIL, seen, remedy)
    return Finding(name, Verdict.OK, f"{len(found)} found, all readable")


def _config_folder(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Check that ``CLAUDE_CONFIG_DIR``, if set, is what Claude Code takes it for: one folder."""
    name = "CLAUDE_CONFIG_DIR"
    configured = environment.get(name)
    if not configured:
        return
    if not os.path.isdir(configured):  # noqa: PTH112  # never raises
        is_list = "," in configured
        seen = f"{configured!a} is {'a list, not one folder' if is_list else 'not a folder'}"
        yield Finding(name, Verdict.WARN, seen, "set it to Claude Code's folder, or unset it")
    elif not os.path.isabs(configured):  # noqa: PTH117  # likewise
        seen = f"{configured!a} is relative, so it is another folder in every project"
        yield Finding(name, Verdict.WARN, seen, "set it to the full path")
