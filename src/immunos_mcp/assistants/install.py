"""Setting an assistant up and undoing it: what would change, shown first; then all of it or nothing.

A record of what was written lets an uninstallation give every byte back as long as nobody else changed
the file since; otherwise it takes out what is ours and leaves the rest.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import config_files, install_record
from immunos_mcp.assistants.config_files import FileChange, InstallError
from immunos_mcp.assistants.documents import DocumentError, items, member

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.assistants.config_files import FileText
    from immunos_mcp.assistants.configuration import Assistant, Configuration, Entry
    from immunos_mcp.assistants.documents import Json
    from immunos_mcp.assistants.install_record import WrittenFile


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation or its undoing would do.

    Attributes:
        assistant: the name of the assistant.
        files: all its files, to be changed or not.
        changes: the files that would change.
        notes: what is left as it is, and why.
        is_removal: whether it undoes an installation.
    """

    assistant: str
    files: tuple[Path, ...]
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    is_removal: bool = False


def plan_install(assistant: Assistant, configurations: Sequence[Configuration]) -> Plan:
    """Work out what an assistant's files would hold.

    Where it has the router as a plugin, only what a plugin cannot bring is left to do.

    Raises:
        InstallError: a file cannot be read, or holds an entry of our name that is not ours.
    """
    notes: list[str] = []
    changes: list[FileChange] = []
    sources = [_source(configuration, configurations) for configuration in configurations]
    has_plugin = assistant.has_plugin([source.document for source in sources])
    if has_plugin:
        notes.append("The plugin is installed and brings the server and its hooks")
    for source in sources:
        wanted = source.configuration
        if has_plugin:
            left = tuple(entry for entry in wanted.entries if entry.yields)
            wanted = replace(wanted, entries=left)
        try:
            change = _installation(source, wanted, notes)
        except DocumentError as error:
            raise _refusal(configurations, wanted, error) from None
        if change.after != (change.before or b""):
            changes.append(change)
    files = tuple(configuration.file for configuration in configurations)
    return Plan(assistant.name, files, tuple(changes), tuple(notes))


def plan_uninstall(assistant: Assistant, configurations: Sequence[Configuration]) -> Plan:
    """Work out what an assistant's files would hold without us.

    Raises:
        InstallError: a file cannot be read, or holds an entry of our name that is not ours.
    """
    known = install_record.load(assistant.name)
    removals = [_removal(each, known.get(str(each.file))) for each in configurations]
    files = tuple(configuration.file for configuration in configurations)
    changes = tuple(change for change in removals if change is not None)
    return Plan(assistant.name, files, changes, is_removal=True)


def apply(plan: Plan) -> tuple[Path, ...]:
    """Write what was planned, all of it or nothing; return the backups that were made.

    Raises:
        InstallError: a file has changed since it was planned, or cannot be written.
    """
    for change in plan.changes:
        if config_files.read(change.file) != change.before:
            raise InstallError(f"{change.file} has just been changed by someone else; try again")
    record = install_record.record_file(plan.assistant)
    journal = _Journal([*(change.file for change in plan.changes), record])
    try:
        if plan.is_removal:
            for change in plan.changes:
                journal.write(change.file, change.after)
            install_record.forget(plan.assistant, plan.files)
            return ()
        known = install_record.load(plan.assistant)
        written = {
            str(change.file): install_record.recorded(
                change, known.get(str(change.file)), journal.write
            )
            for change in plan.changes
        }
        journal.write(record, install_record.encoded({**known, **written}))
        for change in plan.changes:
            journal.write(change.file, change.after)
    except OSError as error:
        journal.take_back()
        raise InstallError(f"{error.filename}: {error.strerror}; nothing was changed") from None
    return tuple(Path(each.backup) for each in written.values() if each.backup is not None)


