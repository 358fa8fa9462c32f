"""Standard output and error for people: what a terminal would obey never reaches it.

Model output, engine errors and names come from outside and may hold escape sequences that clear the
screen, fill the clipboard or hide text. Everything that is printed goes through here.
"""

from __future__ import annotations

import io
import sys

from immunos_mcp.rules.formatting import for_terminal


class SafeText(io.TextIOWrapper):
    """Text on its way out, without control characters other than line ends and tabs."""

    def write(self, text: str, /) -> int:
        """Write a text; return its length as it was given."""
        super().write(for_terminal(text))
        return len(text)

    def redraw(self, line: str) -> None:
        """Write a line of our own over the current one."""
        super().write(f"\r{for_terminal(line)}")
        self.flush()


def make_safe() -> None:
    """Replace standard output and error; a letter that they cannot show becomes its number."""
    for name in ("stdout", "stderr"):
        stream: object = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            safe = SafeText(
                stream.buffer,
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            stream.flush()
            # Otherwise its end would close what both write to.
            stream.detach()
            setattr(sys, name, safe)


def redraw(line: str) -> None:
    """Write a line to standard error over the current one."""
    if isinstance(sys.stderr, SafeText):
        sys.stderr.redraw(line)
    else:
        print(f"\r{line}", end="", file=sys.stderr, flush=True)
