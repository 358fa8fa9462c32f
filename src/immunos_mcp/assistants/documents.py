"""The content of configuration files, independent of their syntax: values by path. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.encoding import Json


class DocumentError(ImmunosError):
    """A configuration file cannot be parsed, or cannot be edited without side effects."""


class Syntax(Protocol):
    """A file format with edits that leave the rest of the text alone; implemented by modules.

    All functions raise ``DocumentError`` if the text cannot be parsed or edited.

    Attributes:
        IMPLIES_CONTAINERS: whether removing a value also removes containers that it only implied.
    """

    IMPLIES_CONTAINERS: bool

    @staticmethod
    def read(text: str) -> dict[str, Json]:
        """Parse a document."""
        ...

    @staticmethod
    def put(text: str, path: tuple[str, ...], value: Json) -> str:
        """Return a document with a value at a path, creating missing containers."""
        ...

    @staticmethod
    def remove(text: str, path: tuple[str, ...]) -> str:
        """Return a document without the value at a path, if there is one."""
        ...


def member(document: Json, path: Sequence[str]) -> Json:
    """Return the value at a path; ``None``: there is none."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def with_member(document: Json, path: tuple[str, ...], value: Json) -> Json:
    """Return a document with a value at a path.

    Raises:
        DocumentError: something on the path is not an object.
    """
    if not path:
        return value
    if not isinstance(document, dict):
        raise DocumentError(f"{path[0]} must be inside an object")
    return {**document, path[0]: with_member(document.get(path[0], {}), path[1:], value)}


def without_member(document: Json, path: tuple[str, ...]) -> Json:
    """Return a document without the value at a path, which must exist."""
    assert isinstance(document, dict)
    if len(path) == 1:
        return {name: value for name, value in document.items() if name != path[0]}
    return {**document, path[0]: without_member(document[path[0]], path[1:])}


def items(value: Json) -> list[Json]:
    """Return the items of a list; anything else has none."""
    return value if isinstance(value, list) else []
