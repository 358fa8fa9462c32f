"""Diagnoses problems without changing anything, and suggests fixes."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp import __version__
from immunos_mcp.assistants import ages, json_edit, registry, regular_files
from immunos_mcp.assistants.claude_code.running import running_conversations
from immunos_mcp.assistants.claude_code.transcripts import config_folders
from immunos_mcp.assistants.config_files import LARGEST
from immunos_mcp.assistants.configuration import (
    PROGRAM,
    Launch,
    Setup,
    command_line,
    own_environment,
    server_arguments,
    url_of,
)
from immunos_mcp.assistants.documents import DocumentError, member
from immunos_mcp.assistants.findings import (
    AssistantState,
    Finding,
    Verdict,
)
from immunos_mcp.assistants.ledger_findings import contents_of
from immunos_mcp.assistants.other_logs import OtherLogs
from immunos_mcp.assistants.readiness import readiness
from immunos_mcp.domain import EngineState
from immunos_mcp.errors import ImmunosError, InvalidInputError, LedgerError
from immunos_mcp.ledger.examination import examine, examine_database
from immunos_mcp.options import ENGINES, NoHomeError, default_database, file_of
from immunos_mcp.rules import engine_places, models
from immunos_mcp.rules.obstacles import OLLAMA_DOWNLOAD, mapping_command
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.configuration import Assistant, Configuration
    from immunos_mcp.assistants.findings import DoctorContext
    from immunos_mcp.assistants.transcripts import TranscriptSource
    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.domain import Engine

LITTLE_SPACE = 100 * 2**20


def diagnose(context: DoctorContext) -> tuple[Finding, ...]:
    """Run all checks; a check that fails to run becomes a finding and does not stop the others."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            findings.extend(check(context))
        except (OSError, ImmunosError) as error:
            findings.append(Finding(name, Verdict.FAIL, str(error)))
    return tuple(findings)


def _program(_context: DoctorContext) -> Iterator[Finding]:
    seen = f"{PROGRAM} {__version__}, Python {platform.python_version()}"
    found = shutil.which(PROGRAM)
    if found is None:
        remedy = "add it to your PATH (pipx install does), or use its full path in client settings"
        yield Finding("program", Verdict.WARN, f"{seen}, not on PATH", remedy)
    else:
        yield Finding("program", Verdict.OK, f"{seen}, {found}")


def _assistants(context: DoctorContext) -> Iterator[Finding]:
    for name in registry.NAMES:
        assistant = registry.assistant(name)
        try:
            files = assistant.configurations(Setup(Launch(PROGRAM), context.environment))
        except NoHomeError as error:
            yield Finding("clients", Verdict.WARN, f"not checked: {error}")
            return
        if not registry.is_found(assistant, files):
            continue
        try:
            yield from _assistant(assistant, files, context)
        except (OSError, DocumentError) as error:
            remedy = f"fix the file, then run {PROGRAM} install {name}"
            seen = (
                f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            )
            yield Finding(name, Verdict.FAIL, seen, remedy)


def _assistant(
    assistant: Assistant, files: tuple[Configuration, ...], context: DoctorContext
) -> Iterator[Finding]:
    documents = tuple(_parsed(configuration) for configuration in files)
    server = files[0].entries[0]
    existing = member(documents[0], server.path)
    has_plugin = assistant.has_plugin(documents)
    state = AssistantState(
        documents,
        existing,
        has_plugin,
        is_ours=not has_plugin and server.is_ours(existing),
        install=f"{PROGRAM} install {assistant.name}",
        context=context,
    )
    url = url_of(existing)
    if url is not None:
        seen = f"uses the server at {engine_places.without_credentials(url)}"
        yield Finding(assistant.name, Verdict.OK, seen)
        return
    if state.is_ours and isinstance(existing, dict):
        yield from _launch(assistant, existing, state)
    else:
        place = f"{'.'.join(server.path)} in {files[0].file}"
        yield _without_entry(assistant.name, place, state)
    yield from assistant.findings(state)


