"""Unified diffs: read from an answer, and applied to lines of text. Pure.

As strict as ``git apply``, which is what people apply them with: the counts in hunk headers are right and
context lines are exactly there, though not necessarily at the stated number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.delegation.checks.subject import PASSED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.delegation.checks.subject import Subject

NOTHING = "/dev/null"
"""The name that stands for a file that is not there."""

MOST_COMPARISONS = 2_000_000
"""Lines that are compared to find where the changes of one file belong."""

_HEADER = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


class PatchError(ValueError):
    """A diff is malformed or does not apply; the message is the end of "the answer ..."."""


class Hunk(NamedTuple):
    """One change: the line it begins at (from 1), the lines before and the lines after."""

    start: int
    before: tuple[str, ...]
    after: tuple[str, ...]


class FilePatch(NamedTuple):
    """The changes of one file; either name may be ``/dev/null``."""

    old_name: str
    new_name: str
    hunks: tuple[Hunk, ...]

    @property
    def name(self) -> str:
        """The file's name: the new one, or that of a deleted file."""
        return self.old_name if self.new_name == NOTHING else self.new_name


def parsed(text: str) -> tuple[FilePatch, ...]:
    """Return the diff in an answer; what is around it is ignored.

    Raises:
        PatchError: a hunk is malformed.
    """
    return tuple(_patches(text.split("\n")))


def _patches(lines: Sequence[str]) -> Iterator[FilePatch]:
    at = 0
    while at < len(lines) - 1:
        if not (lines[at].startswith("--- ") and lines[at + 1].startswith("+++ ")):
            at += 1
            continue
        old, new = _name(lines[at], "a/"), _name(lines[at + 1], "b/")
        at += 2
        hunks: list[Hunk] = []
        while at < len(lines) and lines[at].startswith("@@"):
            hunk, at = _hunk(lines, at, old if new == NOTHING else new)
            hunks.append(hunk)
        if hunks:
            yield FilePatch(old, new, tuple(hunks))


def _name(line: str, prefix: str) -> str:
    return line[4:].split("\t", maxsplit=1)[0].strip().removeprefix(prefix)


def _hunk(lines: Sequence[str], at: int, name: str) -> tuple[Hunk, int]:
    header = _HEADER.match(lines[at])
    if header is None:
        raise PatchError(f"has a diff of {name} without line numbers in a hunk's header")
    before_left, after_left = int(header[2] or 1), int(header[4] or 1)
    before: list[str] = []
    after: list[str] = []
    at += 1
    while (before_left > 0 or after_left > 0) and at < len(lines):
        line = lines[at].removesuffix("\r")
        kind = line[:1] or " "
        if kind not in " -+\\":
            break
        if kind in " -":
            before.append(line[1:])
            before_left -= 1
        if kind in " +":
            after.append(line[1:])
            after_left -= 1
        at += 1
    while at < len(lines) and lines[at].startswith("\\"):
        at += 1
    if before_left or after_left:
        raise PatchError(f"has a diff of {name} whose line counts are wrong ({header[0]})")
    return Hunk(int(header[1]), tuple(before), tuple(after)), at


def applied(patch: FilePatch, lines: Sequence[str]) -> list[str]:
    """Return a file's lines after its changes.

    Raises:
        PatchError: a hunk does not match, or is too costly to look for.
    """
    return _Changing(patch, lines).result()


class _Changing:
    """The changes of one file, with a limit to the search for where they belong."""

    def __init__(self, patch: FilePatch, lines: Sequence[str]) -> None:
        self._patch = patch
        self._lines = list(lines)
        self._left = MOST_COMPARISONS

    def result(self) -> list[str]:
        shift = lowest = 0
        for number, hunk in enumerate(self._patch.hunks, 1):
            # A hunk without lines before is put after the stated line.
            stated = hunk.start - 1 if hunk.before else hunk.start
            at = self._place(hunk.before, stated + shift, lowest)
            if at is None:
                where = f"hunk {number} of its diff, line {hunk.start}"
                raise PatchError(f"does not apply to {self._patch.name} ({where})")
            self._lines[at : at + len(hunk.before)] = hunk.after
            shift = at - stated + len(hunk.after) - len(hunk.before)
            lowest = at + len(hunk.after)
        return self._lines

    def _place(self, wanted: Sequence[str], stated: int, lowest: int) -> int | None:
        """Return where lines are, as near as possible to where they should be."""
        if not wanted:
            return min(max(stated, lowest), len(self._lines))
        if stated >= lowest and self._is_at(wanted, stated):
            return stated
        highest = len(self._lines) - len(wanted)
        self._spend(max(0, highest - lowest))
        found = (at for at in range(lowest, highest + 1) if self._is_at(wanted, at))
        return min(found, key=lambda at: abs(at - stated), default=None)

    def _is_at(self, wanted: Sequence[str], at: int) -> bool:
        if at + len(wanted) > len(self._lines) or self._lines[at] != wanted[0]:
            return False
        self._spend(len(wanted))
        return self._lines[at : at + len(wanted)] == list(wanted)

    def _spend(self, comparisons: int) -> None:
        self._left -= comparisons
        if self._left < 0:
            raise PatchError(f"has a diff of {self._patch.name} that is too large to check")


def find(subject: Subject) -> str | None:
    """Return why a diff in the answer does not apply to the files of its task; ``None``: there is no diff."""
    try:
        patches = parsed(subject.text)
        for patch in patches:
            _check(patch, subject)
    except PatchError as error:
        return str(error)
    return PASSED if patches else None


def _check(patch: FilePatch, subject: Subject) -> None:
    if not subject.documents:
        return  # there is nothing to apply it to
    if patch.old_name == NOTHING:
        if subject.named(patch.new_name) is not None:
            raise PatchError(f"creates {patch.new_name}, which exists")
        applied(patch, ())
        return
    document = subject.named(patch.old_name)
    if document is None:
        raise PatchError(f"changes {patch.old_name}, which it was not given")
    applied(patch, document.lines)
