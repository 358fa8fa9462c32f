"""Setting a client up and undoing it: what would change, shown first; then all of it or nothing.

A record of what was written, beside the ledger's folder, lets ``uninstall`` give every byte back as long
as nobody else changed the file since; otherwise it takes out what is ours and leaves the rest.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from immunos_mcp.clients import documents
from immunos_mcp.clients.documents import DocumentError
from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.clients.documents import Json
    from immunos_mcp.clients.entries import Client, Configuration, Entry

PROGRAM = "immunos-mcp"
BACKUP_SUFFIX = ".immunos-backup"


class InstallError(ImmunosError):
    """A client cannot be set up, or not be undone, as it is; nothing was changed."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file before and after; ``None`` is a file that is not there."""

    file: Path
    before: bytes | None
    after: bytes | None

    def difference(self) -> str:
        """Return the change as a unified diff."""
        before, after = ((text or b"").decode().splitlines() for text in (self.before, self.after))
        return "\n".join(
            difflib.unified_diff(before, after, str(self.file), str(self.file), lineterm="")
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation or its undoing would do.

    Attributes:
        changes: the files that would change.
        notes: what is left as it is, and why.
    """

    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]


def record_file(client: Client) -> Path:
    """Return where it is kept what was installed for a client."""
    return Path.home() / ".immunos" / "installed" / f"{client}.json"


def plan_install(configurations: Sequence[Configuration]) -> Plan:
    """Work out what a client's files would hold.

    Raises:
        InstallError: a file cannot be read, or holds an entry of our name that is not ours.
    """
    changes: list[FileChange] = []
    notes: list[str] = []
    for configuration in configurations:
        before = _read(configuration.file)
        text, layout = _decoded(before, configuration.file)
        try:
            for entry in configuration.entries:
                text = _installed(text, entry, configuration, notes)
        except DocumentError as error:
            raise InstallError(_by_hand(configuration, str(error))) from None
        after = layout.encoded(text)
        if after != before and text.strip():
            changes.append(FileChange(configuration.file, before, after))
    return Plan(tuple(changes), tuple(notes))


def plan_uninstall(client: Client, configurations: Sequence[Configuration]) -> Plan:
    """Work out what a client's files would hold without us.

    Raises:
        InstallError: a file cannot be read.
    """
    changes: list[FileChange] = []
    written = _record(client)
    for configuration in configurations:
        now = _read(configuration.file)
        if now is None:
            continue
        known = written.get(str(configuration.file))
        if known is not None and known.checksum == _checksum(now):
            before = None if known.was_missing else _read(_backup(configuration.file))
            if before is not None or known.was_missing:
                changes.append(FileChange(configuration.file, now, before))
                continue
        text, layout = _decoded(now, configuration.file)
        try:
            exports = _found(_document(text, configuration), ["env", "IMMUNOS_TELEMETRY"])
            for entry in reversed(configuration.entries):
                # Without ours, another program's export may be what the other variables are for.
                if entry.path[0] != "env" or exports is not None:
                    text = _uninstalled(text, entry, configuration)
        except DocumentError as error:
            raise InstallError(f"{configuration.file}: {error}; nothing was changed") from None
        after = layout.encoded(text)
        if after != now:
            changes.append(FileChange(configuration.file, now, after))
    return Plan(tuple(changes), ())


def apply(client: Client, plan: Plan, *, uninstall: bool = False) -> tuple[Path, ...]:
    """Write what was planned, all of it or nothing; return the backups that were made.

    Raises:
        InstallError: a file has changed since it was planned, or cannot be written.
    """
    for change in plan.changes:
        if _read(change.file) != change.before:
            raise InstallError(f"{change.file} has just been changed by someone else; try again")
    backups: list[Path] = []
    done: list[FileChange] = []
    try:
        if not uninstall:
            backups = _keep(client, plan.changes)
        for change in plan.changes:
            _write(change.file, change.after)
            done.append(change)
    except OSError as error:
        for change in reversed(done):
            _write(change.file, change.before)
        raise InstallError(f"{error.filename}: {error.strerror}; nothing was changed") from None
    if uninstall:
        _forget(client)
    return tuple(backups)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file's text is spelled as bytes."""

    has_mark: bool
    has_returns: bool

    def encoded(self, text: str) -> bytes:
        spelled = text.replace("\n", "\r\n") if self.has_returns else text
        return spelled.encode("utf-8-sig" if self.has_mark else "utf-8")


def _decoded(content: bytes | None, file: Path) -> tuple[str, _Layout]:
    try:
        text = (content or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InstallError(f"{file} is no UTF-8; nothing was changed") from None
    has_returns = "\r\n" in text and "\n" not in text.replace("\r\n", "")
    layout = _Layout((content or b"").startswith(b"\xef\xbb\xbf"), has_returns)
    return text.replace("\r\n", "\n") if has_returns else text, layout


def _document(text: str, configuration: Configuration) -> dict[str, Json]:
    return documents.read_toml(text) if configuration.is_toml else documents.read_json(text)


def _found(document: Json, path: Sequence[str]) -> Json:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _installed(text: str, entry: Entry, configuration: Configuration, notes: list[str]) -> str:
    there = _found(_document(text, configuration), entry.path)
    name = ".".join(entry.path)
    if entry.is_item:
        items = there if isinstance(there, list) else []
        if there is not None and not isinstance(there, list):
            raise DocumentError(f"{name} is no list")
        kept = [item for item in items if not _is_ours(item, entry)]
        wanted: Json = [*kept, entry.value]
        return text if entry.value in items else documents.set_json(text, entry.path, wanted)
    if there is None:
        return _set(text, entry, entry.value, configuration)
    if entry.yields:
        if not _is_ours(there, entry):
            notes.append(f"{configuration.file}: {name} is set already and stays as it is")
            return text
        return text if there == entry.value else _set(text, entry, entry.value, configuration)
    if not _is_ours(there, entry) or not isinstance(there, dict):
        raise DocumentError(f"{name} is another program's; rename or remove it first")
    merged = {**there, **cast("dict[str, Json]", entry.value)}
    return text if merged == there else _set(text, entry, merged, configuration)


def _set(text: str, entry: Entry, value: Json, configuration: Configuration) -> str:
    if configuration.is_toml:
        return documents.set_toml_table(text, entry.path, cast("dict[str, Json]", value))
    return documents.set_json(text, entry.path, value)


def _uninstalled(text: str, entry: Entry, configuration: Configuration) -> str:
    there = _found(_document(text, configuration), entry.path)
    if there is None:
        return text
    if entry.is_item:
        items = there if isinstance(there, list) else []
        kept = [item for item in items if not _is_ours(item, entry)]
        if kept == items:
            return text
        if kept:
            return documents.set_json(text, entry.path, kept)
    elif not _is_ours(there, entry):
        return text
    if configuration.is_toml:
        return documents.remove_toml_table(text, entry.path)
    text = documents.remove_json(text, entry.path)
    for depth in range(len(entry.path) - 1, 0, -1):
        if _found(documents.read_json(text), entry.path[:depth]) == {}:
            text = documents.remove_json(text, entry.path[:depth])
    return text


def _is_ours(there: Json, entry: Entry) -> bool:
    if there == entry.value:
        return True
    if not isinstance(there, dict):
        return False
    if entry.is_item:
        hooks = there.get("hooks")
        mine = cast("dict[str, list[dict[str, Json]]]", entry.value)["hooks"][0]["tool"]
        named = [_found(hook, ["tool"]) for hook in _listed(hooks)]
        return bool(named) and all(tool == mine for tool in named)
    words = [there.get("command"), *_listed(there.get("args"))]
    return any(PROGRAM in Path(str(word)).name or word == "immunos_mcp" for word in words) or (
        isinstance(there.get("command"), str) and PROGRAM in str(there.get("command"))
    )


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _by_hand(configuration: Configuration, problem: str) -> str:
    lines = [f"{configuration.file}: {problem}. Nothing was changed. To be put there by hand:"]
    for entry in configuration.entries:
        spelled = json.dumps(entry.value, ensure_ascii=False)
        lines.append(f"  {'.'.join(entry.path)}{'[]' if entry.is_item else ''} = {spelled}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Written:
    checksum: str
    was_missing: bool
    made_folders: tuple[str, ...] = ()


def _record(client: Client) -> dict[str, _Written]:
    try:
        stored = json.loads(record_file(client).read_text(encoding="utf-8"))
        return {file: _Written(**written) for file, written in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _keep(client: Client, changes: Sequence[FileChange]) -> list[Path]:
    """Back up what is there, unless a backup of before our first change is, and note what follows."""
    known = _record(client)
    written = {str(file): each for file, each in known.items()}
    backups: list[Path] = []
    for change in changes:
        earlier = known.get(str(change.file))
        is_ours = earlier is not None and earlier.checksum == _checksum(change.before or b"")
        was_missing = change.before is None or (
            is_ours and earlier is not None and earlier.was_missing
        )
        if change.before is not None and not is_ours:
            _write(_backup(change.file), change.before)
        if not was_missing:
            backups.append(_backup(change.file))
        made = [str(folder) for folder in change.file.parents if not folder.exists()]
        made_folders = (*made, *(earlier.made_folders if earlier is not None else ()))
        written[str(change.file)] = _Written(
            _checksum(change.after or b""), was_missing, made_folders
        )
    file = record_file(client)
    for folder in (file.parent.parent, file.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stored = {
        name: {
            "checksum": each.checksum,
            "was_missing": each.was_missing,
            "made_folders": list(each.made_folders),
        }
        for name, each in written.items()
    }
    _write(file, json.dumps(stored, indent=1).encode())
    return backups


def _forget(client: Client) -> None:
    for name, written in _record(client).items():
        _backup(Path(name)).unlink(missing_ok=True)
        for folder in written.made_folders:
            # One that holds something by now is somebody else's too.
            with suppress(OSError):
                Path(folder).rmdir()
    record_file(client).unlink(missing_ok=True)
    with suppress(OSError):
        record_file(client).parent.rmdir()
        record_file(client).parent.parent.rmdir()


def _backup(file: Path) -> Path:
    return file.with_name(file.name + BACKUP_SUFFIX)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{file}: {error.strerror}; nothing was changed") from None


def _write(file: Path, content: bytes | None) -> None:
    """Replace a file in one step, through a link that it may be; keep its mode."""
    target = Path(os.path.realpath(file))
    if content is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(handle)
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
