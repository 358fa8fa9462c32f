"""What a user could have wrong, looked at without changing anything, and how to mend each."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp import __version__
from immunos_mcp.assistants import configuration as entries
from immunos_mcp.assistants import json_edit as documents
from immunos_mcp.assistants.configuration import Client, Launch
from immunos_mcp.assistants.json_edit import DocumentError
from immunos_mcp.domain import EngineState, Settings
from immunos_mcp.errors import ImmunosError, InvalidInputError, LedgerError
from immunos_mcp.ledger.examination import examine
from immunos_mcp.options import default_database
from immunos_mcp.rules import policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from immunos_mcp.assistants.configuration import Configuration
    from immunos_mcp.assistants.json_edit import Json
    from immunos_mcp.options import Options

PROGRAM = entries.PROGRAM
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
    """What the checks look at.

    Attributes:
        options: what this run was told.
        environment: its variables.
        understood: what a server is told by arguments and variables; it raises
            ``InvalidInputError`` where it would not serve.
    """

    options: Options
    environment: Mapping[str, str]
    understood: Callable[[Sequence[str], Mapping[str, str]], Options]


def diagnose(surroundings: Surroundings) -> tuple[Finding, ...]:
    """Run all checks; one that breaks is a finding of its own and hides no other."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            findings.extend(check(surroundings))
        except (OSError, ImmunosError) as error:
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


_PROGRAMS = {
    Client.CLAUDE_CODE: "claude",
    Client.VSCODE: "code",
    Client.CURSOR: "cursor",
    Client.CODEX: "codex",
}


def _client(
    client: Client, files: tuple[Configuration, ...], surroundings: Surroundings
) -> Iterator[Finding]:
    held = [_held(configuration) for configuration in files]
    entry = files[0].entries[0]
    there = _at(held[0], entry.path)
    install = f"{PROGRAM} install {client}"
    plugin = client is Client.CLAUDE_CODE and entries.has_plugin(held[1])
    if plugin and there is not None:
        remedy = f"keep one of the two: {install} --uninstall, or disable the plugin"
        yield Finding(client, Verdict.WARN, "set up twice, as a plugin and by hand", remedy)
    elif plugin:
        yield Finding(client, Verdict.OK, "set up as a plugin")
    elif there is None:
        yield Finding(client, Verdict.WARN, "found, not set up", install)
    elif not isinstance(there, dict) or not entries.is_ours(there, entry):
        seen = f"{'.'.join(entry.path)} in {files[0].file} is another program's"
        yield Finding(client, Verdict.FAIL, seen, f"rename or remove it, then {install}")
    else:
        yield from _launch(client, there, install, surroundings)
        if client is Client.CLAUDE_CODE:
            yield from _claude_code(there, held[1], install)
    if client is Client.CLAUDE_CODE and (plugin or there is not None):
        yield from _claude_code_settings(there, held[1], install, surroundings)


def _launch(
    client: Client, there: dict[str, Json], install: str, surroundings: Surroundings
) -> Iterator[Finding]:
    command = str(there["command"])
    if shutil.which(command) is None:
        yield Finding(client, Verdict.FAIL, f"its entry starts {command!r}, no program", install)
        return
    given = [str(each) for each in _items(there.get("args"))]
    arguments = entries.server_arguments([command, *given])
    if arguments is None:
        yield Finding(client, Verdict.OK, f"its entry starts {' '.join([command, *given])}")
        return
    own = there.get("env")
    own = {name: str(text) for name, text in own.items()} if isinstance(own, dict) else {}
    try:
        told = surroundings.understood(arguments, {**surroundings.environment, **own})
    except InvalidInputError as error:
        remedy = f"{install}, or mend its args and env"
        yield Finding(client, Verdict.FAIL, f"its entry is refused: {error}", remedy)
        return
    yield Finding(client, Verdict.OK, f"its entry starts {command}")
    here = surroundings.options
    if (told.database, told.session) != (here.database, here.session):
        seen = f"counts in session {told.session} of {told.database}, not what is looked at here"
        remedy = f"to look there: {PROGRAM} doctor --db {told.database} --session {told.session}"
        yield Finding(client, Verdict.OK, seen, remedy)


