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
    _load_pathlib()
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
    _load_argparse()
    from immunos_mcp.cli import main

    return main.main()


def _load_msgspec() -> None:
    """Load ``msgspec`` without modules that it imports and that nothing here uses.

    They take as long as the rest of it. From Python 3.11 on, it takes from ``typing`` what it would from
    ``typing_extensions``; ``uuid`` wants only the system's name of ``platform``; nobody asks for schemas, TOML or YAML.
    """
    _load(
        "msgspec",
        {
            # Importing what is ``None`` here fails as if it were not installed.
            "typing_extensions": None,
            "platform": SimpleNamespace(system=lambda: os.uname().sysname),
            "msgspec.inspect": SimpleNamespace(),
            "msgspec.toml": SimpleNamespace(),
            "msgspec.yaml": SimpleNamespace(),
            "msgspec._json_schema": SimpleNamespace(schema=None, schema_components=None),
        },
    )


def _load_pathlib() -> None:
    """Load ``pathlib`` without the module for addresses, which it needs only to make one of a path."""
    _load("pathlib", {"urllib.parse": SimpleNamespace(quote_from_bytes=_quoted)})


def _quoted(path: bytes) -> str:
    from urllib.parse import quote_from_bytes

    return quote_from_bytes(path)


def _load_argparse() -> None:
    """Load ``argparse`` without translations, which it has none of; its messages are matched in English."""
    _load("argparse", {"gettext": SimpleNamespace(gettext=str, ngettext=_one_or_many)})


def _one_or_many(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def _load(name: str, unused: dict[str, object]) -> None:
    """Load a module while others stand in for some that it imports; later imports get the real ones."""
    standing_in = {each: module for each, module in unused.items() if each not in sys.modules}
    sys.modules.update(cast("dict[str, ModuleType]", standing_in))
    try:
        # Another version may use more of them, and is loaded as a whole where it is needed.
        with suppress(ImportError):
            __import__(name)
    finally:
        for each in standing_in:
            sys.modules.pop(each, None)


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
