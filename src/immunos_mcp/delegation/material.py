"""The files of a delegated task, read here so that their content costs Claude nothing.

Files are read only inside allowed folders, after resolving links. Secrets and binary files are not read.
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
"""Bytes of all files of a task in total."""

SECRET_NAMES = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.keystore", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd",
    "credentials", "credentials.*", "secrets", "secrets.*", "*.kdbx",
)  # fmt: skip
"""Names of files that usually hold secrets; such a file is read only if it was allowed by name."""

SECRET_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure"})
IGNORED_FOLDERS = frozenset({".git", "node_modules", "__pycache__", ".venv"})
"""Folders that patterns skip; a file in one may still be named."""

_PATTERN = frozenset("*?[")


class Document(NamedTuple):
    """A text file of a task.

    Attributes:
        name: its path relative to its allowed folder.
        lines: its lines, without line endings.
    """

    name: str
    lines: tuple[str, ...]


class Material(NamedTuple):
    """The files of a task, and how many pattern matches were left out as binary or secret."""

    documents: tuple[Document, ...]
    left_out: int


def read_material(paths: Sequence[str], allowed: Sequence[Path]) -> Material:
    """Read files, given by name or pattern, relative to the first allowed folder unless absolute.

    Args:
        paths: file names, or patterns with ``*``, ``**`` and ``?``.
        allowed: folders whose files may be read, and single files, which may hold secrets.

    Raises:
        InvalidInputError: a path leaves the allowed folders, or names a secret or something that is not
            a text file; a pattern matches nothing; or the files are too many or too large.
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
                message = (
                    f"{field}: too much to read; the limit is {MOST_FILES} files and"
                    f" {LARGEST_MATERIAL >> 20} MiB in total"
                )
                raise InvalidInputError(Problem(field, given, message=message))
            documents[file] = Document(_name(file, folders), tuple(content.decode().splitlines()))
        if not found:
            raise InvalidInputError(Problem(field, given, "a pattern that matches files"))
    return Material(tuple(documents.values()), len(left_out))


def check_output(path: str, allowed: Sequence[Path]) -> Path:
    """Return the file for a result: a new one, in an existing allowed folder.

    Raises:
        InvalidInputError: the path is anything else.
    """
    folders = [folder.resolve() for folder in allowed]
    file = Path(_base(folders), expanded(path, "output_path"))
    file = file.parent.resolve() / file.name
    expected = None
    if not _is_within(file, folders):
        expected = f"a file inside an allowed folder: {_listed(folders)}"
    elif file.exists() or file.is_symlink():
        expected = "a new file; this one exists"
    elif not file.parent.is_dir():
        expected = "a file in an existing folder"
    if expected is not None:
        raise InvalidInputError(Problem("output_path", path, expected))
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
            expected = f"a file inside an allowed folder: {_listed(folders)}"
            raise InvalidInputError(Problem(field, given, expected))
        if not file.is_file():
            raise InvalidInputError(Problem(field, given, "an existing file or a pattern"))
        yield file
        return
    parts = whole.parts
    plain = next(number for number, part in enumerate(parts) if _PATTERN & set(part))
    # Expanding a pattern that begins outside could walk the whole disk before it is rejected.
    if not _is_within(Path(*parts[:plain]).resolve(), folders):
        expected = f"a pattern inside an allowed folder: {_listed(folders)}"
        raise InvalidInputError(Problem(field, given, expected))
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
        return "a file without secrets; name this one with --allow-path to allow it"
    return None


def _content(file: Path, field: str) -> bytes:
    try:
        if file.stat().st_size > LARGEST_MATERIAL:
            expected = f"a file of at most {LARGEST_MATERIAL >> 20} MiB"
            raise InvalidInputError(Problem(field, str(file), expected))
        return file.read_bytes()
    except OSError as error:
        message = f"{field}: {file} cannot be read ({error.strerror})"
        raise InvalidInputError(Problem(field, str(file), message=message)) from None


def _unreadable(content: bytes) -> str | None:
    if b"\x00" in content:
        return "a text file; this one is binary"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "a UTF-8 text file"
    return None


def _name(file: Path, folders: Sequence[Path]) -> str:
    for folder in folders:
        if file != folder and file.is_relative_to(folder):
            return str(file.relative_to(folder))
    return str(file)


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders)) or "none yet; allow one with --allow-path"
