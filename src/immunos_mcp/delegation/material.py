"""The files of a delegated task, read here so that their content costs Claude nothing.

Files are read only inside allowed folders, after resolving links. Secrets and binary files are not read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.delegation import patterns
from immunos_mcp.delegation.patterns import IGNORED_FOLDERS, Effort, SearchLimitError
from immunos_mcp.delegation.safe_files import AllowedPaths, open_to_read, resolved
from immunos_mcp.delegation.secrets import holds_secret, is_secret_place
from immunos_mcp.errors import InvalidInputError, Problem, shown
from immunos_mcp.rules.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.delegation.safe_files import Place

MOST_FILES = 200
LARGEST_MATERIAL = 16 * 2**20
"""Bytes of all files of a task in total."""

MOST_READ = 4 * LARGEST_MATERIAL
"""Bytes that are read for a task, including files that turn out to be binary or secret."""

_CHUNK = 2**18
_SENSITIVE = "a file without secrets; name this one with --allow-path to allow it"
_BINARY = "a text file; this one is binary"
_LINE_END = re.compile(r"\r\n|\r|\n")


class Document(NamedTuple):
    """A text file of a task.

    Attributes:
        name: its path relative to its allowed folder.
        lines: its lines, without line endings.
    """

    name: str
    lines: tuple[str, ...]


class Material(NamedTuple):
    """The files of a task.

    Attributes:
        documents: their contents.
        left_out: how many matches of patterns were left out as binary or secret.
        folders: the folders that the files are in, without links.
    """

    documents: tuple[Document, ...]
    left_out: int
    folders: tuple[str, ...] = ()

    def with_first(self, documents: tuple[Document, ...]) -> Material:
        """Return the material with other documents before its own."""
        return self._replace(documents=(*documents, *self.documents))


def document(name: str, content: bytes) -> Document:
    """Return content that was not read from a file as a document.

    Raises:
        ValueError: it cannot be one; the message is the end of "must be ...".
    """
    if not content.strip():
        raise ValueError("text, not empty")
    if len(content) > LARGEST_MATERIAL:
        raise ValueError(f"at most {LARGEST_MATERIAL >> 20} MiB")
    if b"\x00" in content:
        raise ValueError("text, not binary")
    try:
        return Document(name, _lines(content.decode()))
    except UnicodeDecodeError:
        raise ValueError("UTF-8 text") from None


def read_material(
    paths: Sequence[str], allowed: Sequence[Path], stop: Event | None = None
) -> Material:
    """Read files, given by name or pattern, relative to the first allowed folder unless absolute.

    Args:
        paths: file names, or patterns with ``*``, ``**`` and ``?``.
        allowed: folders whose files may be read, and single files, which may hold secrets.
        stop: set when nobody waits for the result any more.

    Raises:
        InvalidInputError: a path leaves the allowed folders, or names a secret or something that is not
            a text file; a pattern matches nothing; or there is too much to look at or to read.
    """
    if not paths:
        return Material((), 0)
    reading = _Reading(AllowedPaths(allowed, "paths"), Effort(stop or Event()))
    for number, given in enumerate(paths):
        field = f"paths[{number}]"
        try:
            reading.read(given, field)
        except SearchLimitError as limit:
            message = f"{field}: {limit}; name fewer files, or use a narrower pattern"
            raise InvalidInputError(Problem(field, given, message=message)) from None
        except OSError as error:
            message = f"{field}: {shown(given)} cannot be read ({error.strerror})"
            raise InvalidInputError(Problem(field, given, message=message)) from None
    folders = dict.fromkeys(str(path.parent) for path in reading.documents)
    return Material(tuple(reading.documents.values()), len(reading.left_out), tuple(folders))


def numbered(document: Document) -> list[str]:
    """Return a document's lines with their numbers, so that an answer can cite them."""
    width = len(str(len(document.lines)))
    return [f"{number:>{width}}| {line}" for number, line in enumerate(document.lines, 1)]


class _NotReadError(Exception):
    """A file is not for a task; the message is the end of "must be ..."."""


