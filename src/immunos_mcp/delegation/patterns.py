"""Finds the files that a pattern matches, in bounded time and without following links to folders."""

from __future__ import annotations

import os
import re
import time
from fnmatch import fnmatchcase, translate
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.delegation.safe_files import opened_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from threading import Event

MOST_ENTRIES = 200_000
"""Files and folders that one task looks at."""

DEEPEST = 64
"""Folders below the one where a pattern begins."""

SEARCH_SECONDS = 20.0
"""How long one task looks for files and reads them."""

IGNORED_FOLDERS = frozenset({".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv"})
"""Folders that patterns skip; a file in one may still be named."""

_WILD = frozenset("*?[")


class SearchLimitError(Exception):
    """A search or a reading went beyond a limit; the message is the end of a sentence."""


class Effort:
    """What one task has looked at so far, and whether anybody still waits for it."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._ends_at = time.monotonic() + SEARCH_SECONDS
        self._entries = 0

    def spend(self, entries: int = 1) -> None:
        """Count entries.

        Raises:
            SearchLimitError: there are too many, it took too long, or the caller has gone.
        """
        self._entries += entries
        if self._entries > MOST_ENTRIES:
            raise SearchLimitError(f"more than {MOST_ENTRIES:,} files and folders to look at")
        if time.monotonic() > self._ends_at:
            raise SearchLimitError(f"reading took longer than {SEARCH_SECONDS:g} s")
        if self._stop.is_set():
            raise SearchLimitError("the call was cancelled")


class Found(NamedTuple):
    """A match: its names from the folder where the search began, and whether it is a link."""

    parts: tuple[str, ...]
    is_link: bool


def is_pattern(text: str) -> bool:
    """Return whether a text has wildcards."""
    return bool(_WILD & set(text))


def matches(
    root: Path, base: Sequence[str], pattern: Sequence[str], effort: Effort
) -> Iterator[Found]:
    """Return the files below a folder that a pattern matches, in order of their names.

    ``*``, ``?`` and ``[...]`` match within a name and ``**`` any number of folders; only a part that
    begins with a dot matches hidden names.

    Args:
        root: an allowed folder.
        base: the names from there to the folder where the pattern begins.
        pattern: the pattern's parts.
        effort: what the task has looked at so far.

    Raises:
        OSError: the folder cannot be listed.
        SearchLimitError: there is too much to look at.
    """
    yield from _Search(root, tuple(base), pattern, effort).below((), frozenset({0}))


class _Search:
    """A pattern at work; a state is how many of its parts the names so far have matched."""

    def __init__(
        self, root: Path, base: tuple[str, ...], pattern: Sequence[str], effort: Effort
    ) -> None:
        self._root = root
        self._base = base
        self._parts = [*pattern]
        self._effort = effort

    def below(self, at: tuple[str, ...], states: frozenset[int]) -> Iterator[Found]:
        if len(at) > DEEPEST:
            raise SearchLimitError(f"folders are nested more than {DEEPEST} deep")
        states = self._with_empty_matches(states)
        for name, is_folder, is_link in self._entries(at):
            here = (*at, name)
            if not is_folder:
                if any(self._ends_with(name, state) for state in states):
                    yield Found(here, is_link)
            elif name not in IGNORED_FOLDERS:
                following = frozenset(
                    after for state in states for after in self._following(name, state)
                )
                if following:
                    yield from self._readable_below(here, following)

    def _readable_below(self, at: tuple[str, ...], states: frozenset[int]) -> Iterator[Found]:
        try:
            yield from self.below(at, states)
        except OSError:
            # A folder that this user may not list, or that has just gone, has no matches.
            return

    def _entries(self, at: tuple[str, ...]) -> list[tuple[str, bool, bool]]:
        entries: list[tuple[str, bool, bool]] = []
        with (
            opened_folder(self._root, (*self._base, *at)) as folder,
            os.scandir(folder) as listed,
        ):
            for entry in listed:
                self._effort.spend()
                is_link = entry.is_symlink()
                entries.append((entry.name, entry.is_dir(follow_symlinks=False), is_link))
        return sorted(entries)

    def _with_empty_matches(self, states: frozenset[int]) -> frozenset[int]:
        """Add the states after each ``**``, which matches no folder too."""
        found = set(states)
        for state in sorted(states):
            after = state
            while after < len(self._parts) - 1 and self._parts[after] == "**":
                after += 1
                found.add(after)
        return frozenset(found)

    def _ends_with(self, name: str, state: int) -> bool:
        return state == len(self._parts) - 1 and self._fits(name, state)

    def _following(self, name: str, state: int) -> Iterator[int]:
        if self._fits(name, state):
            if self._parts[state] == "**":
                yield state
            elif state < len(self._parts) - 1:
                yield state + 1

    def _fits(self, name: str, state: int) -> bool:
        part = self._parts[state]
        if name.startswith(".") and not part.startswith("."):
            return False
        return part == "**" or fnmatchcase(name, part)


def check(part: str) -> None:
    """Check that a part of a pattern can be matched.

    Raises:
        ValueError: it cannot.
    """
    if part in {".", ".."}:
        raise ValueError("a folder above")
    try:
        re.compile(translate(part))
    except re.error as error:
        raise ValueError(str(error)) from None