class _Journal:
    """Files written one by one, and what takes them all back."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Remember which folders of the files are there."""
        self._written: list[FileChange] = []
        self._missing_folders = [
            folder for file in files for folder in file.parents if not folder.exists()
        ]

    def write(self, file: Path, content: bytes | None) -> None:
        """Replace a file and remember what it held."""
        before = config_files.read(file)
        config_files.write(file, content)
        self._written.append(FileChange(file, before, content))

    def take_back(self) -> None:
        """Give every file what it held, and remove the folders that were made."""
        for change in reversed(self._written):
            config_files.write(change.file, change.before)
        for folder in self._missing_folders:
            with suppress(OSError):
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file as it is: its bytes, their text, and what that says."""

    configuration: Configuration
    content: bytes | None
    spelled: FileText
    document: dict[str, Json]


def _source(configuration: Configuration, configurations: Sequence[Configuration]) -> _Source:
    content = config_files.read(configuration.file)
    spelled = config_files.decoded(content, configuration.file)
    try:
        document = configuration.syntax.read(spelled.text)
    except DocumentError as error:
        raise _refusal(configurations, configuration, error) from None
    return _Source(configuration, content, spelled, document)


def _installation(source: _Source, wanted: Configuration, notes: list[str]) -> FileChange:
    """Return what becomes of a file that is to hold what is wanted."""
    text = source.spelled.text
    held_ours = _without_ours(text, wanted, None) != text
    for entry in wanted.entries:
        text = _installed(text, entry, wanted, notes)
    made = tuple(_missing(wanted, source.document))
    after = source.spelled.encoded(text)
    return FileChange(wanted.file, source.content, after, held_ours, made)


def _missing(configuration: Configuration, document: dict[str, Json]) -> Iterator[tuple[str, ...]]:
    """Find the objects and lists that are made for the entries."""
    for entry in configuration.entries:
        is_item = entry.without_ours is not None
        for depth in range(1, len(entry.path) + is_item):
            if member(document, entry.path[:depth]) is None:
                yield entry.path[:depth]


def _installed(text: str, entry: Entry, configuration: Configuration, notes: list[str]) -> str:
    syntax = configuration.syntax
    there = member(syntax.read(text), entry.path)
    name = ".".join(entry.path)
    if entry.without_ours is not None:
        if there is not None and not isinstance(there, list):
            raise DocumentError(f"{name} is no list")
        known = items(there)
        others = entry.without_ours(known)
        if entry.value in known and len(others) == len(known) - 1:
            return text
        return syntax.put(text, entry.path, [*others, entry.value])
    if there is not None and not entry.is_ours(there):
        if not entry.yields:
            raise InstallError(_another(configuration, entry))
        notes.append(f"{configuration.file}: {name} is set already and stays as it is")
        return text
    value = entry.value
    if isinstance(there, dict) and isinstance(value, dict):
        value = {**there, **value}
    return syntax.put(text, entry.path, value)


def _another(configuration: Configuration, entry: Entry) -> str:
    return (
        f"{configuration.file}: {'.'.join(entry.path)} is another program's; "
        "rename or remove it first. Nothing was changed"
    )


def _removal(configuration: Configuration, written: WrittenFile | None) -> FileChange | None:
    """Return what becomes of a file that is to hold nothing of ours; ``None``: it stays."""
    file = configuration.file
    now = config_files.read(file)
    if now is None:
        return None
    if written is not None and written.is_as_written(now):
        before = written.original()
        if before is not None or written.was_missing:
            return FileChange(file, now, before)
    spelled = config_files.decoded(now, file)
    try:
        left = _without_ours(spelled.text, configuration, written)
    except DocumentError as error:
        raise InstallError(f"{file}: {error}; nothing was changed") from None
    after = spelled.encoded(left)
    if after == now:
        return None
    is_made = written is not None and written.was_missing
    is_empty = is_made and "".join(left.split()) in {"", "{}"}
    return FileChange(file, now, None if is_empty else after)


def _without_ours(text: str, configuration: Configuration, written: WrittenFile | None) -> str:
    document = configuration.syntax.read(text)
    for entry in reversed(configuration.entries):
        if not entry.marker or member(document, entry.marker) is not None:
            text = _uninstalled(text, entry, configuration, written)
    return text


def _uninstalled(
    text: str, entry: Entry, configuration: Configuration, written: WrittenFile | None
) -> str:
    syntax = configuration.syntax
    there = member(syntax.read(text), entry.path)
    if there is None:
        return text
    depth = len(entry.path)
    if entry.without_ours is not None:
        groups = items(there)
        others = entry.without_ours(groups)
        if others == groups:
            return text
        text = syntax.put(text, entry.path, others)
        depth += 1
    elif entry.is_ours(there):
        text = syntax.remove(text, entry.path)
    elif entry.yields:
        return text
    else:
        raise InstallError(_another(configuration, entry))
    if syntax.IMPLIES_CONTAINERS:
        return text
    for end in range(depth - 1, 0, -1):
        container = entry.path[:end]
        is_made = written is None or container in written.made_containers
        if is_made and member(syntax.read(text), container) in ({}, []):
            text = syntax.remove(text, container)
    return text


def _refusal(
    configurations: Sequence[Configuration], broken: Configuration, error: DocumentError
) -> InstallError:
    """Say where a file cannot be taken, and what to put into the assistant's files by hand."""
    lines = [f"{broken.file}: {error}. Nothing was changed. To be put there by hand:"]
    for configuration in configurations:
        text = ""
        for entry in configuration.entries:
            text = _installed(text, entry, configuration, [])
        lines += ("", f"{configuration.file}:", text.rstrip())
    return InstallError("\n".join(lines))
