"""The lines of one transcript in their order: what a line lacks is in the lines before it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from immunos_mcp.assistants import regular_files
from immunos_mcp.assistants.claude_code import usage_lines
from immunos_mcp.assistants.line_readers import Salvaged
from immunos_mcp.assistants.transcripts import READ_BEFORE
from immunos_mcp.logged_usage import ConversationTotal, MeasuredUsage

if TYPE_CHECKING:
    from collections.abc import Sequence


_HEADS = (2**14, 2**20)
"""How much of a transcript is searched for the project folder, at first and at most; it is in one of the first lines."""

LONGEST_RESPONSE = timedelta(hours=1)
"""How far apart the lines of a response may be."""

_MOMENT = rb'"timestamp": ?"([^"]{1,40})"'


class _Place(Struct):
    cwd: str | None = None


_decode_place = Decoder(_Place).decode


class _Unsure(Struct, omit_defaults=True):
    """A response without a request, or in a side conversation."""

    message_id: str
    request_id: str | None
    prompt: int
    output: int
    at: datetime

    def is_repeated_by(self, usage: MeasuredUsage) -> bool:
        """Return whether the usage is another response's with the same id.

        All lines of a response have the same prompt, unless only the later ones know it.
        """
        if usage.message_id != self.message_id:
            return False
        if usage.request_id is not None or self.request_id is not None:
            return usage.request_id != self.request_id
        prompt = _prompt(usage)
        return (
            (prompt != self.prompt and bool(prompt and self.prompt))
            or (usage.output_tokens < self.output and usage.at > self.at)
            or abs(usage.at - self.at) > LONGEST_RESPONSE
        )


class _Context(Struct, omit_defaults=True):
    """What later lines need of earlier ones.

    Attributes:
        folder: the conversation's project folder; empty: it was not found.
        first: the first response since the last total.
        last: the latest response.
        follows_total: whether no response came after the last total yet.
        is_blind: whether there is something before that was read without a context.
        totals: how many totals came after the last response.
        unsure: the latest response whose id another response may repeat without being told apart.
    """

    folder: str | None = None
    first: datetime | None = None
    last: datetime | None = None
    follows_total: bool = False
    is_blind: bool = False
    totals: int = 0
    unsure: _Unsure | None = None


_decode_context = Decoder(_Context).decode


def _prompt(usage: MeasuredUsage) -> int:
    return usage.total - usage.output_tokens


def last_moment(part: bytes) -> datetime | None:
    """Return the last time written down in a part of a transcript."""
    for found in reversed(re.findall(_MOMENT, part)):
        with suppress(ValueError):
            return usage_lines.moment_in(found.decode())
    return None


class ConversationLines:
    """Reads a transcript of Claude Code, or of one of its subagents.

    A response belongs to the project of its conversation: the shell's folder, which its line has,
    moves with every ``cd``.
    """

    def __init__(self, path: str, context: str) -> None:
        self._path = path
        self._context = _context(context)

    @property
    def context(self) -> str:
        """What a later reading needs of the lines so far; never empty, which a reading of old is."""
        return encode(self._context).decode()

    def usage_of(self, line: bytes | bytearray, /) -> Sequence[MeasuredUsage | ConversationTotal]:
        """Return the usage in a line, which may be none.

        Raises:
            ValueError: the line is not exactly as Claude Code writes it, or has a response's id that
                another response had; ``salvage`` takes it.
        """
        found = usage_lines.usage_of(line, self._folder())
        if self._is_repeated(found):
            raise ValueError("another response has the same id")
        return self._in_context(found)

    def salvage(self, line: bytes | bytearray, /) -> Salvaged[MeasuredUsage | ConversationTotal]:
        """Return the usage in a line that is damaged or unusual."""
        found = usage_lines.salvage(line, self._folder())
        is_whole = found.is_whole and not self._is_repeated(found.usage)
        self._note(found.usage)
        return Salvaged(tuple(self._in_context(found.usage)), is_whole)

    def _is_repeated(self, found: Sequence[MeasuredUsage | ConversationTotal]) -> bool:
        """Return whether there are responses with ids of others that only one of them counts for."""
        if not found or not isinstance(first := found[0], MeasuredUsage):
            return False
        if first.request_id is not None and not first.is_sidechain:
            return False
        unsure = self._context.unsure
        if unsure is not None and unsure.is_repeated_by(first):
            return True
        self._note(found)
        return False

    def _note(self, found: Sequence[MeasuredUsage | ConversationTotal]) -> None:
        for usage in found:
            if isinstance(usage, MeasuredUsage) and (
                usage.request_id is None or usage.is_sidechain
            ):
                self._context.unsure = _Unsure(
                    usage.message_id,
                    usage.request_id,
                    _prompt(usage),
                    usage.output_tokens,
                    usage.at,
                )
                return

    def _folder(self) -> str | None:
        if self._context.folder is None:
            self._context.folder = project_folder(self._path)
        return self._context.folder or None

    def _in_context(
        self, found: Sequence[MeasuredUsage | ConversationTotal]
    ) -> Sequence[MeasuredUsage | ConversationTotal]:
        context = self._context
        if len(found) == 1 and not context.follows_total and context.first is not None:
            (only,) = found
            if not isinstance(only, ConversationTotal):
                if context.last is None or only.at > context.last:
                    context.last = only.at
                return found
        placed: list[MeasuredUsage | ConversationTotal] = []
        for each in found:
            if isinstance(each, ConversationTotal):
                placed.append(self._total(each))
                continue
            if context.follows_total and each.conversation is not None:
                placed.append(ConversationTotal(each.conversation, 0, each.at))
            context.follows_total, context.totals = False, 0
            context.first = context.first or each.at
            context.last = max(context.last or each.at, each.at)
            placed.append(each)
        return placed

    def _total(self, total: ConversationTotal) -> ConversationTotal:
        context = self._context
        placed = total._replace(
            at=max(total.at, context.last or total.at),
            first_at=context.first,
            folder=self._folder(),
            is_partial=context.is_blind,
            number=context.totals,
        )
        context.totals += 1
        context.first, context.follows_total, context.is_blind = None, True, False
        return placed


def project_folder(path: str) -> str:
    """Return a conversation's project folder: the first that its main transcript names; or empty."""
    main, is_subagent, _ = path.partition("/subagents/")
    names = (f"{main}.jsonl", path) if is_subagent else (path,)
    for name in names:
        with (
            suppress(OSError),
            open(name, "rb", buffering=0, opener=regular_files.opener) as file,
        ):  # a thousand a call
            for size in _HEADS:
                found = _first_folder(os.pread(file.fileno(), size, 0))
                if found:
                    return found
    return ""


def _first_folder(head: bytes) -> str | None:
    for line in head.split(b"\n"):
        with suppress(DecodeError, RecursionError):
            found = _decode_place(line).cwd
            if found:
                return found
    return None


def _context(text: str) -> _Context:
    if text == READ_BEFORE:
        return _Context(is_blind=True)
    try:
        return _decode_context(text) if text else _Context()
    except DecodeError:
        return _Context(is_blind=True)