def _without_entry(name: str, place: str, state: AssistantState) -> Finding:
    if state.has_plugin and state.server is not None:
        remedy = f"keep one of them: {state.install} --uninstall, or disable the plugin"
        seen = "set up twice, as a plugin and in its configuration"
        return Finding(name, Verdict.WARN, seen, remedy)
    if state.has_plugin:
        return Finding(name, Verdict.OK, "set up as a plugin")
    if state.server is None:
        return Finding(name, Verdict.WARN, "installed but not set up", state.install)
    remedy = f"rename or remove that entry, then run {state.install}"
    return Finding(name, Verdict.FAIL, f"{place} belongs to another program", remedy)


def _launch(
    assistant: Assistant, entry: dict[str, Json], state: AssistantState
) -> Iterator[Finding]:
    name, context = assistant.name, state.context
    command, *given = command_line(entry)
    if entry.get("enabled") is False or entry.get("disabled") is True:
        yield Finding(name, Verdict.WARN, "its entry is disabled", "enable it in the client")
        return
    if shutil.which(command) is None:
        seen = f"its entry starts {command!r}, which was not found"
        yield Finding(name, Verdict.FAIL, seen, state.install)
        return
    arguments = server_arguments([command, *given])
    if arguments is None:
        line = engine_places.without_credentials(" ".join([command, *given]))
        yield Finding(name, Verdict.OK, f"its entry starts {line}")
        return
    own = own_environment(entry)
    try:
        chosen = context.parse_options(arguments, {**context.environment, **own})
    except InvalidInputError as error:
        remedy = f"{state.install}, or fix its args and env"
        yield Finding(name, Verdict.FAIL, f"its entry is invalid: {error}", remedy)
        return
    environment = {**context.environment, **own}
    yield readiness(name, [command, *given], environment, assistant.patience)
    here = context.options
    if (chosen.database, chosen.session) != (here.database, here.session):
        seen = f"uses session {chosen.session} in {chosen.database}, not the one checked here"
        remedy = f"check it: {PROGRAM} doctor --db {chosen.database} --session {chosen.session}"
        yield Finding(name, Verdict.OK, seen, remedy)


def _logs(context: DoctorContext) -> Iterator[Finding]:
    for name in registry.NAMES:
        yield from registry.assistant(name).log_findings(context)
    if context.options.read_transcripts:
        logs = OtherLogs(context.environment)
        for name, source in logs.by_assistant().items():
            yield from _other_logs(name, source)
        for name, place in sorted(logs.hidden().items()):
            remedy = "give this user access to the folders above it"
            yield Finding(
                f"logs of {name}", Verdict.FAIL, f"cannot be looked for at {place}", remedy
            )


def _other_logs(assistant: str, source: TranscriptSource) -> Iterator[Finding]:
    """Check that another assistant's logs, if it has any, are readable."""
    check, found = f"logs of {assistant}", source.changed({}, None)
    if not source.exist() and not source.unreachable:
        return
    closed = [each.name for each in found if not os.access(each.path, os.R_OK)]
    unread = sorted(source.unreachable) + closed
    if unread:
        seen = f"{len(unread)} cannot be read, such as {unread[0]}"
        yield Finding(check, Verdict.FAIL, seen, "give this user read access to them")
    else:
        yield Finding(check, Verdict.OK, f"{len(found)} found, all readable")
    links = source.links()
    if links:
        seen = f"links are not followed, such as {links[0]}; what is behind them is not counted"
        yield Finding(check, Verdict.WARN, seen, "put the folder itself there")


def _ledger(context: DoctorContext) -> Iterator[Finding]:
    name, path = "ledger", context.options.database
    if not isinstance(path, Path):
        yield from _database(path, context)
        return
    if not path.exists():
        yield Finding(name, Verdict.OK, f"{path} does not exist yet; the first call creates it")
        return
    examined = examine(path)
    if examined.damage is not None:
        remedy = f"{PROGRAM} doctor --repair --db {path}, which keeps a copy"
        yield Finding(name, Verdict.FAIL, f"{path}: {examined.damage}", remedy)
    elif examined.is_newer:
        seen = f"{path} was written by a newer {PROGRAM}"
        yield Finding(name, Verdict.FAIL, seen, f"upgrade {PROGRAM}")
    elif examined.is_older:
        seen = f"{path} is intact (version {examined.version}); the next call migrates it"
        yield Finding(name, Verdict.OK, seen)
    else:
        yield Finding(name, Verdict.OK, f"{path} is intact")
    yield from contents_of(examined, _running(context))


