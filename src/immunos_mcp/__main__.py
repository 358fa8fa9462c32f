"""The program: ``immunos-mcp`` and ``python -m immunos_mcp``."""

import gc
import signal
import sys


def main() -> int:
    """Run the command line; the status line, which runs at every refresh, without its parser.

    Interrupts end the process at once and silently, from the first moment on: whatever was
    answered is stored already.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A command makes no cycles worth looking for, and looking takes a tenth of its time.
    gc.disable()
    if sys.argv[1:] == ["statusline"]:
        from immunos_mcp.claude_code import status_line

        return status_line.main()
    from immunos_mcp import cli

    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
