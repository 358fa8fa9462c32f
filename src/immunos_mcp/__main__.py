"""The program: ``immunos-mcp`` and ``python -m immunos_mcp``."""

import _signal  # `signal` takes 12 ms to import  # pyright: ignore[reportMissingModuleSource]  # built in

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # First of all, since imports take a while: an interrupt ends the process at once and silently.
    # Every answer is stored before it is printed. A shell that runs it in the background ignores them.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn, cast

from immunos_mcp.errors import OutputError

if TYPE_CHECKING:
    from types import ModuleType


def main() -> NoReturn:
    """Run the command line and end the process; the status line skips the parser."""
    # A command makes no cycles worth collecting, and collecting takes a tenth of its time.
    gc.disable()
    _replace_closed_streams()
    _load_msgspec()
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

            show_error(OutputError.of_standard_output(error), sys.argv[1:])
            code = 1
    with suppress(OSError):
        sys.stderr.flush()
    # Everything is stored and printed; an orderly shutdown of the interpreter would take another tenth.
    os._exit(code)


def _run() -> int:
    if sys.argv[1:] == ["statusline"]:
        from immunos_mcp.cli import status_line

        return status_line.main()
    from immunos_mcp.cli import main

    return main.main()


def _load_msgspec() -> None:
    """Load ``msgspec`` without modules that it imports and that nothing here uses.

    They take as long as the rest of it. From Python 3.11 on, it takes from ``typing`` what it would from
    ``typing_extensions``; ``uuid`` wants only the system's name of ``platform``; nobody asks for schemas.
    Whoever imports them later gets the real ones.
    """
    unused: dict[str, object] = {
        # Importing what is ``None`` here fails as if it were not installed.
        "typing_extensions": None,
        "platform": SimpleNamespace(system=lambda: os.uname().sysname),
        "msgspec.inspect": SimpleNamespace(),
        "msgspec._json_schema": SimpleNamespace(schema=None, schema_components=None),
    }
    standing_in = {name: module for name, module in unused.items() if name not in sys.modules}
    sys.modules.update(cast("dict[str, ModuleType]", standing_in))
    try:
        import_module("msgspec")
    except ImportError:
        # Another version of it uses more of them; ``_run`` loads it as a whole.
        pass
    finally:
        for name in standing_in:
            sys.modules.pop(name, None)


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
