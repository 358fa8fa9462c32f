"""Setting a client up and undoing it: what would change, shown first; then all of it or nothing.

A record of what was written, beside the ledger's folder, lets ``uninstall`` give every byte back as long
as nobody else changed the file since; otherwise it takes out what is ours and leaves the rest.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from immunos_mcp.assistants import configuration as entries
from immunos_mcp.assistants import json_edit as documents
from immunos_mcp.assistants.json_edit import DocumentError
from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from immunos_mcp.assistants.configuration import Client, Configuration, Entry
    from immunos_mcp.assistants.json_edit import Json

BACKUP_SUFFIX = ".immunos-backup"
CONTEXT_LINES = 3
LONGEST_LINE = 400
"""A document with a longer line is laid out anew where its change is shown."""


class InstallError(ImmunosError):
    """A client cannot be set up, or not be undone, as it is; nothing was changed."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file before and after; ``None`` is a file that is not there.

    Attributes:
        file: the file, by the name that its client knows.
        before: what it holds.
        after: what it is to hold.
        held_ours: whether something of ours is in it already.
        made_containers: the paths of objects and lists that are made in it for our entries.
    """

    file: Path
    before: bytes | None
    after: bytes | None
    held_ours: bool = False
    made_containers: tuple[tuple[str, ...], ...] = ()

    def difference(self) -> str:
        """Return the change as a unified diff, of the documents laid out where lines are long."""
        texts = [(content or b"").decode("utf-8-sig") for content in (self.before, self.after)]
        if any(len(line) > LONGEST_LINE for text in texts for line in text.splitlines()):
            with suppress(DocumentError):
                texts = [
                    json.dumps(documents.read_json(text), indent=2, ensure_ascii=False)
                    for text in texts
                ]
        before, after = (text.splitlines() for text in texts)
        return "\n".join(_difference(before, after, str(self.file)))


def _difference(before: list[str], after: list[str], name: str) -> Iterator[str]:
    """Compare what lies between the lines that both begin and end with: all else takes minutes."""
    shorter = min(len(before), len(after))
    start = next((line for line in range(shorter) if before[line] != after[line]), shorter)
    left = shorter - start
    end = next((line for line in range(left) if before[-1 - line] != after[-1 - line]), left)
    skipped = max(0, start - CONTEXT_LINES)
    kept = max(0, end - CONTEXT_LINES)
    found = difflib.unified_diff(
        before[skipped : len(before) - kept],
        after[skipped : len(after) - kept],
        name,
        name,
        lineterm="",
        n=CONTEXT_LINES,
    )
    for line in found:
        if line.startswith("@@ "):
            yield re.sub(r"(?<=[-+])\d+", lambda number: str(int(number[0]) + skipped), line)
        else:
            yield line


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation or its undoing would do.

    Attributes:
        files: all files of the client, to be changed or not.
        changes: the files that would change.
        notes: what is left as it is, and why.
    """

    files: tuple[Path, ...]
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Written:
    """What is kept of a file that was written.

    Attributes:
        checksum: of what was written; empty where the bytes of before would not undo it.
        was_missing: whether the file was made.
        backup: where the bytes of before are, and ...
        backup_checksum: ... what tells that they still are.
        made_folders: folders that were made for the file, innermost first.
        made_containers: objects and lists that were made in it.
    """

    checksum: str
    was_missing: bool
    backup: str | None = None
    backup_checksum: str = ""
    made_folders: tuple[str, ...] = ()
    made_containers: tuple[tuple[str, ...], ...] = ()


def record_file(client: Client) -> Path:
    """Return where it is kept what was installed for a client."""
    return Path.home() / ".immunos" / "installed" / f"{client}.json"


def plan_install(configurations: Sequence[Configuration]) -> Plan:
    """Work out what a client's files would hold.

    Where Claude Code has the router as a plugin, only what a plugin cannot bring is left to do.

    Raises:
        InstallError: a file cannot be read, or holds an entry of our name that is not ours.
    """
    notes: list[str] = []
    changes: list[FileChange] = []
    sources = [_source(configuration, configurations) for configuration in configurations]
    has_plugin = any(entries.has_plugin(source.document) for source in sources)
    if has_plugin:
        notes.append("The plugin is installed and brings the server and its hooks")
    for source in sources:
        configuration, text = source.configuration, source.text
        if has_plugin:
            left = tuple(entry for entry in configuration.entries if entry.yields)
            configuration = replace(configuration, entries=left)
        made = tuple(_missing(configuration, source.document))
        try:
            held_ours = _without_ours(text, configuration, None) != text
            for entry in configuration.entries:
                text = _installed(text, entry, configuration, notes)
        except DocumentError as error:
            raise _refusal(configurations, configuration, error) from None
        after = source.layout.encoded(text)
        if after != (source.content or b""):
            change = FileChange(configuration.file, source.content, after, held_ours, made)
            changes.append(change)
    files = tuple(configuration.file for configuration in configurations)
    return Plan(files, tuple(changes), tuple(notes))


