"""Standard output and error for people: what a terminal would obey never reaches it.

Model output, engine errors and names come from outside and may hold escape sequences that clear the
screen, fill the clipboard or hide text. Everything that is printed goes through here, and the user and
password in the address of the engine are hidden in it.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

from immunos_mcp.options import ENGINES, OLLAMA_HOST
from immunos_mcp.rules.formatting import for_terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_BEFORE_ADDRESS = rf"^(?:{OLLAMA_HOST.flag}=|{ENGINES.flag}=)?(?:[a-z][a-z0-9_-]*=)?"


class SafeText(io.TextIOWrapper):
    """Text on its way out, without control characters other than line ends and tabs.

    Attributes:
        hidden: credentials that are replaced wherever they occur.
    """

    hidden: tuple[str, ...] = ()

    def write(self, text: str, /) -> int:
        """Write a text; return its length as it was given."""
        shown = for_terminal(text)
        if "@" in shown:
            for credentials in self.hidden:
                shown = shown.replace(f"{credentials}@", "***@")
        super().write(shown)
        return len(text)

    def redraw(self, line: str) -> None:
        """Write a line of our own over the current one."""
        super().write(f"\r{for_terminal(line)}")
        self.flush()


def make_safe(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace standard output and error; a letter that they cannot show becomes its number.

    Args:
        arguments: the command line, where the address of the engine may have a password.
        environment: likewise.
    """
    hidden = _credentials(arguments, environment)
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
            safe.hidden = hidden
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


def _credentials(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    given = environment.get(ENGINES.variable, "").split(ENGINES.separator)
    addresses = [environment.get(OLLAMA_HOST.variable, ""), *given, *arguments]
    found = {
        re.sub(_BEFORE_ADDRESS, "", text.strip("\"' ")).rpartition("@")[0].rpartition("//")[2]
        for text in addresses
        if "@" in text and len(text) < 1_000
    }
    return tuple(each for each in found if ":" in each)
