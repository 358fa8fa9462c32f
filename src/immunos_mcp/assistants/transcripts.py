"""The transcripts that assistants write on this machine: where they are, and how far each was read."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from stat import S_ISREG
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from immunos_mcp.assistants.line_readers import LineReader
    from immunos_mcp.logged_usage import (
        ConversationTotal,
        MeasuredUsage,
        PlanReport,
    )
    from immunos_mcp.transcript_position import TranscriptPosition

BATCH_RECORDS = 2000
"""Responses in a batch: few enough for a short transaction, many enough to be fast."""

CLOCK_SLACK = timedelta(days=1)
"""How far a file's time may lag behind the times in it, because file systems and clocks disagree."""

SETTLING_NS = 3 * 10**9
"""How long after a change the same time may stand for another one: some file systems count by 2 s."""

MOST_LINKED_FOLDERS = 10_000
"""Folders behind links that are listed: a link may lead to a disk full of other things."""

READ_BEFORE = "?"
"""The context of a transcript that was read before its format had one."""

_SIGNED = 2**63 - 1
"""The largest number that the ledger stores; some file systems have larger inodes and times."""


def _no_moment(_part: bytes) -> datetime | None:
    return None


class TranscriptFormat(Struct, frozen=True):
    """The format of an assistant's transcripts: JSON lines, some of which have usage.

    Attributes:
        client: the beginning of the name that the assistant gives itself as an MCP client.
        mark: bytes that every line with usage contains; other lines are skipped unparsed.
        reader: returns a reader for the file at a path, with the context of an earlier reading of it.
        total_mark: bytes that every line with a conversation's total contains; empty: there is none.
        last_moment: returns the last time written down in a part of a transcript.
        ending: of the names of its files.
    """

    client: str
    mark: bytes
    reader: Callable[[str, str], LineReader]
    total_mark: bytes = b""
    last_moment: Callable[[bytes], datetime | None] = _no_moment
    ending: str = ".jsonl"


class DocumentFormat(Struct, frozen=True):
    """The format of an assistant's log that is no file of lines.

    Attributes:
        client: the beginning of the name that the assistant gives itself as an MCP client.
        read: reads the new part, like ``read`` for transcripts.
        ending: of the names of its files.
    """

    client: str
    read: Callable[[Transcript, TranscriptPosition | None, datetime | None], Iterator[Batch]]
    ending: str | tuple[str, ...] = ""


LogFormat: TypeAlias = TranscriptFormat | DocumentFormat


class TranscriptSource(Protocol):
    """Where an assistant's logs are."""

    @property
    def format(self) -> LogFormat:
        """The format of the logs."""
        ...

    @property
    def unreachable(self) -> set[str]:
        """What could not be examined at the last look."""
        ...

    def exist(self) -> bool:
        """Return whether there are logs on this machine."""
        ...

    def changed(
        self, positions: Mapping[str, TranscriptPosition], since: datetime | None
    ) -> list[Transcript]:
        """List the logs with unread content."""
        ...

    def links(self) -> list[str]:
        """Return the links that are not followed."""
        ...


class Transcript(Struct, frozen=True):
    """A transcript file as listed in its folder.

    Attributes:
        is_settled: whether a later change would show in its time.
    """

    path: str
    inode: int
    size: int
    modified_ns: int
    is_settled: bool = True

    @property
    def name(self) -> str:
        """The path as it is stored and shown."""
        return shown_path(self.path)


def shown_path(path: str) -> str:
    """Return a path as text that can be stored and shown; bytes that are not UTF-8 are escaped."""
    return path if path.isascii() else path.encode("utf-8", "backslashreplace").decode()


