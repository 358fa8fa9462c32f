"""What a configuration file says, apart from how it is spelled: its values, by the names to them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from immunos_mcp.errors import ImmunosError

if TYPE_CHECKING:
    from collections.abc import Sequence

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class DocumentError(ImmunosError):
    """A configuration file cannot be read, or not be changed without touching something else."""


class Syntax(Protocol):
    """A way to spell a document, with edits that touch nothing else; a module is one.

    All of them raise ``DocumentError`` where the text cannot be read or not be edited.

    Attributes:
        IMPLIES_CONTAINERS: whether what is around a value goes with it when it was only implied.
    """

    IMPLIES_CONTAINERS: bool

    @staticmethod
    def read(text: str) -> dict[str, Json]:
        """Return what a document holds."""
        ...

    @staticmethod
    def put(text: str, path: tuple[str, ...], value: Json) -> str:
        """Return a document with a value at a path, its containers made where they are missing."""
        ...

    @staticmethod
    def remove(text: str, path: tuple[str, ...]) -> str:
        """Return a document without what is at a path; nothing there is no error."""
        ...


def member(document: Json, path: Sequence[str]) -> Json:
    """Return what is at a path; ``None`` where nothing is."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def with_member(document: Json, path: tuple[str, ...], value: Json) -> Json:
    """Return a document with a value at a path.

    Raises:
        DocumentError: something on the way is no object.
    """
    if not path:
        return value
    if not isinstance(document, dict):
        raise DocumentError(f"takes an object around {path[0]}")
    return {**document, path[0]: with_member(document.get(path[0], {}), path[1:], value)}


def without_member(document: Json, path: tuple[str, ...]) -> Json:
    """Return a document without what is at a path, where something is."""
    assert isinstance(document, dict)
    if len(path) == 1:
        return {name: value for name, value in document.items() if name != path[0]}
    return {**document, path[0]: without_member(document[path[0]], path[1:])}


def items(value: Json) -> list[Json]:
    """Return the items of a list; none of anything else."""
    return value if isinstance(value, list) else []
