"""Records of written configuration files, so that an uninstallation can restore every byte."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import config_files, regular_files
from immunos_mcp.options import home_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from immunos_mcp.assistants.config_files import FileChange

BACKUP_SUFFIX = ".immunos-backup"


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """The record of a written file.

    Attributes:
        checksum: of the written content; empty: restoring the backup would lose other changes.
        was_missing: whether the file was created.
        backup: the path of the backup.
        backup_checksum: of the backup, to detect changes.
        made_folders: folders created for the file, innermost first.
        made_containers: objects and lists created in it.
    """

    checksum: str
    was_missing: bool
    backup: str | None = None
    backup_checksum: str = ""
    made_folders: tuple[str, ...] = ()
    made_containers: tuple[tuple[str, ...], ...] = ()

    def is_as_written(self, content: bytes | None) -> bool:
        """Return whether a file still has the content that was written."""
        return content is not None and self.checksum == _checksum(content)

    def original(self) -> bytes | None:
        """Return the original content, if the backup is intact."""
        content = None if self.backup is None else config_files.read(Path(self.backup))
        if content is None or _checksum(content) != self.backup_checksum:
            return None
        return content


def record_file(name: str) -> Path:
    """Return the path of an assistant's records."""
    return home_folder() / ".immunos" / "installed" / f"{name}.json"


def load(name: str) -> dict[str, WrittenFile]:
    """Return the records of an assistant's files, by path; none if they are damaged."""
    try:
        stored = json.loads(regular_files.content(record_file(name), config_files.LARGEST))
        return {
            file: WrittenFile(
                str(each["checksum"]),
                bool(each["was_missing"]),
                each["backup"],
                str(each["backup_checksum"]),
                tuple(each["made_folders"]),
                tuple(tuple(path) for path in each["made_containers"]),
            )
            for file, each in stored.items()
        }
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}


def encoded(known: Mapping[str, WrittenFile]) -> bytes:
    """Encode records for storage."""
    return json.dumps({file: asdict(each) for file, each in known.items()}, indent=1).encode()


def recorded(
    change: FileChange,
    earlier: WrittenFile | None,
    write: Callable[[Path, bytes | None], None],
) -> WrittenFile:
    """Back up a file, unless the backup from before our first change exists; return its record."""
    is_untouched = earlier is not None and earlier.is_as_written(change.before)
    # Changes between two installations may be meant to stay: then remove only our entries.
    is_exact = earlier is None or is_untouched or not change.held_ours
    written = earlier
    if written is None or not is_untouched:
        written = _backed_up(change, earlier, write)
        if earlier is not None and not is_exact:
            written = replace(
                written,
                was_missing=earlier.was_missing,
                made_containers=earlier.made_containers,
            )
    made = [str(folder) for folder in change.file.parents if not folder.exists()]
    return replace(
        written,
        checksum=_checksum(change.after or b"") if is_exact else "",
        made_folders=(*made, *written.made_folders),
        made_containers=tuple(dict.fromkeys((*written.made_containers, *change.made_containers))),
    )


def _backed_up(
    change: FileChange,
    earlier: WrittenFile | None,
    write: Callable[[Path, bytes | None], None],
) -> WrittenFile:
    folders = () if earlier is None else earlier.made_folders
    if change.before is None:
        return WrittenFile("", was_missing=True, made_folders=folders)
    backup = _free_backup(change.file, earlier)
    write(backup, change.before)
    return WrittenFile(
        "",
        was_missing=False,
        backup=str(backup),
        backup_checksum=_checksum(change.before),
        made_folders=folders,
    )


def _free_backup(file: Path, earlier: WrittenFile | None) -> Path:
    """Return an unused path for a backup."""
    if earlier is not None and earlier.backup is not None:
        return Path(earlier.backup)
    number, backup = 1, file.with_name(file.name + BACKUP_SUFFIX)
    while backup.exists():
        number += 1
        backup = file.with_name(f"{file.name}{BACKUP_SUFFIX}-{number}")
    return backup


def forget(name: str, files: Sequence[Path]) -> None:
    """Delete the records of an assistant's files, and the folders that were created for them."""
    known = load(name)
    for file in files:
        written = known.pop(str(file), None)
        if written is not None:
            _clear(file, written)
    record = record_file(name)
    if known:
        config_files.write(record, encoded(known))
        return
    record.unlink(missing_ok=True)
    with suppress(OSError):
        record.parent.rmdir()
        record.parent.parent.rmdir()


def _clear(file: Path, written: WrittenFile) -> None:
    # A user who deleted the file or changed the backup may want the backup.
    if written.backup is not None and file.exists() and written.original() is not None:
        Path(written.backup).unlink()
    for folder in written.made_folders:
        # A folder that is no longer empty has files of others.
        with suppress(OSError):
            Path(folder).rmdir()


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
