"""What a user could have wrong, looked at without changing anything, and how to mend each."""

from __future__ import annotations

import os
import platform
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from immunos_mcp import __version__, policy
from immunos_mcp.clients import documents, entries
from immunos_mcp.clients.documents import DocumentError
from immunos_mcp.clients.entries import Client, Launch
from immunos_mcp.domain import EngineState, Settings
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.examination import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from immunos_mcp.clients.documents import Json
    from immunos_mcp.clients.entries import Configuration
    from immunos_mcp.options import Options

PROGRAM = "immunos-mcp"
LITTLE_SPACE = 100 * 2**20
CLOCK_TOLERANCE = timedelta(minutes=5)


class Verdict(StrEnum):
    """What a check found: all well, worth a look, or broken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        check: what was looked at.
        verdict: how it is.
        seen: what was found.
        remedy: how to mend it, where there is something to mend.
    """

    check: str
    verdict: Verdict
    seen: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the checks look at."""

    options: Options
    environment: Mapping[str, str]


def diagnose(surroundings: Surroundings) -> tuple[Finding, ...]:
    """Run all checks; one that breaks is a finding of its own and hides no other."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            findings.extend(check(surroundings))
        except (OSError, DocumentError, LedgerError) as error:
            findings.append(Finding(name, Verdict.FAIL, str(error)))
    return tuple(findings)


def _program(_surroundings: Surroundings) -> Iterator[Finding]:
    seen = f"{PROGRAM} {__version__}, Python {platform.python_version()}"
    found = shutil.which(PROGRAM)
    if found is None:
        remedy = "put it on your PATH (pipx install does), or use its full path in the clients"
        yield Finding("program", Verdict.WARN, f"{seen}, not on PATH", remedy)
    else:
        yield Finding("program", Verdict.OK, f"{seen}, {found}")


def _clients(surroundings: Surroundings) -> Iterator[Finding]:
    for client in Client:
        files = entries.configurations(client, Launch(PROGRAM), surroundings.environment)
        if not files[-1].file.parent.is_dir() and shutil.which(_PROGRAMS.get(client, "")) is None:
            continue
        try:
            yield from _client(client, files, surroundings)
        except (OSError, DocumentError) as error:
            remedy = f"mend the file, then {PROGRAM} install {client}"
            yield Finding(client, Verdict.FAIL, str(error), remedy)


_PROGRAMS = {Client.CLAUDE_CODE: "claude", Client.CODEX: "codex"}


def _client(
    client: Client, files: tuple[Configuration, ...], surroundings: Surroundings
) -> Iterator[Finding]:
    held = [_held(configuration) for configuration in files]
    there = _at(held[0], files[0].entries[0].path)
    install = f"{PROGRAM} install {client}"
    plugin = client is Client.CLAUDE_CODE and _has_plugin(held[1])
    if plugin and there is not None:
        remedy = f"keep one of the two: {install} --uninstall, or disable the plugin"
        yield Finding(client, Verdict.WARN, "set up twice, as a plugin and by hand", remedy)
    elif plugin:
        yield Finding(client, Verdict.OK, "set up as a plugin")
    elif not isinstance(there, dict):
        yield Finding(client, Verdict.WARN, "found, not set up", install)
        return
    else:
        yield _launch(client, there, install)
    if client is Client.CLAUDE_CODE:
        if not plugin and isinstance(there, dict):
            yield from _claude_code(there, held[1], install)
        yield from _claude_code_settings(held[1], install, surroundings)


def _launch(client: Client, there: dict[str, Json], install: str) -> Finding:
    command = there.get("command")
    if not isinstance(command, str) or shutil.which(command) is None:
        return Finding(client, Verdict.FAIL, f"its entry starts {command!r}, no program", install)
    return Finding(client, Verdict.OK, f"its entry starts {command}")


def _claude_code(there: dict[str, Json], settings: Json, install: str) -> Iterator[Finding]:
    if there.get("alwaysLoad") is not True:
        seen = "alwaysLoad is not set: the model sees names instead of tools"
        yield Finding("alwaysLoad", Verdict.WARN, seen, install)
    missing = [
        event
        for event in entries.HOOK_MATCHERS
        if entries.hook_group(event) not in _items(_at(settings, ("hooks", event)))
    ]
    if missing:
        seen = f"missing for {', '.join(missing)}: the model hears of the budget only when it asks"
        yield Finding("hooks", Verdict.WARN, seen, install)
    else:
        yield Finding("hooks", Verdict.OK, "in place")


def _claude_code_settings(
    settings: Json, install: str, surroundings: Surroundings
) -> Iterator[Finding]:
    command = _at(settings, ("statusLine", "command"))
    names = (PROGRAM, "immunos_mcp")
    if (
        isinstance(command, str)
        and command.endswith("statusline")
        and any(name in command for name in names)
    ):
        yield Finding("status line", Verdict.OK, command)
    elif command is None:
        seen = "not set: the budget is not in view, and the plan's limits stay unknown"
        yield Finding("status line", Verdict.WARN, seen, install)
    else:
        remedy = f"have it run {PROGRAM} statusline too, if the plan's limits should be known"
        yield Finding("status line", Verdict.WARN, "another program's", remedy)
    told = {name: _at(settings, ("env", name)) for name in entries.TELEMETRY}
    told = {name: text or surroundings.environment.get(name) for name, text in told.items()}
    unset = [name for name, text in told.items() if text is None]
    if len(unset) == len(told):
        seen = "off: titles and compaction, which are in no transcript, are not counted"
        yield Finding("telemetry", Verdict.OK, seen, f"{install} --telemetry")
    elif unset:
        yield Finding(
            "telemetry", Verdict.WARN, f"not set: {', '.join(unset)}", f"{install} --telemetry"
        )
    else:
        yield Finding("telemetry", Verdict.OK, "on: side requests count too")


