"""All checks of whole answers, in the order they run.

That a model repeats itself is noticed in each of its answers, those about parts of the material too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.delegation.checks import answer_json, citations, code, patch
from immunos_mcp.delegation.checks.subject import PASSED
from immunos_mcp.errors import BadAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from immunos_mcp.delegation.checks.subject import Subject

_READING = frozenset(
    {
        "code_scan", "vulnerability_detection", "code_review", "debug", "reasoning", "analysis",
        "problem_solving", "file_analysis", "summarize", "simple_question",
    }
)  # fmt: skip


class Check(NamedTuple):
    """One check.

    Attributes:
        name: what a caller asks for it by.
        find: returns what is wrong, ``PASSED``, or ``None`` where there is nothing to look at.
        task_types: those it is for unasked.
        missing: what is wrong with an answer that has nothing to look at, where the caller asked.
    """

    name: str
    find: Callable[[Subject], str | None]
    task_types: frozenset[str] = frozenset()
    missing: str = ""


CHECKS: tuple[Check, ...] = (
    Check("json", answer_json.find),
    Check("citations", citations.find_citations, _READING, "cites no line of a file as path:line"),
    Check(
        "quotes",
        citations.find_quotes,
        frozenset({"file_analysis", "summarize"}),
        "quotes nothing from its material",
    ),
    Check("patch", patch.find, frozenset({"code_generation", "debug"}), "has no unified diff"),
    Check(
        "code",
        code.find,
        frozenset({"code_generation"}),
        "has no Python, JSON or TOML in a fenced block",
    ),
)
"""A check is one entry here, and nothing else knows it."""

NAMES = tuple(check.name for check in CHECKS)


def run(subject: Subject, asked: Collection[str], model: str) -> tuple[str, ...]:
    """Check an answer; return the names of the checks that it passed.

    Args:
        subject: the answer.
        asked: the checks that the caller asked for, in addition to those of the task type.
        model: who answered.

    Raises:
        BadAnswerError: a check failed.
    """
    passed: list[str] = []
    for check in CHECKS:
        is_asked = check.name in asked or (check.name == "json" and subject.schema is not None)
        if not is_asked and subject.task_type not in check.task_types:
            continue
        fault = check.find(subject)
        if fault is None and is_asked:
            fault = check.missing
        if fault:
            raise failure(model, check.name, fault)
        if fault == PASSED:
            passed.append(check.name)
    return tuple(passed)


def failure(model: str, check: str, fault: str) -> BadAnswerError:
    """Return the error of an answer that failed a check."""
    return BadAnswerError(
        f"check {check} failed: {model}'s answer {fault}",
        "do the task yourself, or delegate it with more exact instructions",
    )
