"""Follows the assistants' transcripts and stores new usage in the ledger."""

from __future__ import annotations

from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING

from immunos_mcp.answers.usage import SyncAnswer
from immunos_mcp.assistants import transcripts
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.domain import CLAUDE_CODE
from immunos_mcp.ledger.measured_usage import (
    ReadingState,
    forget_future,
    reading_state,
    unread_lines,
)
from immunos_mcp.ledger.moments import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.assistants.bulk_reading import Portion, Reading
    from immunos_mcp.assistants.other_logs import OtherLogs
    from immunos_mcp.assistants.transcripts import (
        LogFormat,
        Transcript,
        TranscriptSource,
    )
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.logged_usage import MeasuredUsage
    from immunos_mcp.transcript_position import TranscriptPosition


class Follower:
    """Remembers how far transcripts were read, so that unchanged ones are not read again."""

    def __init__(
        self, ledger: Ledger, folders: TranscriptFolders, others: OtherLogs | None = None
    ) -> None:
        """Follow Claude Code's transcripts, and the logs of others that there are."""
        self._unreadable: set[str] = set()
        self._ledger = ledger
        self._folders = folders
        self._others = others
        self._read_so_far = ReadingState(None, {})
        self._replacements = ledger.replacements

    @property
    def unread_files(self) -> frozenset[str]:
        """The transcripts, and folders of transcripts, that could not be read."""
        unreachable = (each.unreachable for each in self._sources())
        hidden = () if self._others is None else self._others.hidden().values()
        return frozenset(self._unreadable.union(self._folders.unfollowed, hidden, *unreachable))

    def exist(self) -> bool:
        """Return whether there are transcripts, or may be, of any assistant on this machine."""
        return any(each.exist() for each in self._sources())

    def beginning(self, now: datetime, conversation: str | None) -> datetime | None:
        """Return when a conversation began, or else the first of those active in the last hours.

        Other assistants' conversations matter where none of Claude Code's is active. A conversation
        without lines is new, and had responses before this at most since a moment ago.
        """
        from immunos_mcp.assistants import conversations  # once in a session

        found = conversations.beginning(self._folders, now, conversation)
        if found is not None:
            return found
        others = (each for each in self._sources() if isinstance(each, TranscriptFolders))
        began = (conversations.beginning(each, now, None) for each in others)
        unwritten = None if conversation is None else now - conversations.UNWRITTEN
        return min((each for each in began if each is not None and each <= now), default=unwritten)

    def measured_since(
        self, since: datetime, largest: int | None = None
    ) -> tuple[MeasuredUsage, ...]:
        """Return the usage in the transcripts from a time on, whether it is stored or not."""
        from immunos_mcp.assistants import conversations  # only where nothing is counted

        return conversations.usage_since(self._folders, since, largest)

    def look_back(self) -> None:
        """Find out again, at the next call, back to when usage matters."""
        self._read_so_far = ReadingState(None, {})

    def is_measured(self, client: str) -> bool:
        """Return whether a client, by its own name, writes transcripts that we read."""
        return any(
            client.startswith(source.format.client) and source.exist() for source in self._sources()
        )

    def assistants(self) -> tuple[str, ...]:
        """Return the assistants that there are logs of, by name."""
        names = self._names()
        return tuple(names[source.format] for source in self._sources() if source.exist())

    async def catch_up(
        self, now: datetime, largest: int | None = None, *, is_patient: bool = True
    ) -> bool:
        """Store the usage written since the last call; return whether all of it was stored.

        If nothing was written, this only checks each transcript's size and time. Nothing is read until
        the ledger has a session to count it in.

        Args:
            now: the current time, with its time zone.
            largest: read transcripts of an assistant with this many unread bytes together, and leave the
                others.
            is_patient: wait long for other programs that write to the ledger.

        Raises:
            LedgerBusyError: another program writes for too long; a later call reads the rest.
        """
        if self._replacements != self._ledger.replacements:
            # Another ledger knows other positions.
            self._replacements, self._read_so_far = (
                self._ledger.replacements,
                ReadingState(None, {}),
            )
        since = self._read_so_far.since
        if since is not None and since <= now + CLOCK_TOLERANCE and not self._changed():
            return True
        self._read_so_far = await self._ledger.read(reading_state, now)
        if self._read_so_far.is_ahead:
            write = self._ledger.write if is_patient else self._ledger.write_soon
            await write(forget_future, now)
            self._read_so_far = await self._ledger.read(reading_state, now)
        if self._read_so_far.since is None:
            return True
        is_complete = True
        for transcript_format, waiting in self._changed():
            left = largest
            for transcript in waiting:
                if left is not None:
                    unread = self._unread_bytes(transcript)
                    if unread > left:
                        # What others have left is shown beside the budget, and may come later.
                        is_complete &= transcript_format is not self._folders.format
                        continue
                    left -= unread
                await self._store(transcript, transcript_format, is_patient=is_patient)
        return is_complete

    async def sync(
        self, now: datetime, since: datetime | None, progress: Callable[[int, int], None]
    ) -> SyncAnswer:
        """Import the history in all transcripts, back to ``since`` (``None``: all).

        All of it includes what prices depend on, so transcripts that an earlier version read are read
        again, once.

        Args:
            now: the current time, with its time zone.
            since: skip usage before this time, unless an open session counts it.
            progress: receives the bytes read so far and the total, after each portion.
        """
        # Only one command needs these.
        from immunos_mcp.assistants import bulk_reading
        from immunos_mcp.ledger.ingestion import ingest

        self._read_so_far = await self._ledger.read(reading_state, now)
        if since is not None and self._read_so_far.since is not None:
            since = min(since, self._read_so_far.since)
        readings = self._readings(since)
        names = self._names()
        total = sum(each.size for found in readings.values() for each, _ in found)
        read, added = 0, Counter[str]()
        for assistant, portion in chain.from_iterable(
            zip(repeat(names[log]), bulk_reading.read_portions(found, log, since), strict=False)
            for log, found in readings.items()
        ):
            added[assistant] += await self._ledger.write(
                ingest,
                portion.usage,
                portion.positions,
                portion.totals,
                reports=portion.reports,
                is_last=False,
            )
            self._note(portion)
            read += portion.size
            progress(read, total)
        await self._ledger.write(ingest, ())
        return SyncAnswer(
            transcripts=sum(
                _has_news(*reading) for found in readings.values() for reading in found
            ),
            added=added.total(),
            by_assistant=None if +added == {CLAUDE_CODE: added.total()} else dict(+added) or None,
            unread_lines=await self._ledger.read(unread_lines) or None,
            unread_files=len(self.unread_files) or None,
        )

    def _readings(self, since: datetime | None) -> dict[LogFormat, list[Reading]]:
        """Return what an import has to read, and how far that was read in the way it needs."""
        usable = {
            path: position
            for path, position in self._read_so_far.positions.items()
            if transcripts.reaches_back(position, since)
            and (since is not None or position.has_price_terms)
        }
        return {
            source.format: [
                (transcript, usable.get(transcript.name))
                for transcript in source.changed(usable, since)
            ]
            for source in self._sources()
        }

    def _note(self, portion: Portion) -> None:
        read = {position.path: position for position in portion.positions}
        self._read_so_far.positions.update(read)
        self._unreadable.difference_update(read)
        self._unreadable.update(portion.unreadable)

    def _names(self) -> dict[LogFormat, str]:
        """Return the assistants' names by the format of their logs."""
        names: dict[LogFormat, str] = {self._folders.format: CLAUDE_CODE}
        if self._others is not None:
            names |= {each.format: name for name, each in self._others.by_assistant().items()}
        return names

    def _sources(self) -> tuple[TranscriptSource, ...]:
        return (self._folders, *(() if self._others is None else self._others.sources()))

    def _changed(self) -> list[tuple[LogFormat, list[Transcript]]]:
        positions, since = self._read_so_far.positions, self._read_so_far.since
        found = ((each.format, each.changed(positions, since)) for each in self._sources())
        return [(transcript_format, waiting) for transcript_format, waiting in found if waiting]

    def _unread_bytes(self, transcript: Transcript) -> int:
        position = self._read_so_far.positions.get(transcript.name)
        return transcript.size - (0 if position is None else position.read_bytes)

    async def _store(
        self, transcript: Transcript, transcript_format: LogFormat, *, is_patient: bool
    ) -> None:
        # Most looks find nothing to read.
        from immunos_mcp.assistants import transcript_reading
        from immunos_mcp.ledger.ingestion import ingest

        write = self._ledger.write if is_patient else self._ledger.write_soon
        position = self._read_so_far.positions.get(transcript.name)
        since = self._read_so_far.since
        try:
            for batch in transcript_reading.read(transcript, transcript_format, position, since):
                if batch.usage or batch.totals or batch.position != position:
                    positions = (batch.position,)
                    await write(ingest, batch.usage, positions, batch.totals, reports=batch.reports)
                self._read_so_far.positions[transcript.name] = batch.position
        except OSError:
            self._unreadable.add(transcript.name)
        else:
            self._unreadable.discard(transcript.name)


def _has_news(transcript: Transcript, position: TranscriptPosition | None) -> bool:
    """Return whether a transcript has changed, as far as its size and time tell."""
    return position is None or position[1:4] != (
        transcript.inode,
        transcripts.unsettled(transcript.size),
        transcript.modified_ns,
    )
