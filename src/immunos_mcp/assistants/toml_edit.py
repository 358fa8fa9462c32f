"""Edits TOML files as text, so that comments, order and layout of the rest stay. Pure.

Every edit is verified by parsing its result, which must have the earlier content and the change, nothing
else. ``tomlkit`` is loaded only for edits; reading uses Python's own parser.
"""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from immunos_mcp.assistants.documents import DocumentError, member, with_member, without_member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tomlkit.container import Container
    from tomlkit.items import InlineTable, Item, Key, Table
    from tomlkit.toml_document import TOMLDocument

    from immunos_mcp.answers.encoding import Json

    _Holder: TypeAlias = TOMLDocument | Table | InlineTable

IMPLIES_CONTAINERS: bool = True


def read(text: str) -> dict[str, Json]:
    """Parse a TOML document.

    Raises:
        DocumentError: it is not TOML; the message has the position.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"invalid TOML: {error}") from None
    except RecursionError:
        raise DocumentError("nested too deeply") from None


def put(text: str, path: tuple[str, ...], value: Json) -> str:
    """Return a TOML document with the members of a table set, creating the table if it is missing.

    Members that already have their value keep their formatting, and subtables their place.

    Raises:
        DocumentError: the document cannot be parsed, or the table cannot be edited alone.
    """
    document = read(text)
    wanted = with_member(document, path, value)
    if wanted == document:
        return text
    before = member(document, path) or {}
    if not isinstance(before, dict) or not isinstance(value, dict):
        raise DocumentError(f"{'.'.join(path)} must be a table")
    stretches = [_parsed(stretch) for stretch in _stretches(text)]
    parts = _all_parts(stretches, path)
    explicit = next((part for part in parts if part.is_explicit), None)
    around = next((part for part in _all_parts(stretches, path[:-1]) if part.is_inline), None)
    if explicit is not None:
        _update(parts, explicit, before, value)
    elif around is not None:
        _add(around.table, path[-1], _item(f"{{ {', '.join(_assignments(value))} }}"))
    else:
        # Append it at the end, as a person would; tomlkit would insert it elsewhere.
        above = f"{text.rstrip()}\n\n" if text.strip() else ""
        missing = {name: each for name, each in value.items() if name not in before}
        lines = (f"[{'.'.join(path)}]", *_assignments(missing), "")
        return _checked(above + "\n".join(lines), wanted)
    return _checked("".join(stretch.as_string() for stretch in stretches), wanted)


def remove(text: str, path: tuple[str, ...]) -> str:
    """Return a TOML document without a table and its subtables, if it has them.

    Comments between the table and the next one belong to the next one and stay.

    Raises:
        DocumentError: the document cannot be parsed, or the table cannot be removed alone.
    """
    document = read(text)
    parent = member(document, path[:-1])
    if not isinstance(parent, dict) or path[-1] not in parent:
        return text
    stretches = [_parsed(stretch) for stretch in _stretches(text)]
    for part in reversed(_all_parts(stretches, path)):
        part.take_out()
    changed = "".join(stretch.as_string() for stretch in stretches)
    wanted = without_member(document, path)
    # A table that is only implied by its subtables disappears with the last of them.
    implied = without_member(document, path[:-1]) if len(parent) == 1 else wanted
    return _checked(changed if changed.strip() else "", wanted, implied)


_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)


def _stretches(text: str) -> Iterator[str]:
    """Split a document before each header, because tomlkit moves tables around an array of tables.

    A line inside a multi-line string or list may look like a header; then the text above it cannot be
    parsed by itself.
    """
    start = 0
    for header in _HEADER.finditer(text):
        with suppress(DocumentError):
            read(text[start : header.start()])
            yield text[start : header.start()]
            start = header.start()
    yield text[start:]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a table in the document: headers and dotted keys can split a table into several.

    Attributes:
        holder: its container.
        index: its position in the container.
        key: its key there.
        item: the table itself.
    """

    holder: _Holder
    index: int
    key: Key
    item: Item

    @property
    def is_inline(self) -> bool:
        """Return whether it is an inline table."""
        from tomlkit.items import InlineTable

        return isinstance(self.item, InlineTable)

    @property
    def is_explicit(self) -> bool:
        """Return whether it is written out, not only implied by a subtable."""
        from tomlkit.items import Table

        is_header = isinstance(self.item, Table) and not self.key.is_dotted()
        return not (is_header and cast("Table", self.item).is_super_table())

    @property
    def table(self) -> Table | InlineTable:
        """Return the table, to edit its members."""
        return cast("Table | InlineTable", self.item)

    def take_out(self) -> None:
        """Remove it, leaving the comments that belong to the next table."""
        from tomlkit.items import InlineTable, Null, Whitespace

        if isinstance(self.holder, InlineTable):
            body = self.holder.value.body
            before = body[self.index - 1] if self.index else None
            self.holder.remove(self.key)
            if before is not None and before[1].as_string().isspace():
                body[self.index - 1] = (None, Null())
        else:
            body = _container(self.holder).body
            body[self.index] = (None, Whitespace(_left_behind(self.item)))


