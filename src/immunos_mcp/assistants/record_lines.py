"""Reads logs whose lines are records that mean something only after earlier ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from msgspec import DecodeError
from msgspec.json import Decoder

from immunos_mcp.assistants import json_objects, nesting
from immunos_mcp.assistants.line_readers import Logged, Salvaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline
    from immunos_mcp.logged_usage import MeasuredUsage

_decode: Decoder[dict[str, object]] = Decoder(dict[str, object])


class RecordLines(ABC):
    """The reader of one log, a line at a time.

    Attributes:
        wanted: a line without any of these is skipped; they are JSON strings, quotes included.
        costly: a lost piece of a line with one of these may have had usage.
    """

    wanted: ClassVar[tuple[bytes, ...]]
    costly: ClassVar[tuple[str, ...]]

    @property
    def context(self) -> str:
        """What a later reading of this log needs of the lines so far."""
        return ""

    @abstractmethod
    def is_record(self, outline: Outline) -> bool:
        """Return whether an object inside a torn one is a record of its own."""

    def pieces(self, record: dict[str, Json]) -> Sequence[dict[str, Json]]:
        """Return the parts of a record that can be read without each other."""
        return (record,)

    @abstractmethod
    def take(self, piece: dict[str, Json]) -> MeasuredUsage | None:
        """Note what later records need, and return the usage, if any.

        Raises:
            ValueError: it should have usage, which cannot be read.
        """

    def usage_of(self, line: bytes | bytearray) -> Sequence[Logged]:
        """Return the usage in a line, which may be none."""
        if not any(word in line for word in self.wanted):
            return ()
        try:
            record: dict[str, Json] = _decode.decode(line)  # pyright: ignore[reportAssignmentType]  # it is JSON
        except (DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if nesting.is_too_deep(line):
            raise ValueError("nested too deeply")
        found = [self.take(piece) for piece in self.pieces(record)]
        return [usage for usage in found if usage is not None and usage.total]

    def salvage(self, line: bytes | bytearray) -> Salvaged[Logged]:
        """Return the usage in a line that is damaged, or glued to another."""
        found = json_objects.find_objects(json_objects.decoded(line), self.is_record)
        is_lost = any(word in piece for piece in found.rest for word in self.costly)
        is_lost |= any(self.is_record(outline) for outline in found.too_deep)
        usage: list[MeasuredUsage] = []
        for piece in (piece for record in found.objects for piece in self.pieces(record)):
            try:
                response = self.take(piece)
            except ValueError:
                is_lost = True
                continue
            if response is not None and response.total:
                usage.append(response)
        return Salvaged(tuple(usage), is_whole=not is_lost)
