"""How far an assistant's log was read, as it is stored.

Annotations are no texts here: a named tuple would compile each of them at every start.
"""

from typing import NamedTuple


class TranscriptPosition(NamedTuple):
    """How far a transcript was read; a tuple, since each process reads a thousand of them.

    Attributes:
        path: the file.
        inode: the file's identity, which reveals a replaced file.
        size: its size when it was last read to the end; -1 while a reading is under way, less while the
            file has only just changed.
        modified_ns: when its content or its inode last changed then.
        read_bytes: what was read, to the end of the last whole line.
        tail_checksum: checksum of the last bytes that were read, which reveals a rewritten file.
        unread_lines: lines that should have carried usage and could not be read.
        left_out_before: responses before this moment were left out (UTC, ISO 8601); empty: none were.
        context: what later lines need of earlier ones, in the form of the assistant's reader; or empty.
        has_price_terms: whether all of it was read for what prices depend on too; 0 or 1.
    """

    path: str
    inode: int
    size: int
    modified_ns: int
    read_bytes: int
    tail_checksum: int
    unread_lines: int
    left_out_before: str = ""
    context: str = ""
    has_price_terms: int = 1