def _claude_code(there: dict[str, Json], settings: Json, install: str) -> Iterator[Finding]:
    if there.get("alwaysLoad") is not True:
        seen = "alwaysLoad is not set: the model sees names instead of tools"
        yield Finding("alwaysLoad", Verdict.WARN, seen, install)
    missing = [
        event
        for event in entries.HOOK_MATCHERS
        if not _has_hook(_items(_at(settings, ("hooks", event))), event)
    ]
    if missing:
        seen = f"missing for {', '.join(missing)}: the model hears of the budget only when it asks"
        yield Finding("hooks", Verdict.WARN, seen, install)
    else:
        yield Finding("hooks", Verdict.OK, "in place")


def _has_hook(groups: list[Json], event: str) -> bool:
    wanted = entries.hook_group(event)
    for group in groups:
        if not isinstance(group, dict) or group.get("matcher") != wanted.get("matcher"):
            continue
        if any(hook in _items(group.get("hooks")) for hook in _items(wanted["hooks"])):
            return True
    return False


def _claude_code_settings(
    there: Json, settings: Json, install: str, surroundings: Surroundings
) -> Iterator[Finding]:
    line = _at(settings, ("statusLine",))
    if entries.is_ours(line, entries.status_line(Launch(PROGRAM))):
        yield Finding("status line", Verdict.OK, str(_at(line, ("command",))))
    elif line is None:
        seen = "not set: the budget is not in view, and the plan's limits stay unknown"
        yield Finding("status line", Verdict.WARN, seen, install)
    else:
        remedy = f"have it run {PROGRAM} statusline too, if the plan's limits should be known"
        yield Finding("status line", Verdict.WARN, "another program's", remedy)
    variables: dict[str, Json] = dict(surroundings.environment)
    for each in (_at(settings, ("env",)), _at(there, ("env",))):
        variables |= each if isinstance(each, dict) else {}
    yield _telemetry(variables, _items(_at(there, ("args",))), install)


def _telemetry(variables: Mapping[str, Json], arguments: list[Json], install: str) -> Finding:
    name = "telemetry"
    told = {each: variables.get(each) for each in entries.TELEMETRY}
    if "--telemetry" in arguments:
        told["IMMUNOS_TELEMETRY"] = "on"
    unset = [each for each, text in told.items() if not text]
    if len(unset) == len(told):
        seen = "off: titles and compaction, which are in no transcript, are not counted"
        return Finding(name, Verdict.OK, seen, f"to count them: {install} --telemetry")
    if unset:
        seen = f"not complete, nothing arrives: {', '.join(unset)} not set"
        return Finding(name, Verdict.WARN, seen, f"{install} --telemetry")
    # Where it goes may be another port, on both sides alike.
    others = [
        f"{each}={told[each]}"
        for each, wanted in entries.TELEMETRY.items()
        if told[each] != wanted and each not in _TELEMETRY_PLACES
    ]
    if others:
        seen = f"goes elsewhere: {', '.join(others)}"
        wanted = ", ".join(f"{each}={text}" for each, text in entries.TELEMETRY.items())
        return Finding(name, Verdict.WARN, seen, f"what the router takes in: {wanted}")
    return Finding(name, Verdict.OK, "on: side requests count too")


_TELEMETRY_PLACES = frozenset({"OTEL_EXPORTER_OTLP_ENDPOINT", "IMMUNOS_TELEMETRY"})