def plan_uninstall(client: Client, configurations: Sequence[Configuration]) -> Plan:
    """Work out what a client's files would hold without us.

    Raises:
        InstallError: a file cannot be read, or holds an entry of our name that is not ours.
    """
    changes: list[FileChange] = []
    known = _record(client)
    for configuration in configurations:
        now = _read(configuration.file)
        if now is None:
            continue
        written = known.get(str(configuration.file))
        if written is not None and written.checksum == _checksum(now):
            before = _before(written)
            if before is not None or written.was_missing:
                changes.append(FileChange(configuration.file, now, before))
                continue
        text, layout = _decoded(now, configuration.file)
        try:
            left = _without_ours(text, configuration, written)
        except DocumentError as error:
            raise InstallError(f"{configuration.file}: {error}; nothing was changed") from None
        after = layout.encoded(left)
        if after != now:
            is_made = written is not None and written.was_missing
            is_empty = is_made and "".join(left.split()) in {"", "{}"}
            changes.append(FileChange(configuration.file, now, None if is_empty else after))
    return Plan(tuple(each.file for each in configurations), tuple(changes))


def apply(client: Client, plan: Plan, *, uninstall: bool = False) -> tuple[Path, ...]:
    """Write what was planned, all of it or nothing; return the backups that were made.

    Raises:
        InstallError: a file has changed since it was planned, or cannot be written.
    """
    for change in plan.changes:
        if _read(change.file) != change.before:
            raise InstallError(f"{change.file} has just been changed by someone else; try again")
    undo: list[FileChange] = []

    def write(file: Path, content: bytes | None) -> None:
        before = _read(file)
        _write(file, content)
        undo.append(FileChange(file, content, before))

    folders = [
        folder
        for file in (*(change.file for change in plan.changes), record_file(client))
        for folder in file.parents
        if not folder.exists()
    ]
    try:
        if uninstall:
            for change in plan.changes:
                write(change.file, change.after)
            _forget(client, plan.files)
            return ()
        record, backups = _kept(client, plan, write)
        write(record_file(client), json.dumps(record, indent=1).encode())
        for change in plan.changes:
            write(change.file, change.after)
    except OSError as error:
        for change in reversed(undo):
            _write(change.file, change.after)
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()
        raise InstallError(f"{error.filename}: {error.strerror}; nothing was changed") from None
    return backups


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


@dataclass(frozen=True, slots=True)
class _Source:
    """A file as it is: its bytes, their text, and what that says."""

    configuration: Configuration
    content: bytes | None
    text: str
    layout: _Layout
    document: dict[str, Json]


def _source(configuration: Configuration, configurations: Sequence[Configuration]) -> _Source:
    content = _read(configuration.file)
    text, layout = _decoded(content, configuration.file)
    try:
        document = _document(text, configuration)
    except DocumentError as error:
        raise _refusal(configurations, configuration, error) from None
    return _Source(configuration, content, text, layout, document)


def _document(text: str, configuration: Configuration) -> dict[str, Json]:
    return documents.read_toml(text) if configuration.is_toml else documents.read_json(text)


def _found(document: Json, path: Sequence[str]) -> Json:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _missing(configuration: Configuration, document: dict[str, Json]) -> Iterator[tuple[str, ...]]:
    for entry in configuration.entries:
        for depth in range(1, len(entry.path) + entry.is_item):
            if _found(document, entry.path[:depth]) is None:
                yield entry.path[:depth]


def _installed(text: str, entry: Entry, configuration: Configuration, notes: list[str]) -> str:
    there = _found(_document(text, configuration), entry.path)
    name = ".".join(entry.path)
    if entry.is_item:
        if there is not None and not isinstance(there, list):
            raise DocumentError(f"{name} is no list")
        groups = there or []
        others = entries.without_our_hooks(groups)
        if entry.value in groups and len(others) == len(groups) - 1:
            return text
        return documents.set_json(text, entry.path, [*others, entry.value])
    if entry.yields and there is not None and not entries.is_ours(there, entry):
        notes.append(f"{configuration.file}: {name} is set already and stays as it is")
        return text
    if there is not None and not entries.is_ours(there, entry):
        raise InstallError(_another(configuration, entry))
    if configuration.is_toml:
        values = cast("dict[str, Json]", entry.value)
        return documents.set_toml_table(text, entry.path, values)
    value = entry.value
    if isinstance(there, dict) and isinstance(value, dict):
        value = {**there, **value}
    return documents.set_json(text, entry.path, value)


def _another(configuration: Configuration, entry: Entry) -> str:
    return (
        f"{configuration.file}: {'.'.join(entry.path)} is another program's; "
        "rename or remove it first. Nothing was changed"
    )


def _without_ours(text: str, configuration: Configuration, written: _Written | None) -> str:
    exports = _found(_document(text, configuration), ["env", "IMMUNOS_TELEMETRY"])
    for entry in reversed(configuration.entries):
        # Without ours, another program's export may be what the other variables are for.
        if entry.path[0] != "env" or exports is not None:
            text = _uninstalled(text, entry, configuration, written)
    return text


