"""Edits of TOML files as text, so that comments, order and layout of the rest stay. Pure.

Every edit is checked by reading its result: it must hold what was there before and the change, nothing
else. ``tomlkit`` is loaded for an edit alone; reading takes Python's own reader.
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

    from immunos_mcp.assistants.documents import Json

    _Holder: TypeAlias = TOMLDocument | Table | InlineTable

IMPLIES_CONTAINERS: bool = True


def read(text: str) -> dict[str, Json]:
    """Return what a TOML document holds.

    Raises:
        DocumentError: it is not TOML; the place is named.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(f"no TOML: {error}") from None


def put(text: str, path: tuple[str, ...], value: Json) -> str:
    """Return a TOML document with the members of a table, which is made where it is missing.

    Members that have their value already keep their spelling, and tables below it their place.

    Raises:
        DocumentError: the document cannot be read, or the table cannot be changed alone.
    """
    document = read(text)
    wanted = with_member(document, path, value)
    if wanted == document:
        return text
    before = member(document, path) or {}
    if not isinstance(before, dict) or not isinstance(value, dict):
        raise DocumentError(f"takes a table at {'.'.join(path)}")
    stretches = [_parsed(stretch) for stretch in _stretches(text)]
    parts = _all_parts(stretches, path)
    spelled = next((part for part in parts if part.is_spelled), None)
    around = next((part for part in _all_parts(stretches, path[:-1]) if part.is_inline), None)
    if spelled is not None:
        _update(parts, spelled, before, value)
    elif around is not None:
        _add(around.table, path[-1], _item(f"{{ {', '.join(_assignments(value))} }}"))
    else:
        # At the end, where its reader looks for what came last; tomlkit would sort it in.
        above = f"{text.rstrip()}\n\n" if text.strip() else ""
        missing = {name: each for name, each in value.items() if name not in before}
        lines = (f"[{'.'.join(path)}]", *_assignments(missing), "")
        return _checked(above + "\n".join(lines), wanted)
    return _checked("".join(stretch.as_string() for stretch in stretches), wanted)


def remove(text: str, path: tuple[str, ...]) -> str:
    """Return a TOML document without a table and those below it; none there is no error.

    Comments between the table and the next one are the next one's, and stay.

    Raises:
        DocumentError: the document cannot be read, or the table cannot be taken out alone.
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
    # A table that is only implied by those below it goes with the last of them.
    implied = without_member(document, path[:-1]) if len(parent) == 1 else wanted
    return _checked(changed if changed.strip() else "", wanted, implied)


_HEADER = re.compile(r"^[ \t]*\[", re.MULTILINE)


def _stretches(text: str) -> Iterator[str]:
    """Cut a document before each header; tomlkit moves tables that lie around an array of tables.

    A line within a string or a list of several lines may look like a header: what is above it cannot
    be read by itself then.
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
    """A place where a table, or a part of it, stands: headers and dotted keys can make several.

    Attributes:
        holder: what it is in.
        index: where in that.
        key: its name there.
        item: the table itself.
    """

    holder: _Holder
    index: int
    key: Key
    item: Item

    @property
    def is_inline(self) -> bool:
        """Return whether it stands in braces."""
        from tomlkit.items import InlineTable

        return isinstance(self.item, InlineTable)

    @property
    def is_spelled(self) -> bool:
        """Return whether it is written there, not only implied by a table below it."""
        from tomlkit.items import Table

        is_header = isinstance(self.item, Table) and not self.key.is_dotted()
        return not (is_header and cast("Table", self.item).is_super_table())

    @property
    def table(self) -> Table | InlineTable:
        """Return the table, to edit its members."""
        return cast("Table | InlineTable", self.item)

    def take_out(self) -> None:
        """Replace it by the comments that are the next table's."""
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
    """Find where a table stands, in the order of the document."""
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
    """Give a table its members: known ones where they stand, new ones in the chosen part."""
    places = {str(name): part.table for part in parts for name in part.table}
    for name in before.keys() - values.keys():
        places[name].remove(name)
    for name, value in values.items():
        if name not in before:
            _add(chosen.table, name, _item(json.dumps(value)))
        elif before[name] != value:
            places[name][name] = _item(json.dumps(value))


def _add(table: Table | InlineTable, name: str, item: Item) -> None:
    """Add a member below the last one, above the comments that are the next table's."""
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
    """Return what stands between the last assignments of a table, or of those below, and the next."""
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
    # One blank line parted it from its neighbours; two would be left.
    return own.removeprefix("\n") + below


def _is_below(key: Key, item: Item) -> bool:
    """Return whether an item is a table with a header of its own."""
    from tomlkit.items import AoT, Table

    return isinstance(item, Table | AoT) and not key.is_dotted()


def _assignments(values: Mapping[str, Json]) -> Iterator[str]:
    return (f"{name} = {json.dumps(value)}" for name, value in values.items())


def _parsed(text: str) -> TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        parsed = tomlkit.parse(text)
    except TOMLKitError as error:
        raise DocumentError(f"no TOML: {error}") from None
    if parsed.as_string() != text:
        raise DocumentError("cannot be changed without touching something else")
    return parsed


def _item(spelled: str) -> Item:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.value(spelled)
    except TOMLKitError as error:
        raise DocumentError(f"no TOML: {error}") from None


def _checked(changed: str, *wanted: Json) -> str:
    if read(changed) not in wanted:
        raise DocumentError("cannot be changed without touching something else")
    return changed
