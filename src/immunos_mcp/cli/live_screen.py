"""A terminal as a live screen: whole frames out, single keys in, and everything put back at the end."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Self

from immunos_mcp.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Alternate screen, no cursor, no wrapping at the last column."""
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN_FRAME, _END_FRAME = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals that know these show a frame at once; others ignore them."""
_HOME, _CLEAR = "\x1b[H", "\x1b[2J"

_QUIT_KEYS = frozenset(b"qQ\x04")
_QUIT_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class LiveScreen:
    """The process's terminal, as long as the context lasts.

    Raises:
        OutputError: on entering: this system's terminals cannot be used so.
    """

    def __init__(self) -> None:
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._shown: tuple[Sequence[str], tuple[int, int]] | None = None

    def __enter__(self) -> Self:
        try:
            import termios
        except ImportError:
            raise OutputError(
                "watch cannot use this system's terminals; use `immunos-mcp watch --once`"
            ) from None
        self._before = termios.tcgetattr(self._input)
        mode = termios.tcgetattr(self._input)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        # A suspended program would leave its screen behind.
        for key in (termios.VSUSP, termios.VQUIT):
            mode[6][key] = b"\0"
        termios.tcsetattr(self._input, termios.TCSADRAIN, mode)
        self._wakes, self._woken = os.pipe()
        os.set_blocking(self._wakes, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._handlers = {
            number: signal.signal(number, _noted) for number in (*_QUIT_SIGNALS, signal.SIGWINCH)
        }
        self._write(_ENTER)
        return self

    def __exit__(self, *_exception: object) -> None:
        import termios

        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wakes)
        os.close(self._woken)
        try:
            self._write(_LEAVE)
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass  # the terminal is gone

    def size(self) -> tuple[int, int]:
        """Return the columns and lines that there are now."""
        try:
            size = os.get_terminal_size(self._output)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def show(self, lines: Sequence[str]) -> None:
        """Show a frame of full lines, in one write; one that is shown already is not written again."""
        size = self.size()
        if self._shown == (lines, size):
            return
        is_resized = self._shown is None or self._shown[1] != size
        self._shown = lines, size
        start = f"{_HOME}{_CLEAR}" if is_resized else _HOME
        frame = "\r\n".join(lines)
        self._write(f"{_BEGIN_FRAME}{start}{frame}{_END_FRAME}".encode())

    def wait(self, seconds: float) -> bool:
        """Wait for a key, another size, or the end of a time; return whether to quit."""
        ready, _, _ = select.select([self._input, self._wakes], [], [], seconds)
        signals = os.read(self._wakes, 1024) if self._wakes in ready else b""
        if _QUIT_SIGNALS.intersection(signals):
            return True
        if self._input not in ready:
            return False
        keys = os.read(self._input, 1024)
        return not keys or bool(_QUIT_KEYS.intersection(keys))

    def _write(self, written: bytes) -> None:
        while written:
            written = written[os.write(self._output, written) :]


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up pipe has the signal."""
