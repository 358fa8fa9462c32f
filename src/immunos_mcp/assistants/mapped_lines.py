"""The marked lines of a file that is mapped into memory instead of read, which takes half the time.

Whoever maps a file is killed by the system if another program cuts it meanwhile, so this is for
processes that can be missed.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING, Final

from immunos_mcp.assistants.marked_lines import BLOCK_BYTES, LONGEST_LINE, MarkedLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW_BYTES = 2**20
"""Bytes mapped at a time, because what is mapped counts as memory in use."""


class Window:
    """A mapped part of a file, searched by the C library, which needs a third of the time.

    Attributes:
        find: returns the first place of some bytes between two places, or -1.
        rfind: returns the last place of one byte between two places, or -1.
    """

    def __init__(self, mapped: mmap.mmap, library: CLibrary) -> None:
        address, forward, backward = library.address_of(mapped), library.memmem, library.memrchr

        def find(wanted: bytes, begin: int, end: int, /) -> int:
            if begin >= end:
                return -1
            found = forward(address + begin, end - begin, wanted, len(wanted))
            return -1 if found is None else found - address

        def rfind(wanted: bytes, begin: int, end: int, /) -> int:
            if begin >= end:
                return -1
            found = backward(address + begin, wanted[0], end - begin)
            return -1 if found is None else found - address

        self.find: Final = find
        self.rfind: Final = rfind
        self._mapped = mapped

    def __getitem__(self, part: slice, /) -> bytes:
        return self._mapped[part]


class CLibrary:
    """The functions of the C library; loading them takes as long as reading ten megabytes."""

    def __init__(self) -> None:
        import ctypes

        # Without releasing the interpreter's lock, which would take longer than most searches.
        library = ctypes.PyDLL(None)
        memmem, memrchr = library.memmem, library.memrchr
        memmem.restype = memrchr.restype = ctypes.c_void_p
        memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
        memrchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self._first_byte, self._address_of = ctypes.c_char.from_buffer, ctypes.addressof
        self.memmem: Final[Callable[[int, int, bytes, int], int | None]] = memmem
        self.memrchr: Final[Callable[[int, int, int], int | None]] = memrchr

    def address_of(self, mapped: mmap.mmap) -> int:
        """Return where a file is mapped."""
        return self._address_of(self._first_byte(mapped))


class MappedLines(MarkedLines):
    """The marked lines of a file that is mapped, window by window."""

    library: CLibrary

    def __iter__(self) -> Iterator[bytes | bytearray]:
        try:
            yield from self._mapped()
        except OSError:
            # Not every file system can do this.
            yield from super().__iter__()

    def _mapped(self) -> Iterator[bytes]:
        size, most = os.fstat(self._file.fileno()).st_size, WINDOW_BYTES
        while self.passed_bytes < size:
            before = self.passed_bytes % mmap.ALLOCATIONGRANULARITY
            place = self.passed_bytes - before
            length = min(most, size - place)
            with mmap.mmap(
                self._file.fileno(), length, access=mmap.ACCESS_COPY, offset=place
            ) as mapped:
                window = Window(mapped, self.library)
                last = window.rfind(b"\n", before, length)
                if last >= 0:
                    most = WINDOW_BYTES
                    yield from self._in_blocks(window, before, last)
                    continue
                if place + length == size:
                    yield from self._unfinished(window, before, length)
                    return
            if length < LONGEST_LINE:
                most *= 2
                continue
            self._file.seek(place + length)
            if not self._skip_line(length - before):
                return

    def _in_blocks(self, window: Window, begin: int, last: int) -> Iterator[bytes]:
        """Search for one mark after the other in blocks that stay in the CPU cache."""
        while begin <= last:
            end = window.find(b"\n", min(begin + BLOCK_BYTES, last), last + 1)
            yield from self._marked(window, begin, end)
            begin = end + 1


def fastest_lines() -> type[MarkedLines]:
    """Return the fastest way to read lines in a process that can be missed: on Linux, mapping."""
    if sys.platform == "linux":
        try:
            MappedLines.library = CLibrary()
        except (ImportError, OSError, AttributeError):
            return MarkedLines
        return MappedLines
    return MarkedLines
