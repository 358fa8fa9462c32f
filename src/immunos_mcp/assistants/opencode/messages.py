"""opencode's log: the messages in its database, which are changed in place, or its earlier files.

Version 2 keeps its messages in a table of its own, beside those of version 1.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from msgspec import DecodeError
from msgspec.json import Decoder

from immunos_mcp.assistants.opencode import message_files
from immunos_mcp.assistants.opencode.message_usage import as_before, usage_of
from immunos_mcp.assistants.transcripts import (
    BATCH_RECORDS,
    SETTLING_NS,
    Batch,
    DocumentFormat,
    Transcript,
    TranscriptFolders,
    later_left_out,
    shown_path,
    unsettled,
)
from immunos_mcp.transcript_position import TranscriptPosition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.logged_usage import MeasuredUsage

LATE_MS = 60_000
"""How long after the time in a row its transaction may be committed."""

PATIENCE_SECONDS = 1.0

_SIGNED = 2**63 - 1
_decode: Decoder[dict[str, object]] = Decoder(dict[str, object])


class DatabaseFile:
    """Finds opencode's database, which changes if its write-ahead log does.

    Attributes:
        unreachable: the file, if it is there and cannot be examined.
    """

    def __init__(self, path: str) -> None:
        self.format = FORMAT
        self.unreachable: set[str] = set()
        self._path = path

    def exist(self) -> bool:
        """Return whether there is a database."""
        return os.path.isfile(self._path)  # noqa: PTH113  # runs at each call

    def links(self) -> list[str]:
        """Return nothing: a link to the file is followed."""
        return []

    def changed(
        self, positions: Mapping[str, TranscriptPosition], since: datetime | None
    ) -> list[Transcript]:
        """Return the database if it has unread content; rows tell more than its time, so ``since`` does not matter."""
        del since
        self.unreachable.clear()
        try:
            status = os.stat(self._path)  # noqa: PTH116  # at each call
        except FileNotFoundError:
            return []
        except OSError:
            self.unreachable.add(shown_path(self._path))
            return []
        if not S_ISREG(status.st_mode):
            return []
        statuses = [status]
        with suppress(OSError):
            statuses.append(os.stat(f"{self._path}-wal"))  # noqa: PTH116  # likewise
        modified_ns = max(max(each.st_mtime_ns, each.st_ctime_ns) for each in statuses) & _SIGNED
        size = sum(each.st_size for each in statuses)
        found = Transcript(
            self._path,
            status.st_ino & _SIGNED,
            size,
            modified_ns,
            modified_ns < time.time_ns() - SETTLING_NS,
        )
        position = positions.get(found.name)
        now = (found.inode, found.size, found.modified_ns)
        return [found] if position is None or position[1:4] != now else []


def read(
    transcript: Transcript, position: TranscriptPosition | None, since: datetime | None
) -> Iterator[Batch]:
    """Read the messages that were changed since an earlier reading, in batches.

    Raises:
        OSError: the database cannot be read.
    """
    unread, left_out_before, latest = 0, "", 0
    if position is not None and position.inode == transcript.inode:
        unread, left_out_before = position.unread_lines, position.left_out_before
        latest = int(position.context) if position.context.isdecimal() else 0
    known_until, now_ms = latest, time.time_ns() // 10**6

    def reached(size: int) -> TranscriptPosition:
        return TranscriptPosition(
            transcript.name,
            transcript.inode,
            size,
            transcript.modified_ns,
            transcript.size,
            0,
            unread,
            left_out_before,
            str(latest),
        )

    usage: list[MeasuredUsage] = []
    for session, changed_ms, message, folder in _rows(transcript.path, max(0, latest - LATE_MS)):
        try:
            found = _usage(session, message, folder)
        except ValueError:
            # What is read again for its time was counted then.
            unread += changed_ms > known_until
            found = None
        if found is not None and since is not None and found.at < since:
            left_out_before = later_left_out(left_out_before, since)
        elif found is not None:
            usage.append(found)
        if len(usage) >= BATCH_RECORDS:
            yield Batch(tuple(usage), reached(-1))
            usage.clear()
        latest = max(latest, min(changed_ms, now_ms))
    size = transcript.size if transcript.is_settled else unsettled(transcript.size)
    yield Batch(tuple(usage), reached(size))


def _rows(path: str, since_ms: int) -> Iterator[tuple[str, int, str, str | None]]:
    """Return the assistant's messages changed since a moment, oldest change first.

    Those of version 2 have the folder of their session, which is empty if it is not known.
    """
    place = f"{Path(path).absolute().as_uri()}?mode=ro"
    # Without a log nobody has the database open, and reading it as usual would leave a log behind.
    if not any(os.path.exists(f"{path}{ending}") for ending in ("-wal", "-journal")):  # noqa: PTH110
        place += "&immutable=1"
    try:
        with closing(sqlite3.connect(place, uri=True, timeout=PATIENCE_SECONDS)) as connection:
            # Text that is not UTF-8 costs its row, not the rest.
            connection.text_factory = _text
            yield from connection.execute(_query(connection), {"since": since_ms})
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error


_OF_ALL = "session_id, CAST(time_updated AS INTEGER) AS changed_ms, CAST(data AS TEXT)"


def _query(connection: sqlite3.Connection) -> str:
    columns: defaultdict[str, set[str]] = defaultdict(set)
    for table, column in connection.execute(
        "SELECT tables.name, columns.name FROM sqlite_master AS tables,"
        " pragma_table_info(tables.name) AS columns"
        " WHERE tables.name IN ('message', 'session_message', 'session_v2', 'session')"
    ):
        columns[table].add(column)
    parts: list[str] = []
    if "message" in columns or "session_message" not in columns:
        parts.append(
            f"SELECT {_OF_ALL}, NULL FROM message"  # noqa: S608  # a constant
            " WHERE time_updated >= :since AND data LIKE '%\"assistant\"%'"
        )
    if "type" in columns["session_message"]:
        sessions = [name for name in ("session_v2", "session") if "directory" in columns[name]]
        folder = f"SELECT directory FROM {sessions[0]} WHERE id = session_id" if sessions else "''"  # noqa: S608  # constants
        parts.append(
            f"SELECT {_OF_ALL}, coalesce(({folder}), '') FROM session_message"  # noqa: S608  # constants
            " WHERE time_updated >= :since AND type = 'assistant'"
        )
    return f"{' UNION ALL '.join(parts)} ORDER BY changed_ms"


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def _usage(session: str, data: str, folder: str | None) -> MeasuredUsage | None:
    """Return the usage of a message; ``None``: it is another's, or has not ended.

    Raises:
        ValueError: it should have usage, which cannot be read.
    """
    try:
        message: dict[str, Json] = _decode.decode(data)  # pyright: ignore[reportAssignmentType]  # it is JSON
    except (DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from None
    return usage_of(session, message if folder is None else as_before(message, folder))


def _read_either(
    transcript: Transcript, position: TranscriptPosition | None, since: datetime | None
) -> Iterator[Batch]:
    is_file = transcript.path.endswith(message_files.ENDING)
    yield from (
        message_files.read(transcript, since) if is_file else read(transcript, position, since)
    )


FORMAT = DocumentFormat(client="opencode", read=_read_either, ending=message_files.ENDING)


class Logs:
    """opencode's database, or the files that it had before there was one, which it copied into it.

    Attributes:
        format: the format of both.
    """

    def __init__(self, folder: Path) -> None:
        self.format = FORMAT
        self._database = DatabaseFile(str(folder / "opencode.db"))
        self._files = TranscriptFolders((folder / "storage" / "message",), FORMAT)

    @property
    def unreachable(self) -> set[str]:
        """What could not be examined at the last look."""
        return self._database.unreachable | self._files.unreachable

    def exist(self) -> bool:
        """Return whether there is either."""
        return self._database.exist() or self._files.exist()

    def links(self) -> list[str]:
        """Return the links that are not followed."""
        return self._files.links()

    def changed(
        self, positions: Mapping[str, TranscriptPosition], since: datetime | None
    ) -> list[Transcript]:
        """List what has unread content."""
        found = self._database.changed(positions, since)
        has_database = self._database.exist() or self._database.unreachable
        return found if has_database else self._files.changed(positions, since)


def source(place: str) -> DatabaseFile | Logs:
    """Return the logs in opencode's folder, or a database elsewhere."""
    return Logs(Path(place)) if os.path.isdir(place) else DatabaseFile(place)  # noqa: PTH112  # never raises