class _Reading:
    """The files of one task as they are read."""

    def __init__(self, allowed: AllowedPaths, effort: Effort) -> None:
        self.documents: dict[Path, Document] = {}
        self.left_out: set[Path] = set()
        self._allowed = allowed
        self._effort = effort
        self._size = self._read = 0

    def read(self, given: str, field: str) -> None:
        """Read the file or the files that one path stands for."""
        whole = self._allowed.whole(given, field)
        if not patterns.is_pattern(given) or os.path.lexists(whole):
            self._read_named(whole, given, field)
        elif not self._read_matches(whole, given, field):
            raise InvalidInputError(Problem(field, given, "a pattern that matches files"))

    def _read_named(self, whole: Path, given: str, field: str) -> None:
        path = resolved(whole)
        place = self._allowed.place_of(path)
        if place is None:
            expected = f"a file inside an allowed folder: {self._allowed.listed()}"
            raise InvalidInputError(Problem(field, given, expected))
        if not place.parts or not path.is_file():
            raise InvalidInputError(Problem(field, given, "an existing file or a pattern"))
        try:
            self._add(place, given, field)
        except _NotReadError as error:
            raise InvalidInputError(Problem(field, given, str(error))) from None

    def _read_matches(self, whole: Path, given: str, field: str) -> bool:
        """Read the files that a pattern matches; return whether there were any."""
        has_found = False
        for place in self._places(whole, given, field):
            has_found = True
            if place.path not in self.left_out:
                try:
                    self._add(place, given, field)
                except _NotReadError:
                    self.left_out.add(place.path)
        return has_found

    def _places(self, whole: Path, given: str, field: str) -> Iterator[Place]:
        parts = whole.parts
        plain = next(number for number, part in enumerate(parts) if patterns.is_pattern(part))
        base = self._allowed.place_of(resolved(Path(*parts[:plain])))
        if base is None:
            expected = f"a pattern inside an allowed folder: {self._allowed.listed()}"
            raise InvalidInputError(Problem(field, given, expected))
        try:
            for part in parts[plain:]:
                patterns.check(part)
        except ValueError:
            expected = "a pattern without .. after a wildcard"
            raise InvalidInputError(Problem(field, given, expected)) from None
        if IGNORED_FOLDERS & set(base.parts):
            return
        try:
            for found in patterns.matches(base.root, base.parts, parts[plain:], self._effort):
                place = base._replace(parts=(*base.parts, *found.parts), is_named=False)
                target = self._allowed.place_of(resolved(place.path))
                # A link to a folder is not followed, and to a file counts as that file.
                if target is not None and target.path.is_file():
                    yield target
        except OSError:
            return  # there is no such folder

    def _add(self, place: Place, given: str, field: str) -> None:
        path = place.path
        if path in self.documents:
            return
        if not place.is_named and is_secret_place(path):
            raise _NotReadError(_SENSITIVE)
        self._effort.spend()
        content = self._content(place)
        if not place.is_named and holds_secret(content):
            raise _NotReadError(_SENSITIVE)
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise _NotReadError("a UTF-8 text file") from None
        self._size += len(content)
        if self._size > LARGEST_MATERIAL or len(self.documents) == MOST_FILES:
            message = (
                f"{field}: too much to read; the limit is {MOST_FILES} files and"
                f" {LARGEST_MATERIAL >> 20} MiB in total"
            )
            raise InvalidInputError(Problem(field, given, message=message))
        self.documents[path] = Document(_name(place), _lines(text))

    def _content(self, place: Place) -> bytes:
        """Return what is in a file, which may grow meanwhile.

        Raises:
            OSError: it cannot be read.
        """
        content = bytearray()
        with open(open_to_read(place), "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor
            while chunk := file.read(_CHUNK):
                content += chunk
                self._read += len(chunk)
                if b"\x00" in chunk:
                    raise _NotReadError(_BINARY)
                if len(content) > LARGEST_MATERIAL:
                    raise _NotReadError(f"a file of at most {LARGEST_MATERIAL >> 20} MiB")
                if self._read > MOST_READ:
                    raise SearchLimitError(f"more than {MOST_READ >> 20} MiB to read")
                self._effort.spend(0)
        return bytes(content)


def _lines(text: str) -> tuple[str, ...]:
    """Split a text as editors do: ``splitlines`` would also split at form feeds and U+2028."""
    lines = _LINE_END.split(text)
    return tuple(lines[:-1] if not lines[-1] else lines)


def _name(place: Place) -> str:
    return printable("/".join(place.parts) if place.is_in_folder else str(place.path))
