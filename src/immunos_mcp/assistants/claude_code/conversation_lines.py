"""The lines of one transcript in their order: what a line lacks is in the lines before it."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime  # noqa: TC003  # a field's type is looked up
from typing import TYPE_CHECKING

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from immunos_mcp.assistants.claude_code import usage_lines
from immunos_mcp.assistants.transcripts import READ_BEFORE
from immunos_mcp.domain import ConversationTotal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.assistants.transcripts import Salvaged
    from immunos_mcp.domain import MeasuredUsage

_HEAD_BYTES = 2**20
"""How much of a transcript is searched for the project folder; it is in one of the first lines."""

_MOMENT = re.compile(rb'"timestamp": ?"([^"]{1,40})"')


class _Place(Struct):
    cwd: str | None = None


_decode_place = Decoder(_Place).decode


class _Context(Struct, omit_defaults=True):
    """What later lines need of earlier ones.

    Attributes:
        folder: the conversation's project folder; empty: it was not found.
        first: the first response since the last total.
        last: the latest response.
        follows_total: whether no response came after the last total yet.
        is_blind: whether there is something before that was read without a context.
    """

    folder: str | None = None
    first: datetime | None = None
    last: datetime | None = None
    follows_total: bool = False
    is_blind: bool = False


_decode_context = Decoder(_Context).decode


def last_moment(part: bytes) -> datetime | None:
    """Return the last time written down in a part of a transcript."""
    for found in reversed(_MOMENT.findall(part)):
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
            ValueError: the line is not exactly as Claude Code writes it; ``salvage`` takes it.
        """
        return self._in_context(usage_lines.usage_of(line, self._folder()))

    def salvage(self, line: bytes | bytearray, /) -> Salvaged:
        """Return the usage in a line that is damaged or unusual."""
        found = usage_lines.salvage(line, self._folder())
        return found._replace(usage=tuple(self._in_context(found.usage)))

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
            context.follows_total = False
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
        )
        context.first, context.follows_total, context.is_blind = None, True, False
        return placed


def project_folder(path: str) -> str:
    """Return a conversation's project folder: the first that its main transcript names; or empty."""
    main, is_subagent, _ = path.partition("/subagents/")
    names = (f"{main}.jsonl", path) if is_subagent else (path,)
    for name in names:
        with suppress(OSError), open(name, "rb") as file:  # noqa: PTH123  # a thousand a call
            for line in file.read(_HEAD_BYTES).split(b"\n"):
                with suppress(DecodeError, RecursionError):
                    found = _decode_place(line).cwd
                    if found:
                        return found
    return ""


def _context(text: str) -> _Context:
    if text == READ_BEFORE:
        return _Context(is_blind=True)
    try:
        return _decode_context(text) if text else _Context()
    except DecodeError:
        return _Context(is_blind=True)
