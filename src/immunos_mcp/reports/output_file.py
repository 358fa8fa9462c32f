"""Output files of commands: private, written completely or not at all, never overwriting other files."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from immunos_mcp.errors import InvalidInputError, OutputError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

_ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Output:
    """A stream of bytes whose write failures become ``OutputError``."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, content: bytes) -> None:
        """Write the whole content.

        Raises:
            OutputError: it cannot be written.
        """
        with _translated(self._name):
            self._stream.write(content)

    def flush(self) -> None:
        """Flush the stream; raises the same error."""
        with _translated(self._name):
            self._stream.flush()


class _EndedError(BaseException):
    """The process received a signal to end."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def written(
    path: Path, option: str, *, may_replace: Callable[[bytes], bool] | None = None
) -> Generator[Output]:
    """Write a file of mode 0600 that appears only when the block completes.

    If the block ends early, the earlier file stays. A process that is killed outright can leave a
    temporary file whose name begins with ``.immunos-mcp-`` in the same folder.

    Args:
        path: the file.
        option: the option that named it, for messages.
        may_replace: decides from its first bytes whether an existing file may be replaced; ``None``:
            never.

    Raises:
        InvalidInputError: the file exists and must stay, or its folder is missing.
        OutputError: the file cannot be written.
    """
    with _translated(str(path)):
        _check(path, option, may_replace)
        descriptor, name = tempfile.mkstemp(prefix=".immunos-mcp-", dir=path.parent)
    unfinished = Path(name)
    try:
        with _ended_by_signals():
            with os.fdopen(descriptor, "wb") as stream:
                output = Output(stream, str(path))
                yield output
                output.flush()
            # Another program may have created the file in the meantime.
            with _translated(str(path)):
                _check(path, option, may_replace)
                unfinished.replace(path)
    except _EndedError as ended:
        unfinished.unlink(missing_ok=True)
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def _check(path: Path, option: str, may_replace: Callable[[bytes], bool] | None) -> None:
    expected = None
    if path.is_symlink() or path.exists():
        is_plain = path.is_file() and not path.is_symlink()
        if may_replace is None:
            expected = "a new file; this one exists"
        elif not is_plain or not may_replace(_beginning(path)):
            expected = "a new file or an earlier report; this file exists and is not a report"
    elif not path.parent.is_dir():
        expected = "a file in an existing folder"
    if expected is not None:
        raise InvalidInputError(Problem(option, str(path), expected))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(1024)


@contextmanager
def _translated(name: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{name} cannot be written ({error.strerror}); free some space or choose another file"
        ) from error


@contextmanager
def _ended_by_signals() -> Generator[None]:
    """Turn the signals that end a process into an exception, so that it can clean up."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise _EndedError(number)

    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