def _database(address: DatabaseAddress, context: DoctorContext) -> Iterator[Finding]:
    try:
        examined = examine_database(address)
    except LedgerError as error:
        seen, _, remedy = str(error).partition("; ")
        yield Finding("ledger", Verdict.FAIL, seen, remedy or None)
        return
    yield Finding("ledger", Verdict.OK, f"{address} answers")
    yield from contents_of(examined, _running(context))


def _running(context: DoctorContext) -> Collection[str]:
    return running_conversations(config_folders(context.environment))


def _ledger_file(context: DoctorContext) -> Iterator[Finding]:
    name, path = "ledger file", file_of(context.options.database)
    if path is None:
        return
    folder = next(each for each in path.parents if each.is_dir())
    if path.exists() and path.stat().st_mode & 0o077:
        yield Finding(name, Verdict.WARN, "other users can read it", f"chmod 600 {path}")
    if folder == path.parent:
        mode = folder.stat().st_mode
        open_to = 0o077 if _is_default(path) else 0o022
        if mode & open_to and not mode & stat.S_ISVTX:
            access = "write to" if mode & 0o022 else "open"
            seen = f"other users can {access} its folder"
            yield Finding(name, Verdict.WARN, seen, f"chmod 700 {folder}")
    for each in (path, folder):
        if each.exists() and not os.access(each, os.W_OK):
            remedy = "give this user write access, or choose another file with --db or IMMUNOS_DB"
            yield Finding(name, Verdict.FAIL, f"{each} is not writable", remedy)
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE:
        seen = f"only {free / 2**20:.0f} MB free on its disk"
        yield Finding(name, Verdict.WARN, seen, "free some space")
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        remedy = "choose a file on a local disk with --db or IMMUNOS_DB; SQLite's WAL needs one"
        yield Finding(name, Verdict.FAIL, f"it is on a network file system ({kind})", remedy)


