"""Sets up assistants and removes the setup: plans the changes, then applies all of them or none.

A record of what was written lets an uninstallation restore every byte if the file has not changed since;
otherwise it removes our entries and leaves the rest.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import config_files, install_record
from immunos_mcp.assistants.config_files import FileChange, InstallError
from immunos_mcp.assistants.configuration import url_of
from immunos_mcp.assistants.documents import DocumentError, items, member
from immunos_mcp.assistants.json_edit import lenience

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.config_files import FileText
    from immunos_mcp.assistants.configuration import Assistant, Configuration, Entry
    from immunos_mcp.assistants.install_record import WrittenFile


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes of an installation or uninstallation.

    Attributes:
        assistant: the name of the assistant.
        files: all its files, changed or not.
        changes: the files that would change.
        notes: what stays unchanged, and why.
        is_removal: whether this is an uninstallation.
    """

    assistant: str
    files: tuple[Path, ...]
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    is_removal: bool = False


def plan_install(assistant: Assistant, configurations: Sequence[Configuration]) -> Plan:
    """Plan the changes to an assistant's files.

    If a plugin already provides the server, only entries that a plugin cannot provide are added.

    Raises:
        InstallError: a file cannot be read, or has another program's entry under our name.
    """
    notes: list[str] = []
    changes: list[FileChange] = []
    sources = [_source(configuration, configurations) for configuration in configurations]
    has_plugin = assistant.has_plugin([source.document for source in sources])
    if has_plugin:
        notes.append("The plugin is installed and provides the server and its hooks")
    for source in sources:
        wanted = source.configuration
        mark = "\ufeff" if source.decoded.has_mark else ""
        refused = lenience(mark + source.decoded.text) if wanted.is_plain_json else None
        if refused is not None:
            notes.append(
                f"{wanted.file}: {assistant.title} cannot read this file: it has {refused}; remove it"
            )
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
    """Plan the removal of our entries from an assistant's files.

    Raises:
        InstallError: a file cannot be read, or has another program's entry under our name.
    """
    known = install_record.load(assistant.name)
    removals = [_removal(each, known.get(str(each.file))) for each in configurations]
    files = tuple(configuration.file for configuration in configurations)
    changes = tuple(change for change in removals if change is not None)
    return Plan(assistant.name, files, changes, is_removal=True)


def apply(plan: Plan) -> tuple[Path, ...]:
    """Apply a plan, completely or not at all; return the backups.

    Raises:
        InstallError: a file has changed since it was planned, or cannot be written.
    """
    for change in plan.changes:
        if config_files.read(change.file) != change.before:
            raise InstallError(f"{change.file} was just changed by another program; try again")
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
        journal.roll_back()
        raise InstallError(f"{error.filename}: {error.strerror}; nothing was changed") from None
    return tuple(Path(each.backup) for each in written.values() if each.backup is not None)