def _transcripts(surroundings: Surroundings) -> Iterator[Finding]:
    name = "transcripts"
    if not surroundings.options.read_transcripts:
        yield Finding(name, Verdict.WARN, "not read: IMMUNOS_TRANSCRIPTS is off", "unset it")
        return
    from immunos_mcp.assistants.claude_code.transcripts import transcript_folders

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
    elif examined.is_older:
        seen = f"{path} is sound, of version {examined.version}; the next call brings it up to date"
        yield Finding(name, Verdict.OK, seen)
    else:
        yield Finding(name, Verdict.OK, f"{path} is sound")
    if examined.settings_problem is not None:
        yield Finding("settings", Verdict.FAIL, examined.settings_problem)
    if examined.unread_lines:
        seen = f"{examined.unread_lines} lines of transcripts with usage could not be read"
        yield Finding("transcripts", Verdict.WARN, seen, "their usage is missing in the totals")
    latest = datetime.now(UTC) + CLOCK_TOLERANCE
    if examined.began is not None and examined.began > latest:
        seen = f"a session began at {examined.began:%Y-%m-%d %H:%M} UTC, which is to come"
        yield Finding("clock", Verdict.WARN, seen, f"{_CLOCK_REMEDY}; then {PROGRAM} reset")
    if examined.measured is not None and examined.measured > latest:
        seen = f"a response is of {examined.measured:%Y-%m-%d %H:%M} UTC, which is to come"
        yield Finding("clock", Verdict.WARN, seen, _CLOCK_REMEDY)


def _ledger_file(surroundings: Surroundings) -> Iterator[Finding]:
    name, path = "ledger file", surroundings.options.database
    folder = next(each for each in path.parents if each.is_dir())
    if path.exists() and path.stat().st_mode & 0o077:
        yield Finding(name, Verdict.WARN, "others may read it", f"chmod 600 {path}")
    if folder == path.parent:
        mode = folder.stat().st_mode
        open_to = 0o077 if path == default_database() else 0o022
        if mode & open_to and not mode & stat.S_ISVTX:
            does = "write to" if mode & 0o022 else "look into"
            seen = f"others may {does} its folder"
            yield Finding(name, Verdict.WARN, seen, f"chmod 700 {folder}")
    for each in (path, folder):
        if each.exists() and not os.access(each, os.W_OK):
            remedy = "give this user write access, or name another file with --db or IMMUNOS_DB"
            yield Finding(name, Verdict.FAIL, f"{each} cannot be written", remedy)
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE:
        yield Finding(
            name, Verdict.WARN, f"{free / 2**20:.0f} MB are free on its disk", "make room"
        )
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        remedy = "name a file on a local disk with --db or IMMUNOS_DB: SQLite's WAL needs one"
        yield Finding(name, Verdict.FAIL, f"it is on a network, {kind}", remedy)


NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    ]
)


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Return the kind of file system that a folder is on; ``None`` where the system does not say.

    Linux lists its mounts in a file, the later ones over the earlier.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place = folder.resolve()
    depth, kind = 0, None
    for line in lines:
        _, point, found, *_ = line.split(" ")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point))
        if place.is_relative_to(mounted) and len(mounted.parts) >= depth:
            depth, kind = len(mounted.parts), found
    return kind


def _ollama(surroundings: Surroundings) -> Iterator[Finding]:
    name = "ollama"
    if not surroundings.options.ollama_check:
        yield Finding(name, Verdict.OK, "not looked at: --ollama-check is off")
        return
    from immunos_mcp.engines import ollama  # an event loop that no other check needs

    engine = ollama.look_now(ollama.address(surroundings.options.ollama_host))
    if engine.state is not EngineState.UP:
        remedy = "ollama serve, or name another address in OLLAMA_HOST"
        yield Finding(
            name, Verdict.WARN, f"{engine.address}: {engine.state} ({engine.words})", remedy
        )
        return
    seen = f"{engine.version} at {engine.address}, {len(engine.models)} models"
    yield Finding(name, Verdict.OK, seen)
    path, settings = surroundings.options.database, Settings()
    # What is wrong with the ledger is said where it is looked at.
    with suppress(LedgerError):
        settings = (examine(path).settings if path.exists() else None) or settings
    for model in policy.named_models(settings):
        can_run, remedy = policy.can_run(model, engine, settings)
        if can_run is False:
            yield Finding(name, Verdict.WARN, f"{model} is mapped and cannot run", remedy)


CHECKS: dict[str, Callable[[Surroundings], Iterator[Finding]]] = {
    "program": _program,
    "clients": _clients,
    "transcripts": _transcripts,
    "ledger": _ledger,
    "ledger file": _ledger_file,
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