def _is_default(path: Path) -> bool:
    try:
        return path == default_database()
    except NoHomeError:
        return False


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
    """Return the type of a folder's file system; ``None``: the system does not report it.

    Linux lists its mounts in a file; later ones cover earlier ones.
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


_ENGINE_PROBLEMS = {
    EngineState.DOWN: "Ollama is not running",
    EngineState.SLOW: "Ollama does not respond in time",
    EngineState.REFUSED: "Ollama refuses access",
    EngineState.NOT_OLLAMA: "another program responds instead of Ollama",
}

_OTHER_PROBLEMS = {
    EngineState.DOWN: "is not running",
    EngineState.SLOW: "does not respond in time",
    EngineState.REFUSED: "refuses access; put its key into its address (http://:KEY@HOST)",
    EngineState.NOT_COMPATIBLE: "another program responds",
}


def _engine_remedy(engine: Engine) -> str:
    if engine.state is EngineState.NOT_OLLAMA:
        return "set Ollama's address in OLLAMA_HOST"
    is_here = not engine_places.is_remote(engine.address)
    if engine.state is EngineState.DOWN and is_here and shutil.which("ollama") is None:
        return f"install it from {OLLAMA_DOWNLOAD}, or set another address in OLLAMA_HOST"
    return "start it with `ollama serve`, or set another address in OLLAMA_HOST"


def _ollama(context: DoctorContext) -> Iterator[Finding]:
    name = models.OLLAMA
    if not context.options.ollama_check:
        yield Finding(name, Verdict.OK, "not checked: --ollama-check is off")
        return
    from immunos_mcp.engines import watch  # an event loop that no other check needs

    settings = _settings(context)
    engine = watch.probe_now(context.options)
    yield from _engine_place(name, engine.address, settings)
    yield from (finding for other in engine.others for finding in _other_engine(other, settings))
    if engine.state is EngineState.UP or models.is_without_ollama(engine, settings):
        yield from ages.old_models(settings)
    missing = [
        model
        for model in models.named_models(settings)
        if models.availability(model, engine, settings).can_run is False
    ]
    if models.is_without_ollama(engine, settings):
        yield Finding(name, Verdict.OK, "not used: other engines serve the configured models")
        return
    served = models.serving_instead(engine)
    if served:
        seen = f"no engine serves {', '.join(missing)}; Ollama is not running ({engine.address})"
        remedy = f"use a model that is served: {mapping_command(served[0])}; or start Ollama"
        yield Finding(name, Verdict.WARN, seen, remedy)
        return
    if engine.state is not EngineState.UP:
        seen = f"{_ENGINE_PROBLEMS[engine.state]} ({engine.address}: {engine.words})"
        yield Finding(name, Verdict.WARN, seen, _engine_remedy(engine))
        return
    own = sum(not model.engine for model in engine.models.values())
    seen = f"Ollama {engine.version} at {engine.address}, {own} models"
    yield Finding(name, Verdict.OK, seen)
    for model in missing:
        remedy = models.availability(model, engine, settings).remedy
        yield Finding(name, Verdict.WARN, f"{model} is configured but unavailable", remedy)


def _other_engine(engine: Engine, settings: Settings) -> Iterator[Finding]:
    yield from _engine_place(engine.name, engine.address, settings)
    if engine.state is EngineState.UP:
        count = f"{len(engine.models)} {'model' if len(engine.models) == 1 else 'models'}"
        seen = f"{engine.version or 'running'} at {engine.address}, {count}"
        yield Finding(engine.name, Verdict.OK, seen)
        return
    seen = f"{_OTHER_PROBLEMS[engine.state]} ({engine.address}: {engine.words})"
    remedy = f"start that server, or correct its address in {ENGINES.flag}"
    yield Finding(engine.name, Verdict.WARN, seen, remedy)


def _engine_place(name: str, url: str, settings: Settings) -> Iterator[Finding]:
    is_ollama = name == models.OLLAMA
    refusal = engine_places.refusal(url, settings, "OLLAMA_HOST" if is_ollama else name)
    notice = engine_places.notice(url, "Ollama" if is_ollama else name)
    if refusal is not None:
        seen, _, remedy = refusal.partition("; ")
        yield Finding(name, Verdict.WARN, seen, remedy)
    elif notice is not None:
        is_plain = engine_places.is_unencrypted(url)
        remedy = "use https, or an engine on this machine" if is_plain else None
        yield Finding(name, Verdict.WARN if is_plain else Verdict.OK, notice, remedy)


def _tables(_context: DoctorContext) -> Iterator[Finding]:
    return ages.old_tables(datetime.now(UTC).date())


def _settings(context: DoctorContext) -> Settings:
    path = context.options.database
    # Another check reports problems of the ledger.
    with suppress(LedgerError):
        if not isinstance(path, Path):
            return examine_database(path).settings or Settings()
        return (examine(path).settings if path.exists() else None) or Settings()
    return Settings()


CHECKS: dict[str, Callable[[DoctorContext], Iterator[Finding]]] = {
    "program": _program,
    "clients": _assistants,
    "transcripts": _logs,
    "ledger": _ledger,
    "ledger file": _ledger_file,
    "ollama": _ollama,
    "tables": _tables,
}
"""All checks, in the order of the report."""


def _parsed(configuration: Configuration) -> Json:
    file = configuration.file
    try:
        text = regular_files.content(file, LARGEST).decode()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise DocumentError(f"{file} is not UTF-8") from None
    try:
        document = configuration.syntax.read(text.removeprefix("\ufeff"))
    except DocumentError as error:
        raise DocumentError(f"{file}: {error}") from None
    refused = json_edit.lenience(text) if configuration.is_plain_json else None
    if refused is not None:
        raise DocumentError(f"{file}: the client cannot read this file: it has {refused}")
    return document


def report(findings: tuple[Finding, ...]) -> str:
    """Format the findings: one line each, with the fix on the next line."""
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.verdict:<5} {finding.check:<15} {finding.seen}")
        if finding.remedy is not None:
            lines.append(f"{'':<21} -> {finding.remedy}")
    return "\n".join(lines)


def has_failed(findings: tuple[Finding, ...]) -> bool:
    """Return whether any check failed."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)
