"""The program: ``immunos-mcp`` and ``python -m immunos_mcp``."""

from __future__ import annotations

import _signal  # `signal` takes 12 ms to import  # pyright: ignore[reportMissingModuleSource]  # built in

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # First of all, since imports take a while: an interrupt ends the process at once and silently.
    # Every answer is stored before it is printed. A shell that runs it in the background ignores them.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process; the status line skips the parser."""
    # A command makes no cycles worth collecting, and collecting takes a tenth of its time, much of it
    # while modules are imported. So what takes long to import comes after this.
    gc.disable()
    from contextlib import suppress

    _replace_closed_streams()
    try:
        code = _run()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        if not code:
            from immunos_mcp.cli.main import show_error
            from immunos_mcp.errors import OutputError

            show_error(OutputError.of_standard_output(error), sys.argv[1:])
            code = 1
    with suppress(OSError):
        sys.stderr.flush()
    # Everything is stored and printed; an orderly shutdown of the interpreter would take another tenth.
    os._exit(code)


def _run() -> int:
    from immunos_mcp import lean_imports

    lean_imports.load_msgspec()
    lean_imports.load_pathlib()
    if sys.argv[1:] == ["statusline"]:
        from immunos_mcp.cli import status_line

        return status_line.main()
    lean_imports.load_argparse()
    from immunos_mcp.cli import main

    return main.main()


def _replace_closed_streams() -> None:
    """Replace closed standard streams: input is empty, output fails, errors are discarded."""
    streams: tuple[tuple[str, int, str], ...] = (
        ("stdin", os.O_RDONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    )
    for name, flags, mode in streams:
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


if __name__ == "__main__":
    main()
