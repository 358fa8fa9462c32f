"""Codex's logs: one file per thread, under ``sessions`` in its folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder

from immunos_mcp.assistants.codex import plan_limits
from immunos_mcp.assistants.documents import member
from immunos_mcp.assistants.record_lines import RecordLines
from immunos_mcp.assistants.recorded_values import (
    LONGEST_FOLDER,
    count,
    moment,
    response_name,
    text,
)
from immunos_mcp.assistants.transcripts import TranscriptFolders, TranscriptFormat
from immunos_mcp.domain import MeasuredAssistant
from immunos_mcp.logged_usage import MeasuredUsage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline
    from immunos_mcp.assistants.line_readers import Logged, Salvaged
    from immunos_mcp.logged_usage import PlanReport

UNKNOWN_MODEL = "codex-unknown"
"""Stands for the model of a response before the first turn that names one."""

FIRST_WITH_RECORDS = (0, 155)
"""The version from which every response has a record of its own."""


_ID_WITH_TIME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class _Kinds(NamedTuple):
    """Tokens as Codex counts them: input includes the cache, output includes reasoning."""

    whole_input: int
    cached: int
    cache_write: int
    output: int
    reasoning: int

    def since(self, earlier: _Kinds) -> _Kinds | None:
        """Return what was added to an earlier total; ``None``: it was not a part of this one."""
        steps = _Kinds(*(now - before for now, before in zip(self, earlier, strict=True)))
        return steps if min(steps) >= 0 else None


class _Thread(Struct, array_like=True):
    """What later lines need of earlier ones.

    Attributes:
        thread: the thread's id.
        origin: the thread whose totals this file may continue or repeat.
        model: the current turn's.
        folder: the current turn's working folder.
        has_records: whether responses have records of their own, so that totals are not needed.
        total: the last cumulative total.
        turn: the current turn's id.
    """

    thread: str | None = None
    origin: str | None = None
    model: str | None = None
    folder: str | None = None
    has_records: bool = False
    total: tuple[int, int, int, int, int] | None = None
    turn: str | None = None


_decode = Decoder(_Thread).decode
_encode = Encoder().encode


class Rollout(RecordLines):
    """Reads one thread's file.

    Each response has a ``token_usage_record``. Files of earlier versions have only cumulative totals,
    which are repeated, and copied into forks: there, a response is a step from one total to the next.
    """

    wanted = (b'"token_usage_record"', b'"token_count"', b'"turn_context"', b'"session_meta"')
    costly = ('"token_usage_record"', '"token_count"')

    def __init__(self, _path: str, context: str) -> None:
        try:
            self._thread = _decode(context) if context else _Thread()
        except DecodeError:
            self._thread = _Thread()
        self._reports: tuple[PlanReport, ...] = ()

    @property
    def context(self) -> str:
        """The thread, its current turn and its last total, as JSON."""
        return _encode(self._thread).decode()

    def is_record(self, outline: Outline) -> bool:
        """Return whether an object is a line of its own."""
        return "payload" in outline.keys and "type" in outline.keys

    def usage_of(self, line: bytes | bytearray) -> Sequence[Logged]:
        """Return the usage in a line, and what it says of the plan's limits."""
        return (*super().usage_of(line), *self._noted())

    def salvage(self, line: bytes | bytearray) -> Salvaged[Logged]:
        """Return the same of a line that is damaged, or glued to another."""
        found = super().salvage(line)
        return found._replace(usage=(*found.usage, *self._noted()))

    def _noted(self) -> tuple[PlanReport, ...]:
        reports, self._reports = self._reports, ()
        return reports

    def take(self, piece: dict[str, Json]) -> MeasuredUsage | None:
        """Return the usage in a record, or note what it says of the thread."""
        kind, payload = piece.get("type"), piece.get("payload")
        if not isinstance(payload, dict):
            return None
        if kind == "token_usage_record":
            return self._recorded(piece, payload)
        if kind == "event_msg" and payload.get("type") == "token_count":
            self._reports = plan_limits.reports(piece.get("timestamp"), payload.get("rate_limits"))
            return self._step(piece, payload)
        if kind == "turn_context":
            self._thread.turn = text(payload.get("turn_id"))
            self._thread.model = text(payload.get("model")) or self._thread.model
            self._thread.folder = text(payload.get("cwd"), LONGEST_FOLDER) or self._thread.folder
        elif kind == "session_meta":
            self._begin(payload)
        return None

    def _begin(self, payload: dict[str, Json]) -> None:
        thread, named = self._thread, text(payload.get("id"))
        parents = (payload.get("forked_from_id"), payload.get("parent_thread_id"))
        origin = text(parents[0]) or text(parents[1]) or named
        if thread.thread is not None:
            # A fork's or a subagent's file may have its parent's beginning after its own.
            thread.origin = origin if named == thread.origin else thread.origin
            return
        thread.thread, thread.origin = named, origin
        thread.folder = thread.folder or text(payload.get("cwd"), LONGEST_FOLDER)
        thread.has_records = thread.has_records or _writes_records(payload.get("cli_version"))

    def _recorded(self, record: dict[str, Json], payload: dict[str, Json]) -> MeasuredUsage:
        self._thread.has_records = True
        conversation = text(payload.get("session_id")) or text(payload.get("thread_id"))
        response_id = response_name(payload.get("response_id"), record.get("timestamp"))
        usage = self._usage(record, response_id, _kinds(payload.get("usage")), conversation)
        thread = text(payload.get("thread_id"))
        return usage if thread == conversation else usage._replace(agent=thread)

    def _step(self, record: dict[str, Json], payload: dict[str, Json]) -> MeasuredUsage | None:
        if self._thread.has_records or payload.get("info") is None:
            return None
        total = _kinds(member(payload, ("info", "total_token_usage")))
        before = self._thread.total
        if before == total:
            return None
        step = None if before is None else total.since(_Kinds(*before))
        if step is None:
            # The total may begin with another thread's.
            step = _kinds(member(payload, ("info", "last_token_usage")))
        # The same total in a copied history, which keeps the ids of its turns, is the same response.
        identity = f"{self._thread.turn or self._thread.origin}:{'-'.join(map(str, total))}"
        usage = self._usage(record, identity, step, self._thread.thread)
        self._thread.total = total
        return usage

    def _usage(
        self, record: dict[str, Json], identity: str, kinds: _Kinds, conversation: str | None
    ) -> MeasuredUsage:
        at = moment(record.get("timestamp"))
        return MeasuredUsage(
            f"codex:{identity}",
            _copied_from(self._thread) or at,
            self._thread.model or UNKNOWN_MODEL,
            max(0, kinds.whole_input - kinds.cached - kinds.cache_write),
            kinds.output,
            kinds.cache_write,
            kinds.cached,
            self._thread.folder,
            assistant=MeasuredAssistant.CODEX,
            conversation=conversation,
        )


