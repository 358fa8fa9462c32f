"""HTML built so that nothing gets into it unescaped: text is text until it is marked otherwise."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from immunos_mcp.rules.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_EMPTY_ELEMENTS = frozenset({"meta", "col", "rect", "line", "circle"})


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str) -> Markup:
    """Return an element; its content is escaped unless it is ``Markup``.

    Attributes are spelled with underscores for hyphens, and with one behind a word of Python's.
    """
    given = "".join(
        f' {attribute.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for attribute, value in attributes.items()
    )
    if name in _EMPTY_ELEMENTS and not content:
        return Markup(f"<{name}{given}>" if name in {"meta", "col"} else f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(content)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Markup:
    """Return parts one after the other, each escaped unless it is ``Markup``."""
    return Markup(between.join(escaped(part) for part in parts))


def escaped(part: str) -> Markup:
    """Return text as markup, whatever it holds; control characters become question marks."""
    return part if isinstance(part, Markup) else Markup(html.escape(printable(part)))
