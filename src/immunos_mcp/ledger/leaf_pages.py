"""Finds the pages of a SQLite database that hold rows, whether or not anything still leads to them. Pure.

The format is SQLite's own: https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

from typing import NamedTuple

_LARGEST_PAGE = 65_536
_TABLE_LEAF, _INDEX_LEAF = 0x0D, 0x0A
_MOST_OF_AN_INDEX = 3
"""The columns of our widest index."""


class LeafPage(NamedTuple):
    """A page with rows.

    Attributes:
        number: its number, from 1.
        has_row_ids: whether its table has row ids.
        columns: how many columns its first row has.
    """

    number: int
    has_row_ids: bool
    columns: int


def page_size(content: bytes) -> int:
    """Return the size of a database's pages."""
    size = int.from_bytes(content[16:18], "big")
    return _LARGEST_PAGE if size == 1 else size


def leaf_pages(content: bytes) -> list[LeafPage]:
    """Return the pages of a database that hold rows of tables, without those that are free."""
    size = page_size(content)
    free = _free_pages(content, size)
    found: list[LeafPage] = []
    for number in range(2, len(content) // size + 1):
        page = content[(number - 1) * size : number * size]
        if page[0] in {_TABLE_LEAF, _INDEX_LEAF} and number not in free:
            has_row_ids = page[0] == _TABLE_LEAF
            columns = _columns(page, has_row_ids=has_row_ids)
            if columns and (has_row_ids or columns > _MOST_OF_AN_INDEX):
                found.append(LeafPage(number, has_row_ids, columns))
    return found


def _free_pages(content: bytes, size: int) -> set[int]:
    """Follow the list of free pages, as far as it makes sense."""
    free: set[int] = set()
    trunk = int.from_bytes(content[32:36], "big")
    while trunk and trunk not in free and trunk * size <= len(content):
        free.add(trunk)
        page = content[(trunk - 1) * size : trunk * size]
        listed = min(int.from_bytes(page[4:8], "big"), size // 4 - 2)
        free.update(
            int.from_bytes(page[8 + 4 * each : 12 + 4 * each], "big") for each in range(listed)
        )
        trunk = int.from_bytes(page[:4], "big")
    return free


def _columns(page: bytes, *, has_row_ids: bool) -> int:
    """Return the number of columns of a page's first row; 0: it has none."""
    if not int.from_bytes(page[3:5], "big"):
        return 0
    at = int.from_bytes(page[8:10], "big")
    _, at = _number(page, at)
    if has_row_ids:
        _, at = _number(page, at)
    header_bytes, begin = _number(page, at)
    end = min(at + header_bytes, len(page))
    columns, at = 0, begin
    while at < end:
        _, at = _number(page, at)
        columns += 1
    return columns


def _number(page: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where the next one begins."""
    value = 0
    for byte in page[at : at + 8]:
        value = value << 7 | byte & 0x7F
        at += 1
        if byte < 0x80:
            return value, at
    return value, at + 1
