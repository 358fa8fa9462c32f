"""Follows an assistant's transcripts and stores new usage in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.answers.usage import SyncAnswer
from immunos_mcp.assistants import conversations, transcripts
from immunos_mcp.ledger.measured_usage import (
    CLOCK_TOLERANCE,
    ReadingState,
    forget_future,
    ingest,
    reading_state,
    unread_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from immunos_mcp.assistants.transcripts import Transcript, TranscriptFolders
    from immunos_mcp.domain import MeasuredUsage, TranscriptPosition
    from immunos_mcp.ledger.connections.sqlite import SqliteLedger


class Follower:
    """Remembers how far transcripts were read, so that unchanged ones are not read again."""

    def __init__(self, ledger: SqliteLedger, folders: TranscriptFolders) -> None:
        self._unreadable: set[str] = set()
        self._ledger = ledger
        self._folders = folders
        self._read_so_far = ReadingState(None, {})
        self._replacements = ledger.replacements

    @property
    def unread_files(self) -> frozenset[str]:
        """The transcripts, and folders of transcripts, that could not be read."""
        return frozenset(self._unreadable | self._folders.unreachable | self._folders.unfollowed)

    def exist(self) -> bool:
        """Return whether there are transcripts, or may be, on this machine."""
        return self._folders.exist()

    def beginning(self, now: datetime, conversation: str | None) -> datetime | None:
        """Return when a conversation began, or else the first of those active in the last hours."""
        return conversations.beginning(self._folders, now, conversation)

    def measured_since(
        self, since: datetime, largest: int | None = None
    ) -> tuple[MeasuredUsage, ...]:
        """Return the usage in the transcripts from a time on, whether it is stored or not."""
        return conversations.usage_since(self._folders, since, largest)

    def look_back(self) -> None:
        """Find out again, at the next call, back to when usage matters."""
        self._read_so_far = ReadingState(None, {})

    def is_measured(self, client: str) -> bool:
        """Return whether a client, by its own name, writes transcripts that we read."""
        return client.startswith(self._folders.format.client) and self._folders.exist()

    async def catch_up(
        self, now: datetime, largest: int | None = None, *, is_patient: bool = True
    ) -> bool:
        """Store the usage written since the last call; return whether all of it was stored.

        If nothing was written, this only checks each transcript's size and time. Nothing is read until
        the ledger has a session to count it in.

        Args:
            now: the current time, with its time zone.
            largest: read transcripts with this many unread bytes together, and leave the others.
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
        left = largest
        is_complete = True
        for transcript in self._changed():
            if left is not None:
                unread = self._unread_bytes(transcript)
                if unread > left:
                    is_complete = False
                    continue
                left -= unread
            await self._store(transcript, is_patient=is_patient)
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
        from immunos_mcp.assistants import bulk_reading  # only one command needs it

        self._read_so_far = await self._ledger.read(reading_state, now)
        if since is not None and self._read_so_far.since is not None:
            since = min(since, self._read_so_far.since)
        positions = self._read_so_far.positions
        usable = {
            path: position
            for path, position in positions.items()
            if transcripts.reaches_back(position, since)
            and (since is not None or position.has_price_terms)
        }
        waiting = self._folders.changed(usable, since)
        readings = [(transcript, usable.get(transcript.name)) for transcript in waiting]
        total = sum(transcript.size for transcript in waiting)
        read = added = 0
        for portion in bulk_reading.read_portions(readings, self._folders.format, since):
            added += await self._ledger.write(
                ingest, portion.usage, portion.positions, portion.totals, is_last=False
            )
            positions.update((position.path, position) for position in portion.positions)
            self._unreadable.difference_update(position.path for position in portion.positions)
            self._unreadable.update(portion.unreadable)
            read += portion.size
            progress(read, total)
        await self._ledger.write(ingest, ())
        return SyncAnswer(
            transcripts=sum(_has_news(*reading) for reading in readings),
            added=added,
            unread_lines=await self._ledger.read(unread_lines) or None,
            unread_files=len(self.unread_files) or None,
        )

    def _changed(self) -> list[Transcript]:
        return self._folders.changed(self._read_so_far.positions, self._read_so_far.since)

    def _unread_bytes(self, transcript: Transcript) -> int:
        position = self._read_so_far.positions.get(transcript.name)
        return transcript.size - (0 if position is None else position.read_bytes)

    async def _store(self, transcript: Transcript, *, is_patient: bool) -> None:
        write = self._ledger.write if is_patient else self._ledger.write_soon
        position = self._read_so_far.positions.get(transcript.name)
        since = self._read_so_far.since
        try:
            for batch in transcripts.read(transcript, self._folders.format, position, since):
                if batch.usage or batch.totals or batch.position != position:
                    await write(ingest, batch.usage, (batch.position,), batch.totals)
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