class _Journal:
    """Writes files one by one, and can roll all of them back."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Remember which folders do not exist yet."""
        self._written: list[FileChange] = []
        self._missing_folders = [
            folder for file in files for folder in file.parents if not folder.exists()
        ]

    def write(self, file: Path, content: bytes | None) -> None:
        """Replace a file and remember what it held."""
        before = config_files.read(file)
        config_files.write(file, content)
        self._written.append(FileChange(file, before, content))

    def roll_back(self) -> None:
        """Restore every file and remove the folders that were created."""
        for change in reversed(self._written):
            config_files.write(change.file, change.before)
        for folder in self._missing_folders:
            with suppress(OSError):
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file as it is: its bytes, their text, and the parsed document."""

    configuration: Configuration
    content: bytes | None
    decoded: FileText
    document: dict[str, Json]


def _source(configuration: Configuration, configurations: Sequence[Configuration]) -> _Source:
    content = config_files.read(configuration.file)
    decoded = config_files.decoded(content, configuration.file)
    try:
        document = configuration.syntax.read(decoded.text)
    except DocumentError as error:
        raise _refusal(configurations, configuration, error) from None
    return _Source(configuration, content, decoded, document)


def _installation(source: _Source, wanted: Configuration, notes: list[str]) -> FileChange:
    """Return the change that adds the wanted entries to a file."""
    text = source.decoded.text
    held_ours = _without_ours(text, wanted, None) != text
    for entry in wanted.entries:
        text = _installed(text, entry, wanted, notes)
    made = tuple(_missing(wanted, source.document))
    after = source.decoded.encoded(text)
    return FileChange(wanted.file, source.content, after, held_ours, made)


def _missing(configuration: Configuration, document: dict[str, Json]) -> Iterator[tuple[str, ...]]:
    """Yield the objects and lists that must be created for the entries."""
    for entry in configuration.entries:
        is_item = entry.without_ours is not None
        for depth in range(1, len(entry.path) + is_item):
            if member(document, entry.path[:depth]) is None:
                yield entry.path[:depth]


def _installed(text: str, entry: Entry, configuration: Configuration, notes: list[str]) -> str:
    syntax = configuration.syntax
    existing = member(syntax.read(text), entry.path)
    name = ".".join(entry.path)
    if entry.without_ours is not None:
        if existing is not None and not isinstance(existing, list):
            raise DocumentError(f"{name} is not a list")
        known = items(existing)
        others = entry.without_ours(known)
        if entry.value in known and len(others) == len(known) - 1:
            return text
        return syntax.put(text, entry.path, [*others, entry.value])
    if existing is not None and not entry.is_ours(existing):
        if not entry.yields:
            raise InstallError(_another(configuration, entry))
        notes.append(f"{configuration.file}: {name} is already set and stays unchanged")
        return text
    value = entry.value
    if existing is not None and (url_of(existing) is None) is not (url_of(value) is None):
        raise InstallError(_set_up_otherwise(configuration, entry))
    if isinstance(existing, dict) and isinstance(value, dict):
        value = {**existing, **value}
    return syntax.put(text, entry.path, value)


def _another(configuration: Configuration, entry: Entry) -> str:
    return (
        f"{configuration.file}: {'.'.join(entry.path)} belongs to another program; "
        "rename or remove it first. Nothing was changed"
    )


def _set_up_otherwise(configuration: Configuration, entry: Entry) -> str:
    name = ".".join(entry.path)
    uses = "starts a server" if url_of(entry.value) is not None else "uses a server over HTTP"
    return (
        f"{configuration.file}: {name} {uses}; undo that setup first, with --uninstall. "
        "Nothing was changed"
    )


def _removal(configuration: Configuration, written: WrittenFile | None) -> FileChange | None:
    """Return the change that removes our entries from a file; ``None``: it has none."""
    file = configuration.file
    now = config_files.read(file)
    if now is None:
        return None
    if written is not None and written.is_as_written(now):
        before = written.original()
        if before is not None or written.was_missing:
            return FileChange(file, now, before)
    decoded = config_files.decoded(now, file)
    try:
        left = _without_ours(decoded.text, configuration, written)
    except DocumentError as error:
        raise InstallError(f"{file}: {error}; nothing was changed") from None
    after = decoded.encoded(left)
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
    existing = member(syntax.read(text), entry.path)
    if existing is None:
        return text
    depth = len(entry.path)
    if entry.without_ours is not None:
        groups = items(existing)
        others = entry.without_ours(groups)
        if others == groups:
            return text
        text = syntax.put(text, entry.path, others)
        depth += 1
    elif entry.is_ours(existing):
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
    """Return the error for a file that cannot be edited, with the entries to add by hand."""
    lines = [f"{broken.file}: {error}. Nothing was changed. Add this by hand:"]
    for configuration in configurations:
        text = ""
        for entry in configuration.entries:
            text = _installed(text, entry, configuration, [])
        lines += ("", f"{configuration.file}:", text.rstrip())
    return InstallError("\n".join(lines))