def _transcripts(surroundings: Surroundings) -> Iterator[Finding]:
    name = "transcripts"
    if not surroundings.options.read_transcripts:
        yield Finding(name, Verdict.WARN, "not read: IMMUNOS_TRANSCRIPTS is off", "unset it")
        return
    from immunos_mcp.claude_code.transcripts import transcript_folders  # noqa: PLC0415

    folders = transcript_folders(surroundings.options, surroundings.environment)
    if folders is None or not folders.exist():
        yield Finding(name, Verdict.OK, "none on this machine: usage is what clients report")
        return
    found = folders.changed({}, None)
    closed = [transcript.path for transcript in found if not os.access(transcript.path, os.R_OK)]
    if closed:
        seen = f"{len(closed)} of {len(found)} cannot be read, such as {closed[0]}"
        yield Finding(name, Verdict.FAIL, seen, "give this user read access to them")
    else:
        yield Finding(name, Verdict.OK, f"{len(found)}, all readable")
    now_ns = time.time_ns() + int(CLOCK_TOLERANCE.total_seconds()) * 10**9
    if any(transcript.modified_ns > now_ns for transcript in found):
        yield Finding("clock", Verdict.WARN, "transcripts are from the future", _CLOCK_REMEDY)


_CLOCK_REMEDY = "set the clock right: sessions count by time"


def _ledger(surroundings: Surroundings) -> Iterator[Finding]:
    name, path = "ledger", surroundings.options.database
    if not path.exists():
        yield Finding(name, Verdict.OK, f"{path} is not made yet; the first call makes it")
        return
    examined = examine(path)
    if examined.damage is not None:
        remedy = "move it away or restore a copy; a new one is made"
        yield Finding(name, Verdict.FAIL, f"{path}: {examined.damage}", remedy)
    elif examined.is_newer:
        yield Finding(name, Verdict.FAIL, f"{path} is of a newer {PROGRAM}", "upgrade this one")
    else:
        yield Finding(name, Verdict.OK, f"{path} is sound")
    if examined.settings_problem is not None:
        yield Finding("settings", Verdict.FAIL, examined.settings_problem)
    if examined.unread_lines:
        seen = f"{examined.unread_lines} lines of transcripts with usage could not be read"
        yield Finding("transcripts", Verdict.WARN, seen, "their usage is missing in the totals")
    if path.stat().st_mode & 0o077:
        yield Finding(name, Verdict.WARN, "others may read it", f"chmod 600 {path}")
    if shutil.disk_usage(path.parent).free < LITTLE_SPACE:
        yield Finding(name, Verdict.WARN, "less than 100 MB are free on its disk", "make room")
    if examined.newest is not None and examined.newest > datetime.now(UTC) + CLOCK_TOLERANCE:
        seen = f"the ledger has something of {examined.newest:%Y-%m-%d %H:%M} UTC, which is to come"
        yield Finding("clock", Verdict.WARN, seen, _CLOCK_REMEDY)


def _ollama(surroundings: Surroundings) -> Iterator[Finding]:
    name = "ollama"
    if not surroundings.options.ollama_check:
        yield Finding(name, Verdict.OK, "not looked at: --ollama-check is off")
        return
    from immunos_mcp import ollama  # noqa: PLC0415  # an event loop that no other check needs

    engine = ollama.look_now(ollama.address(surroundings.options.ollama_host))
    if engine.state is not EngineState.UP:
        remedy = "ollama serve, or name another address in OLLAMA_HOST"
        yield Finding(
            name, Verdict.WARN, f"{engine.address}: {engine.state} ({engine.words})", remedy
        )
        return
    seen = f"{engine.version} at {engine.address}, {len(engine.models)} models"
    yield Finding(name, Verdict.OK, seen)
    path = surroundings.options.database
    settings = (examine(path).settings if path.exists() else None) or Settings()
    for model in policy.named_models(settings):
        can_run, remedy = policy.can_run(model, engine, settings)
        if can_run is False:
            yield Finding(name, Verdict.WARN, f"{model} is mapped and cannot run", remedy)


CHECKS: dict[str, Callable[[Surroundings], Iterator[Finding]]] = {
    "program": _program,
    "clients": _clients,
    "transcripts": _transcripts,
    "ledger": _ledger,
    "ollama": _ollama,
}
"""All checks, in the order of the report."""


def _held(configuration: Configuration) -> Json:
    try:
        text = configuration.file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise DocumentError(f"{configuration.file} is no UTF-8") from None
    try:
        if configuration.is_toml:
            return documents.read_toml(text)
        return documents.read_json(text)
    except DocumentError as error:
        raise DocumentError(f"{configuration.file}: {error}") from None


def _at(document: Json, path: tuple[str, ...]) -> Json:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _items(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _has_plugin(settings: Json) -> bool:
    enabled = _at(settings, ("enabledPlugins",))
    return isinstance(enabled, dict) and any(
        name.partition("@")[0] == entries.NAME and bool(on) for name, on in enabled.items()
    )


def report(findings: tuple[Finding, ...]) -> str:
    """Lay the findings out, a line each and below it what to do."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.verdict:<5} {finding.check:<15} {finding.seen}")
        if finding.remedy is not None:
            lines.append(f"{'':<21} -> {finding.remedy}")
    return "\n".join(lines)


def has_failed(findings: tuple[Finding, ...]) -> bool:
    """Tell whether anything is broken."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)
