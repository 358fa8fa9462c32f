"""Whether code in an answer parses: Python, JSON and TOML, whose parsers come with Python. Pure."""

from __future__ import annotations

import ast
import json
import textwrap
import tomllib
import warnings
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from immunos_mcp.delegation.checks.subject import PASSED, Block, fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from immunos_mcp.delegation.checks.subject import Subject

LONGEST_CODE = 200_000
"""Characters of a block that is parsed."""


def _parse_python(text: str) -> object:
    if text.lstrip().startswith(">>>"):
        return None  # a console session, not a program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "python": _parse_python,
    "py": _parse_python,
    "python3": _parse_python,
    "json": json.loads,
    "toml": tomllib.loads,
}


def find(subject: Subject) -> str | None:
    """Return the first code that does not parse; ``None``: there is none in these languages."""
    suffix = _suffix(subject)
    if suffix in _PARSERS:
        blocks = [Block(suffix, delivered(subject))]
    else:
        blocks = [block for block in fenced(subject.text) if block.language in _PARSERS]
    faults = (_fault(block) for block in blocks)
    return next(filter(None, faults), PASSED) if blocks else None


def delivered(subject: Subject) -> str:
    """Return an answer as its caller gets it; of code for a file, without the words around it.

    They are known for such only where the whole does not parse and the one fenced block in it does.
    """
    whole, suffix = subject.unfenced, _suffix(subject)
    if suffix not in _PARSERS or _fault(Block(suffix, whole)) == PASSED:
        return whole
    blocks = [*islice(fenced(whole), 2)]
    is_one = len(blocks) == 1 and _fault(Block(suffix, blocks[0].text)) == PASSED
    return blocks[0].text if is_one else whole


def _suffix(subject: Subject) -> str:
    return PurePosixPath(subject.file_name).suffix.lower().removeprefix(".")


def _fault(block: Block) -> str:
    if len(block.text) > LONGEST_CODE:
        return PASSED
    try:
        _PARSERS[block.language](textwrap.dedent(block.text))
    except SyntaxError as error:
        return f"has Python that does not parse ({error.msg}, line {error.lineno} of the code)"
    except (ValueError, RecursionError, MemoryError) as error:
        words = str(error) or type(error).__name__
        return f"has {block.language} that does not parse ({words[:100]})"
    return PASSED
