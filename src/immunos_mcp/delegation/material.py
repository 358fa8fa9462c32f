"""Files that a delegated task is about, read here so that their content costs Claude nothing.

Only inside folders that somebody allowed, links resolved first; no keys, nothing binary.
"""

from __future__ import annotations

import fnmatch
import glob
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.options import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_FILES = 200
LARGEST_MATERIAL = 16 * 2**20
"""Bytes of all files of a task together."""

SECRET_NAMES = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.keystore", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd",
    "credentials", "credentials.*", "secrets", "secrets.*", "*.kdbx",
)  # fmt: skip
"""Names of files that usually hold secrets; one of them is read only where it was allowed by itself."""

SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure"})
IGNORED_FOLDERS = frozenset({".git", "node_modules", "__pycache__", ".venv"})
"""Folders that a pattern does not look into; a file in one may still be named."""

_PATTERN = frozenset("*?[")


class Document(NamedTuple):
    """A text file of a task.

    Attributes:
        name: how the task names it: relative to its folder.
        lines: its lines, without their ends.
    """

    name: str
    lines: tuple[str, ...]


class Material(NamedTuple):
    """The files of a task, and how many that a pattern found were left out as binary or secret."""

    documents: tuple[Document, ...]
    left_out: int


def read_material(paths: Sequence[str], allowed: Sequence[Path]) -> Material:
    """Read files, given by name or pattern, relative to the first allowed folder unless absolute.

    Args:
        paths: file names, or patterns with ``*``, ``**`` and ``?``.
        allowed: folders whose files may be read, and files that may be, secrets or not.

    Raises:
        InvalidInputError: a path leaves the allowed folders, names no text file or a secret, a pattern
            finds nothing, or it is all too much. Nothing was read then.
    """
    folders = [folder.resolve() for folder in allowed]
    documents: dict[Path, Document] = {}
    left_out: set[Path] = set()
    size = 0
    for number, given in enumerate(paths):
        field = f"paths[{number}]"
        is_pattern = bool(_PATTERN & set(given)) and not Path(_base(folders), given).exists()
        found = 0
        for file in _files(given, field, folders, is_pattern=is_pattern):
            found += 1
            if file in documents or file in left_out:
                continue
            refusal = _refusal(file, folders)
            content = b"" if refusal else _content(file, field)
            refusal = refusal or _unreadable(content)
            if refusal and is_pattern:
                left_out.add(file)
                continue
            if refusal:
                raise InvalidInputError(Problem(field, given, refusal))
            size += len(content)
            if size > LARGEST_MATERIAL or len(documents) == MOST_FILES:
                takes = f"at most {MOST_FILES} files of {LARGEST_MATERIAL >> 20} MiB together"
                raise InvalidInputError(Problem(field, given, takes))
            documents[file] = Document(_name(file, folders), tuple(content.decode().splitlines()))
        if not found:
            raise InvalidInputError(Problem(field, given, "a pattern that finds files"))
    return Material(tuple(documents.values()), len(left_out))


def check_output(path: str, allowed: Sequence[Path]) -> Path:
    """Return where a result may be written: a new file in an allowed folder that exists.

    Raises:
        InvalidInputError: it may not.
    """
    folders = [folder.resolve() for folder in allowed]
    file = Path(_base(folders), expanded(path, "output_path"))
    file = file.parent.resolve() / file.name
    takes = None
    if not _is_within(file, folders):
        takes = f"a file in an allowed folder: {_shown(folders)}"
    elif file.exists() or file.is_symlink():
        takes = "a new file; this one is there already"
    elif not file.parent.is_dir():
        takes = "a file in a folder that exists"
    if takes is not None:
        raise InvalidInputError(Problem("output_path", path, takes))
    return file


def numbered(document: Document) -> list[str]:
    """Return a document's lines with their numbers, so that an answer can cite them."""
    width = len(str(len(document.lines)))
    return [f"{number:>{width}}| {line}" for number, line in enumerate(document.lines, 1)]


def _base(folders: Sequence[Path]) -> Path:
    directories = [folder for folder in folders if folder.is_dir()]
    return directories[0] if directories else Path.cwd()


def _files(given: str, field: str, folders: Sequence[Path], *, is_pattern: bool) -> Iterator[Path]:
    path = expanded(given, field)
    whole = path if path.is_absolute() else _base(folders) / path
    if not is_pattern:
        file = whole.resolve()
        if not _is_within(file, folders):
            takes = f"a path inside an allowed folder: {_shown(folders)}"
            raise InvalidInputError(Problem(field, given, takes))
        if not file.is_file():
            raise InvalidInputError(Problem(field, given, "a file that exists, or a pattern"))
        yield file
        return
    parts = whole.parts
    plain = next(number for number, part in enumerate(parts) if _PATTERN & set(part))
    # A pattern that begins outside could have the whole disk walked before anything is refused.
    if not _is_within(Path(*parts[:plain]).resolve(), folders):
        takes = f"a pattern inside an allowed folder: {_shown(folders)}"
        raise InvalidInputError(Problem(field, given, takes))
    for match in sorted(glob.glob(str(whole), recursive=True)):  # noqa: PTH207  # takes absolute ones
        file = Path(match).resolve()
        if IGNORED_FOLDERS & set(Path(match).parts) or not file.is_file():
            continue
        if _is_within(file, folders):
            yield file


def _is_within(file: Path, folders: Sequence[Path]) -> bool:
    return any(file == folder or file.is_relative_to(folder) for folder in folders)


def _refusal(file: Path, folders: Sequence[Path]) -> str | None:
    if file in folders:
        return None
    name = file.name.lower()
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in SECRET_NAMES) or (
        SECRET_FOLDERS & set(file.parts)
    ):
        return "no file that may hold secrets, unless --allow-path names that very file"
    return None


def _content(file: Path, field: str) -> bytes:
    try:
        if file.stat().st_size > LARGEST_MATERIAL:
            takes = f"at most {LARGEST_MATERIAL >> 20} MiB"
            raise InvalidInputError(Problem(field, str(file), takes))
        return file.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            Problem(field, str(file), f"a file to read ({error.strerror})")
        ) from None


def _unreadable(content: bytes) -> str | None:
    if b"\x00" in content:
        return "a text file; this one is binary"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "a text file in UTF-8"
    return None


def _name(file: Path, folders: Sequence[Path]) -> str:
    for folder in folders:
        if file != folder and file.is_relative_to(folder):
            return str(file.relative_to(folder))
    return str(file)


def _shown(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders)) or "none is allowed; --allow-path allows one"
