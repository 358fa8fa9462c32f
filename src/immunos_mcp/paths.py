"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from immunos_mcp.errors import InvalidInputError, Problem


def expanded(text: str, field: str) -> Path:
    """Return a path with ``~`` and ``~user`` replaced by the home folder meant.

    Raises:
        InvalidInputError: there is no such home.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidInputError(Problem(field, text, "a path below a home that exists")) from None
