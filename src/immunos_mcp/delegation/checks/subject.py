"""What a check looks at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.delegation.material import Document

PASSED = ""
"""What a check returns about an answer without a fault."""

_PROSE = (".md", ".markdown", ".txt", ".rst")
"""Files in which a fence is part of the text."""

_OPENING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`\n]*")


class Subject(NamedTuple):
    """An answer, and what it is compared with.

    Attributes:
        text: the answer.
        task_type: of its task.
        asked: what the model was told to do.
        documents: the files that it was given.
        schema: the JSON schema that the answer must have; ``None``: none was asked for.
        file_name: the file that the answer goes to; empty: none.
    """

    text: str
    task_type: str = ""
    asked: str = ""
    documents: tuple[Document, ...] = ()
    schema: Mapping[str, Json] | None = None
    file_name: str = ""

    @property
    def unfenced(self) -> str:
        """The answer, without its fence where it is JSON or a file's whole text."""
        is_whole_file = bool(self.file_name) and not self.file_name.lower().endswith(_PROSE)
        return unfenced(self.text) if self.schema is not None or is_whole_file else self.text

    def named(self, name: str) -> Document | None:
        """Return the file that a name in the answer means: its path, or the end of just one path."""
        name = name.removeprefix("./")
        exact = [each for each in self.documents if each.name == name]
        ends = [each for each in self.documents if each.name.endswith(f"/{name}")]
        found = exact or ends
        return found[0] if len(found) == 1 else None


class Block(NamedTuple):
    """A fenced block of Markdown: its language in lower case, and its text."""

    language: str
    text: str


def fenced(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of an answer; one that is not closed goes to the end."""
    opening: re.Match[str] | None = None
    inside: list[str] = []
    for line in text.split("\n"):
        if opening is None:
            opening = _OPENING.fullmatch(line.rstrip("\r"))
        elif _closes(line, opening[1]):
            yield Block(opening[2].lower(), "\n".join(inside))
            opening, inside = None, []
        else:
            inside.append(line)
    if opening is not None:
        yield Block(opening[2].lower(), "\n".join(inside))


def unfenced(text: str) -> str:
    """Return an answer that is one fenced block without its fence, and any other as it is."""
    lines = text.strip().split("\n")
    first, inside, last = lines[0], lines[1:-1], lines[-1]
    opening = _OPENING.fullmatch(first.rstrip("\r"))
    if len(lines) < 2 or opening is None or not _closes(last, opening[1]):
        return text
    is_one_block = not any(_closes(line, opening[1]) for line in inside)
    return "\n".join(inside) if is_one_block else text


def _closes(line: str, fence: str) -> bool:
    """Return whether a line ends a block: the same character, at least as often."""
    line = line.strip()
    return len(line) >= len(fence) and line == fence[0] * len(line)
