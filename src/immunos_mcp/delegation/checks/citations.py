"""Whether the lines that an answer cites exist, and what it quotes is there. Pure."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from immunos_mcp.delegation.checks.subject import PASSED
from immunos_mcp.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.delegation.checks.subject import Subject

FEWEST_WORDS = 4
"""Words of text in quotation marks that make it a quotation, not a term."""

MOST_CHECKED = 200
"""Citations and quotations of an answer that are looked up, each."""

_CITED = re.compile(
    r"(?<![\w./:-])((?:[\w.-]+/){0,20}[\w-]{1,80}\.\w{1,8}):(\d{1,9})(?:-(\d{1,9}))?"
)
_NUMBERED = re.compile(r"^[ \t]*(\d{1,9})\| (.*\S)", re.MULTILINE)
_BLOCK = re.compile(r"^[ \t]*>[ \t]?(.*\S)", re.MULTILINE)
_MARKED = re.compile(r'"([^"\n]{1,400})"|\u201c([^\u201d\n]{1,400})\u201d')
_SPACES = re.compile(r"\s+")
_DRESS = " .,;:!?\u2026*_`\"'"


def find_citations(subject: Subject) -> str | None:
    """Return the first cited line (``path:line``) that does not exist; ``None``: none is cited."""
    has_cited = False
    for found in islice(_CITED.finditer(subject.text), MOST_CHECKED):
        path, last = found[1], max(int(found[2]), int(found[3] or 0))
        document = subject.named(path)
        if document is None:
            if _could_be_given(path, subject):
                return f"cites {found[0]}, but was given no {path}"
            continue
        has_cited = True
        if not (int(found[2]) > 0 and last <= len(document.lines)):
            return f"cites {found[0]}, but {document.name} has {len(document.lines)} lines"
    return PASSED if has_cited else None


def _could_be_given(path: str, subject: Subject) -> bool:
    """Return whether a path looks like one of the task's files and is nowhere in its text."""
    suffix = PurePosixPath(path).suffix
    suffixes = {PurePosixPath(document.name).suffix for document in subject.documents}
    ends = (document.name.endswith(f"/{path}") for document in subject.documents)
    if suffix not in suffixes or any(ends) or path in subject.asked:
        return False
    return not any(path in line for document in subject.documents for line in document.lines)


def find_quotes(subject: Subject) -> str | None:
    """Return the first quotation that is not in the material or the prompt; ``None``: nothing is quoted."""
    wanted = [*islice(_quotations(subject.text), MOST_CHECKED)]
    if not wanted or not subject.documents:
        return None
    sources = [_plain("\n".join(document.lines)) for document in subject.documents]
    sources.append(_plain(subject.asked))
    for quotation in wanted:
        # An ellipsis leaves something out.
        parts = [_plain(part) for part in re.split(r"\.\.\.|\u2026|\[\u2026\]", quotation)]
        if not any(all(part in source for part in parts) for source in sources):
            return f"quotes {shown(quotation)}, which is not in its material"
    return PASSED


def _quotations(text: str) -> Iterator[str]:
    yield from (found[2] for found in _NUMBERED.finditer(text))
    yield from (found[1] for found in _BLOCK.finditer(text) if _is_quotation(found[1]))
    for found in _MARKED.finditer(text):
        quoted = found[1] or found[2]
        if _is_quotation(quoted):
            yield quoted


def _is_quotation(text: str) -> bool:
    return len(text.split()) >= FEWEST_WORDS


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip(_DRESS).casefold()