class TranscriptFolders:
    """Finds an assistant's transcripts.

    Listings of unchanged folders are cached, so that checking again costs one ``stat`` per file.

    Attributes:
        unreachable: the folders that could not be listed at the last look, and the files in folders
            that may be listed and not entered.
        unfollowed: the links in transcript folders that could not be followed at the last look, and
            what was left out behind others for its number.
    """

    def __init__(self, roots: tuple[Path, ...], transcript_format: LogFormat) -> None:
        self.format = transcript_format
        self.unreachable: set[str] = set()
        self.unfollowed: set[str] = set()
        self._roots = tuple(str(root) for root in roots)
        self._listings: dict[str, _Listing] = {}

    def exist(self) -> bool:
        """Return whether there is a transcript folder on this machine."""
        return any(os.path.isdir(root) for root in self._roots)  # noqa: PTH112  # runs at each call

    def changed(
        self, positions: Mapping[str, TranscriptPosition], since: datetime | None
    ) -> list[Transcript]:
        """List the transcripts with unread content, oldest change first.

        Args:
            positions: how far each transcript was read, by path.
            since: skip transcripts last written before this time.
        """
        since_ns = 0 if since is None else int((since - CLOCK_SLACK).timestamp()) * 10**9
        settled_ns = time.time_ns() - SETTLING_NS
        self.unreachable.clear()
        found: list[Transcript] = []
        for path in self.paths():
            try:
                status = os.stat(path, follow_symlinks=False)  # noqa: PTH116  # a thousand a call
            except OSError as error:
                self._miss(path, error)
                continue
            # Programs set the one time at will, and the other one shows that they did.
            modified_ns = max(status.st_mtime_ns, status.st_ctime_ns) & _SIGNED
            now = (status.st_ino & _SIGNED, status.st_size, modified_ns)
            position = positions.get(shown_path(path))
            if position is not None and position[1:4] == now:
                continue
            if status.st_mtime_ns >= since_ns and S_ISREG(status.st_mode):
                found.append(Transcript(path, *now, modified_ns < settled_ns))
        found.sort(key=lambda transcript: transcript.modified_ns)
        return found

    def links(self) -> list[str]:
        """Return the links to folders and to transcripts that are not followed."""
        for _ in self.paths():
            pass
        links = {link for listing in self._listings.values() for link in listing.links}
        return sorted(links | self.unfollowed)

    def _miss(self, path: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self.unreachable.add(shown_path(path))

    def paths(self) -> Iterator[str]:
        """List all transcripts.

        A link in a transcript folder itself, such as that of a project moved to another disk, is
        followed, unless it leads to a folder above; all other links are not. No folder is listed twice.
        """
        self.unfollowed.clear()
        waiting, linked = list(self._roots), list[str]()
        listed: set[tuple[int, int]] = set()
        is_behind_link, behind_links = False, 0
        while waiting or linked:
            # Links come last, so that what is in its own place is known by that path.
            is_behind_link = is_behind_link or not waiting
            behind_links += is_behind_link
            folder = waiting.pop() if waiting else linked.pop()
            if behind_links > MOST_LINKED_FOLDERS:
                self.unfollowed.add(shown_path(folder))
                continue
            try:
                status = os.stat(folder)  # noqa: PTH116  # a thousand a call
                if (status.st_dev, status.st_ino) in listed:
                    continue
                listed.add((status.st_dev, status.st_ino))
                listing = self._listing(folder, (status.st_mtime_ns, status.st_ctime_ns))
            except OSError as error:
                self._listings.pop(folder, None)
                self._miss(folder, error)
                continue
            yield from listing.transcripts
            waiting.extend(listing.folders)
            linked.extend(listing.followed)
            self.unfollowed.update(listing.unfollowed)

    def _listing(self, folder: str, times: tuple[int, int]) -> _Listing:
        listing = self._listings.get(folder)
        if listing is None or listing.times != times:
            listing = _list(folder, times, self._roots, self.format.ending)
        is_settled = max(times) < time.time_ns() - SETTLING_NS
        # Another file may still come at the same time.
        self._listings[folder] = listing if is_settled else replace(listing, times=(0, 0))
        return listing


class _Listing(Struct, frozen=True):
    """What is in a folder, and the folder's times before it was listed.

    Attributes:
        times: when its content and its inode last changed.
        transcripts: the files.
        folders: the folders.
        links: the links in other folders than a root, which are not followed.
        followed: the links to folders in a root.
        unfollowed: those that lead to a folder above, or nowhere.
    """

    times: tuple[int, int]
    transcripts: tuple[str, ...]
    folders: tuple[str, ...]
    links: tuple[str, ...]
    followed: tuple[str, ...]
    unfollowed: tuple[str, ...]


def _list(
    folder: str, times: tuple[int, int], roots: Sequence[str], ending: str | tuple[str, ...]
) -> _Listing:
    transcripts: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    followed: list[str] = []
    unfollowed: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_named_so = entry.name.endswith(ending)
            if not entry.is_symlink():
                if is_named_so:
                    transcripts.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
            elif folder in roots and _leads_below(entry.path, roots):
                followed.append(entry.path)
            elif folder in roots and (entry.is_dir() or not os.path.exists(entry.path)):  # noqa: PTH110
                unfollowed.append(shown_path(entry.path))
            elif is_named_so or entry.is_dir():
                links.append(shown_path(entry.path))
    return _Listing(
        times, tuple(transcripts), tuple(folders), tuple(links), tuple(followed), tuple(unfollowed)
    )


def _leads_below(link: str, roots: Sequence[str]) -> bool:
    """Return whether a link leads to a folder that contains none of the transcript folders."""
    target = os.path.realpath(link)
    return os.path.isdir(target) and not any(  # noqa: PTH112  # texts
        os.path.commonpath([target, os.path.realpath(root)]) == target for root in roots
    )


class Batch(Struct, frozen=True):
    """What was read from one transcript, and the position reached.

    Attributes:
        usage: the responses.
        position: the position.
        totals: the conversations' totals.
        reports: the last one of each of the subscription's limits.
    """

    usage: tuple[MeasuredUsage, ...]
    position: TranscriptPosition
    totals: tuple[ConversationTotal, ...] = ()
    reports: tuple[PlanReport, ...] = ()


def later_left_out(left_out_before: str, since: datetime) -> str:
    """Return the moment that responses were left out before, after one before ``since`` was."""
    return max(left_out_before, since.astimezone(UTC).isoformat())


def unsettled(size: int) -> int:
    """Return the size that a position has while its transcript may change without a change of time."""
    return -2 - size


def reaches_back(position: TranscriptPosition, since: datetime | None) -> bool:
    """Return whether a reading skipped nothing from ``since`` on (``None``: nothing at all)."""
    if not position.left_out_before:
        return True
    return since is not None and datetime.fromisoformat(position.left_out_before) <= since