def _copied_from(thread: _Thread) -> datetime | None:
    """Return when a turn began that is copied from another thread; ``None``: it is this one's.

    A fork's file begins with its parent's turns, all with the time of the fork.
    """
    began, created = _made_at(thread.turn), _made_at(thread.thread)
    return began if began is not None and created is not None and began < created else None


def _made_at(name: str | None) -> datetime | None:
    """Return when an id of version 7 was made, which is its first part in milliseconds."""
    if name is None or not _ID_WITH_TIME.fullmatch(name):
        return None
    try:
        return moment(int(name[:8] + name[9:13], 16))
    except ValueError:
        return None


def _kinds(usage: Json) -> _Kinds:
    if not isinstance(usage, dict):
        raise ValueError("usage is not an object")  # noqa: TRY004  # the content, not an argument
    return _Kinds(
        count(usage.get("input_tokens")),
        count(usage.get("cached_input_tokens")),
        count(usage.get("cache_write_input_tokens")),
        count(usage.get("output_tokens")),
        count(usage.get("reasoning_output_tokens")),
    )


def _writes_records(version: Json) -> bool:
    parts = (text(version) or "").split(".")[:2]
    return all(part.isdecimal() for part in parts) and (
        tuple(int(part) for part in parts) >= FIRST_WITH_RECORDS
    )


FORMAT = TranscriptFormat(client="codex-mcp-client", mark=b'"payload"', reader=Rollout)


def source(place: str) -> TranscriptFolders:
    """Return the logs in Codex's folder."""
    folder = Path(place)
    return TranscriptFolders((folder / "sessions", folder / "archived_sessions"), FORMAT)