def _uninstalled(
    text: str, entry: Entry, configuration: Configuration, written: _Written | None
) -> str:
    there = _found(_document(text, configuration), entry.path)
    if there is None:
        return text
    depth = len(entry.path)
    if entry.is_item:
        groups = there if isinstance(there, list) else []
        others = entries.without_our_hooks(groups)
        if others == groups:
            return text
        text = documents.set_json(text, entry.path, others)
        depth += 1
    elif not entries.is_ours(there, entry):
        if entry.yields:
            return text
        raise InstallError(_another(configuration, entry))
    elif configuration.is_toml:
        return documents.remove_toml_table(text, entry.path)
    else:
        text = documents.remove_json(text, entry.path)
    for end in range(depth - 1, 0, -1):
        container = entry.path[:end]
        is_made = written is None or container in written.made_containers
        if is_made and _found(documents.read_json(text), container) in ({}, []):
            text = documents.remove_json(text, container)
    return text


def _refusal(
    configurations: Sequence[Configuration], broken: Configuration, error: DocumentError
) -> InstallError:
    """Say where a file cannot be taken, and what to put into the client's files by hand."""
    lines = [f"{broken.file}: {error}. Nothing was changed. To be put there by hand:"]
    for configuration in configurations:
        text = ""
        for entry in configuration.entries:
            text = _installed(text, entry, configuration, [])
        lines += ("", f"{configuration.file}:", text.rstrip())
    return InstallError("\n".join(lines))


def _record(client: Client) -> dict[str, _Written]:
    try:
        stored = json.loads(record_file(client).read_text(encoding="utf-8"))
        return {
            file: _Written(
                str(each["checksum"]),
                bool(each["was_missing"]),
                each["backup"],
                str(each["backup_checksum"]),
                tuple(each["made_folders"]),
                tuple(tuple(path) for path in each["made_containers"]),
            )
            for file, each in stored.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _before(written: _Written) -> bytes | None:
    """Return what a file held before, if that is still known."""
    content = None if written.backup is None else _read(Path(written.backup))
    if content is None or _checksum(content) != written.backup_checksum:
        return None
    return content


def _kept(
    client: Client, plan: Plan, write: Callable[[Path, bytes | None], None]
) -> tuple[dict[str, dict[str, object]], tuple[Path, ...]]:
    """Back up what is there, unless a backup of before our first change is; return the record."""
    known = _record(client)
    backups: list[Path] = []
    for change in plan.changes:
        earlier = known.get(str(change.file))
        written = earlier
        is_untouched = (
            earlier is not None
            and change.before is not None
            and earlier.checksum == _checksum(change.before)
        )
        # What came between two installations may be meant to stay: then only entries come out.
        is_exact = earlier is None or is_untouched or not change.held_ours
        if written is None or not is_untouched:
            written = _backed_up(change, earlier, write)
            if earlier is not None and not is_exact:
                written = replace(
                    written,
                    was_missing=earlier.was_missing,
                    made_containers=earlier.made_containers,
                )
        if written.backup is not None:
            backups.append(Path(written.backup))
        made = [str(folder) for folder in change.file.parents if not folder.exists()]
        known[str(change.file)] = replace(
            written,
            checksum=_checksum(change.after or b"") if is_exact else "",
            made_folders=(*made, *written.made_folders),
            made_containers=tuple(
                dict.fromkeys((*written.made_containers, *change.made_containers))
            ),
        )
    return {file: asdict(written) for file, written in known.items()}, tuple(backups)


def _backed_up(
    change: FileChange, earlier: _Written | None, write: Callable[[Path, bytes | None], None]
) -> _Written:
    folders = () if earlier is None else earlier.made_folders
    if change.before is None:
        return _Written("", was_missing=True, made_folders=folders)
    backup = _free_backup(change.file, earlier)
    write(backup, change.before)
    return _Written(
        "",
        was_missing=False,
        backup=str(backup),
        backup_checksum=_checksum(change.before),
        made_folders=folders,
    )


def _free_backup(file: Path, earlier: _Written | None) -> Path:
    """Return a place for a backup where nobody else's file is."""
    if earlier is not None and earlier.backup is not None:
        return Path(earlier.backup)
    number, backup = 1, file.with_name(file.name + BACKUP_SUFFIX)
    while backup.exists():
        number += 1
        backup = file.with_name(f"{file.name}{BACKUP_SUFFIX}-{number}")
    return backup


def _forget(client: Client, files: Sequence[Path]) -> None:
    known = _record(client)
    for file in files:
        written = known.pop(str(file), None)
        if written is None:
            continue
        # Somebody who deleted the file, or changed the copy, may want the copy.
        if written.backup is not None and file.exists() and _before(written) is not None:
            Path(written.backup).unlink()
        for folder in written.made_folders:
            # One that holds something by now is somebody else's too.
            with suppress(OSError):
                Path(folder).rmdir()
    record = record_file(client)
    if known:
        text = json.dumps({name: asdict(written) for name, written in known.items()}, indent=1)
        _write(record, text.encode())
        return
    record.unlink(missing_ok=True)
    with suppress(OSError):
        record.parent.rmdir()
        record.parent.parent.rmdir()


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
    for folder in reversed([folder for folder in target.parents if not folder.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
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
