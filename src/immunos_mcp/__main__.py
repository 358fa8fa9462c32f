"""The program: ``immunos-mcp`` and ``python -m immunos_mcp``."""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line to the process's end; the status line without the parser.

    Interrupts end the process at once and silently, from the first moment on: whatever was
    answered is stored already.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A command makes no cycles worth looking for, and looking takes a tenth of its time.
    gc.disable()
    if sys.argv[1:] == ["statusline"]:
        from immunos_mcp.claude_code import status_line

        code = status_line.main()
    else:
        from immunos_mcp import cli

        code = cli.main()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All is stored and said; taking the interpreter apart would take another tenth.
    os._exit(code)


if __name__ == "__main__":
    main()
