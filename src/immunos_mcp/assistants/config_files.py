"""Reads and atomically writes configuration files, and shows changes before writing them."""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import json_edit, regular_files
from immunos_mcp.assistants.documents import DocumentError
from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom

LARGEST = 64 * 2**20
"""A configuration file of a client with more bytes is refused."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTEXT_LINES = 3
_LONGEST_LINE = 400
"""A document with a longer line is reformatted to show its change."""


class InstallError(ImmunosError):
    """An assistant cannot be set up or removed; nothing was changed."""


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of a file, and how it is encoded.

    Attributes:
        text: its text; line endings are normalised to line feeds unless they are mixed.
        has_mark: whether it begins with a byte order mark.
        has_returns: whether all its lines end in CR LF.
    """

    text: str
    has_mark: bool
    has_returns: bool

    def encoded(self, text: str) -> bytes:
        """Encode another text in the same way."""
        with_returns = text.replace("\n", "\r\n") if self.has_returns else text
        return with_returns.encode("utf-8-sig" if self.has_mark else "utf-8")


def decoded(content: bytes | None, file: Path) -> FileText:
    """Decode the content of a file; a missing file has an empty text.

    Raises:
        InstallError: it is not UTF-8.
    """
    try:
        text = (content or b"").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InstallError(f"{file} is not UTF-8; nothing was changed") from None
    has_returns = "\r\n" in text and "\n" not in text.replace("\r\n", "")
    has_mark = (content or b"").startswith(_BYTE_ORDER_MARK)
    return FileText(text.replace("\r\n", "\n") if has_returns else text, has_mark, has_returns)


def read(file: Path) -> bytes | None:
    """Return the content of a file; ``None``: it does not exist.

    Raises:
        InstallError: it cannot be read.
    """
    try:
        return regular_files.content(file, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InstallError(f"{file}: {error.strerror}; nothing was changed") from None


def write(file: Path, content: bytes | None) -> None:
    """Replace a file atomically, following links and keeping its mode; ``None`` removes it.

    A file that cannot be replaced, such as a mount point in a container, is written in place. After an
    ``OSError``, which names the file, the earlier content is still there.
    """
    target = Path(os.path.realpath(file))
    if content is None:
        target.unlink(missing_ok=True)
        return
    for folder in reversed([folder for folder in target.parents if not folder.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        _replace(target, content)
    except OSError as error:
        if error.errno not in _IRREPLACEABLE or not target.exists():
            raise OSError(error.errno, error.strerror, str(target)) from error
        _overwrite(target, content)


_IRREPLACEABLE = frozenset({errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})


def _replace(target: Path, content: bytes) -> None:
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(handle)
        Path(name).chmod(mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _overwrite(target: Path, content: bytes) -> None:
    """Write a file in place, and what was in it again if the disk is full."""
    with target.open("r+b") as stream:
        before = stream.read()
        try:
            _rewrite(stream, content)
        except OSError as error:
            _rewrite(stream, before)
            raise OSError(error.errno, error.strerror, str(target)) from error


def _rewrite(stream: BufferedRandom, content: bytes) -> None:
    stream.seek(0)
    stream.write(content)
    stream.flush()
    stream.truncate()
    os.fsync(stream.fileno())


@dataclass(frozen=True, slots=True)
class FileChange:
    """The content of a file before and after a change; ``None``: the file does not exist.

    Attributes:
        file: its path, as the assistant names it.
        before: the current content.
        after: the planned content.
        held_ours: whether it already has entries of ours.
        made_containers: the paths of objects and lists that are created for our entries.
    """

    file: Path
    before: bytes | None
    after: bytes | None
    held_ours: bool = False
    made_containers: tuple[tuple[str, ...], ...] = ()

    def difference(self) -> str:
        """Return the change as a unified diff; documents with very long lines are reformatted first."""
        texts = [(content or b"").decode("utf-8-sig") for content in (self.before, self.after)]
        if any(len(line) > _LONGEST_LINE for text in texts for line in text.splitlines()):
            with suppress(DocumentError):
                texts = [
                    json.dumps(json_edit.read(text), indent=2, ensure_ascii=False) for text in texts
                ]
        before, after = (text.splitlines() for text in texts)
        return "\n".join(_difference(before, after, str(self.file)))


def _difference(before: list[str], after: list[str], name: str) -> Iterator[str]:
    """Diff only the lines between the common beginning and end; diffing everything could take minutes."""
    shorter = min(len(before), len(after))
    start = next((line for line in range(shorter) if before[line] != after[line]), shorter)
    left = shorter - start
    end = next((line for line in range(left) if before[-1 - line] != after[-1 - line]), left)
    skipped = max(0, start - _CONTEXT_LINES)
    unchanged = max(0, end - _CONTEXT_LINES)
    found = difflib.unified_diff(
        before[skipped : len(before) - unchanged],
        after[skipped : len(after) - unchanged],
        name,
        name,
        lineterm="",
        n=_CONTEXT_LINES,
    )
    for line in found:
        if line.startswith("@@ "):
            yield re.sub(r"(?<=[-+])\d+", lambda number: str(int(number[0]) + skipped), line)
        else:
            yield line