def _all_parts(stretches: Sequence[TOMLDocument], path: tuple[str, ...]) -> list[_Part]:
    return [part for stretch in stretches for part in _parts(stretch, path)]


def _parts(holder: _Holder, path: tuple[str, ...]) -> Iterator[_Part]:
    """Yield the parts of a table, in document order."""
    from tomlkit.items import InlineTable, Table

    for index, (key, item) in enumerate(_container(holder).body):
        if key is None or key.key != path[0]:
            continue
        if len(path) == 1:
            yield _Part(holder, index, key, item)
        elif isinstance(item, Table | InlineTable):
            yield from _parts(item, path[1:])


def _container(holder: _Holder) -> Container:
    from tomlkit.container import Container

    return holder if isinstance(holder, Container) else holder.value


def _update(
    parts: Sequence[_Part], chosen: _Part, before: Mapping[str, Json], values: Mapping[str, Json]
) -> None:
    """Set the members of a table: existing ones in place, new ones in the chosen part."""
    places = {str(name): part.table for part in parts for name in part.table}
    for name in before.keys() - values.keys():
        places[name].remove(name)
    for name, value in values.items():
        if name not in before:
            _add(chosen.table, name, _item(json.dumps(value)))
        elif before[name] != value:
            places[name][name] = _item(json.dumps(value))


def _add(table: Table | InlineTable, name: str, item: Item) -> None:
    """Add a member after the last one, before comments that belong to the next table."""
    from tomlkit.items import InlineTable, Whitespace

    body = table.value.body
    if isinstance(table, InlineTable):
        has_space = table.as_string().endswith(" }")
        table[name] = item
        body.extend([(None, Whitespace(" "))] * has_space)
        return
    own = [
        at for at, (key, each) in enumerate(body) if key is not None and not _is_below(key, each)
    ]
    following = body[own[-1] + 1 if own else 0 :]
    del body[len(body) - len(following) :]
    table[name] = item
    body.extend(following)


def _left_behind(item: Item) -> str:
    """Return the text between the last assignment of a table (or its subtables) and the next table."""
    from tomlkit.items import AoT, Table

    if isinstance(item, AoT):
        return "".join(_left_behind(table) for table in item.body)
    if not isinstance(item, Table):
        return ""
    own, below = "", ""
    for key, each in item.value.body:
        if key is None:
            own += each.as_string()
        elif _is_below(key, each):
            below += _left_behind(each)
        else:
            own = ""
    # Drop one of the two blank lines around the removed table.
    return own.removeprefix("\n") + below


def _is_below(key: Key, item: Item) -> bool:
    """Return whether an item is a table with its own header."""
    from tomlkit.items import AoT, Table

    return isinstance(item, Table | AoT) and not key.is_dotted()


def _assignments(values: Mapping[str, Json]) -> Iterator[str]:
    return (f"{name} = {json.dumps(value)}" for name, value in values.items())


def _parsed(text: str) -> TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        parsed = tomlkit.parse(text)
        is_kept = parsed.as_string() == text
    except TOMLKitError as error:
        raise DocumentError(f"invalid TOML: {error}") from None
    except RecursionError:
        raise DocumentError("nested too deeply") from None
    if not is_kept:
        raise DocumentError("cannot be edited without changing something else")
    return parsed


def _item(text: str) -> Item:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.value(text)
    except TOMLKitError as error:
        raise DocumentError(f"invalid TOML: {error}") from None


def _checked(changed: str, *wanted: Json) -> str:
    if read(changed) not in wanted:
        raise DocumentError("cannot be edited without changing something else")
    return changed
