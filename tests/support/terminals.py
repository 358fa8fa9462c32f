"""A pseudo-terminal of 80x24 with a program in it, and what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONTROL = re.compile(r"\x1b\[(?P<given>[?0-9;]*)(?P<what>[A-Za-z])")
_IN_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
)


class Terminal:
    """Runs Python with some arguments in a terminal.

    Attributes:
        written: all that it has written, by read.
        lines: what the screen shows.
        modes: the terminal's private modes that are on.
    """

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._outer, self._inner = pty.openpty()
        self.resize(80, 24)
        self.attributes = termios.tcgetattr(self._inner)
        self.program = subprocess.Popen(
            (sys.executable, "-c", _IN_TERMINAL, *arguments),
            stdin=self._inner,
            stdout=self._inner,
            stderr=self._inner,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        self.written = ""
        self.modes: set[str] = set()
        self.lines: list[str] = [""]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._outer)
        os.close(self._inner)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._outer, keys.encode())

    def wait_for(self, shown: Callable[[str], bool]) -> str:
        """Read until the screen shows something; return the screen."""
        deadline = time.monotonic() + 30
        while not shown("\n".join(self.lines)):
            assert time.monotonic() < deadline, "\n".join(self.lines)
            self._read(1)
        return "\n".join(self.lines)

    def ended(self) -> int:
        """Read until the program ends; return its exit code."""
        code = self.program.wait(30)
        while self._read(0):
            pass
        return code

    def now(self) -> list[object]:
        """Return the terminal's attributes."""
        return termios.tcgetattr(self._inner)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._outer], [], [], seconds)[0]:
            return False
        self.written += os.read(self._outer, 1 << 16).decode(errors="replace")
        self._show()
        return True

    def _show(self) -> None:
        self.lines, self.modes, at = [""], set(), 0
        text = self.written
        while at < len(text):
            control = _CONTROL.match(text, at)
            if control is not None:
                self._obey(control["given"], control["what"])
                at = control.end()
                continue
            if text[at] == "\n":
                self._row += 1
            elif text[at] == "\r":
                self._column = 0
            else:
                self._put(text[at])
            at += 1

    _row = _column = 0

    def _obey(self, given: str, what: str) -> None:
        if what == "H":
            self._row = self._column = 0
        elif what == "J":
            self.lines = [""]
        elif what == "h":
            self.modes.add(given)
        elif what == "l":
            self.modes.discard(given)
        else:
            assert what == "m", (given, what)

    def _put(self, character: str) -> None:
        self.lines += [""] * (self._row + 1 - len(self.lines))
        line = self.lines[self._row].ljust(self._column)
        self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
        self._column += 1
