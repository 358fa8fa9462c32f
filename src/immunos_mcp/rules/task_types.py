"""Which task type a word means: other forms of the default types' names, and synonyms. Pure."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, MAPPINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from immunos_mcp.domain import Task
    from immunos_mcp.rules.setting_kinds import SettingChangeValue
    from immunos_mcp.rules.settings import Settings

_CODE = ("code",)
_ANALYSIS = (
    *("analysis", "analyses", "analyze", "analyzes", "analyzed", "analyzing"),
    *("analyse", "analysed", "analysing"),
)

FORMS: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "code_scan": (_CODE, ("scan", "scans", "scanned", "scanning")),
        "vulnerability_detection": (
            ("vulnerability", "vulnerabilities"),
            ("detection", "detections", "detect", "detects", "detected", "detecting"),
        ),
        "code_review": (_CODE, ("review", "reviews", "reviewed", "reviewing")),
        "code_generation": (
            _CODE,
            ("generation", "generations", "generate", "generates", "generated", "generating"),
        ),
        "debug": (("debug", "debugs", "debugged", "debugging"),),
        "reasoning": (("reasoning", "reason", "reasons", "reasoned"),),
        "planning": (("planning", "plan", "plans", "planned"),),
        "analysis": (_ANALYSIS,),
        "problem_solving": (("problem", "problems"), ("solving", "solve", "solves", "solved")),
        "file_analysis": (("file", "files"), _ANALYSIS),
        "summarize": (
            (
                *("summarize", "summarizes", "summarized", "summarizing", "summarization"),
                *("summarise", "summarises", "summarised", "summarising", "summarisation"),
                *("summary", "summaries", "summarizations", "summarisations"),
            ),
        ),
        "simple_question": (("simple",), ("question", "questions")),
    }
)
"""The forms of each word in the name of a default task type."""

SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("bug_fix", "bugfix", "bug_fixing", "bugfixing", "fix_bug", "fix_bugs", "hotfix"),
            "debug",
        ),
        **dict.fromkeys(("root_cause_analysis", "troubleshoot", "troubleshooting"), "debug"),
        **dict.fromkeys(
            ("security_audit", "security_review", "security_scan", "vulnerability_scan"),
            "vulnerability_detection",
        ),
        **dict.fromkeys(("lint", "linting", "static_analysis", "code_audit"), "code_scan"),
        **dict.fromkeys(
            ("pr_review", "pull_request_review", "merge_request_review", "diff_review", "review"),
            "code_review",
        ),
        **dict.fromkeys(
            ("refactor", "refactoring", "implementation", "implement", "coding", "programming"),
            "code_generation",
        ),
        **dict.fromkeys(
            ("write_code", "write_tests", "test_generation", "unit_tests", "boilerplate"),
            "code_generation",
        ),
        **dict.fromkeys(("tldr", "digest", "recap", "condense", "abstract"), "summarize"),
        **dict.fromkeys(("question", "quick_question", "qa", "q_a", "faq"), "simple_question"),
        **dict.fromkeys(("design", "architecture", "roadmap", "task_breakdown"), "planning"),
        **dict.fromkeys(("log_analysis", "document_analysis"), "file_analysis"),
        **dict.fromkeys(("logic", "deduction", "inference"), "reasoning"),
        **dict.fromkeys(("math", "mathematics", "algorithm", "puzzle"), "problem_solving"),
        **dict.fromkeys(("investigation", "data_analysis", "evaluation"), "analysis"),
    }
)
"""The synonyms that the setting ``task_synonyms`` switches on."""


def as_meant(task: Task, settings: Settings) -> Task:
    """Return a task with the task type that its word means, and the word where that is another one."""
    meaning = meant(task.task_type, settings)
    if meaning == task.task_type:
        return task
    return replace(task, task_type=meaning, given_task_type=task.task_type)


def meant(word: str, settings: Settings) -> str:
    """Return the task type that a normalised word means.

    A word that is mapped means itself. Spelling and grammatical variants of the default types always
    mean them; synonyms do where the settings say so; all other words mean themselves.
    """
    if word in settings.task_mappings or word in DEFAULT_TASK_MAPPINGS:
        return word
    variant = _variants().get(word)
    return variant or _synonyms(settings.task_synonyms).get(word, word)


def meant_mappings(
    changes: Mapping[str, SettingChangeValue], settings: Settings
) -> Mapping[str, SettingChangeValue]:
    """Return changes of settings whose mappings are under the names that tasks will be looked up by.

    A mapping that is there under a variant's name stays reachable under it.
    """
    wanted = changes.get(MAPPINGS)
    if not isinstance(wanted, dict):
        return changes
    renamed: dict[str, str | None] = {}
    for word, models in wanted.items():
        variant = None if word in settings.task_mappings else _variants().get(word)
        if variant in wanted:
            variant = None
        renamed[variant or word] = models
    return {**changes, MAPPINGS: renamed}


@cache
def _variants() -> dict[str, str]:
    return {
        variant: task_type for task_type, words in FORMS.items() for variant in _spellings(words)
    }


def _spellings(words: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    for forms in product(*words):
        yield "_".join(forms)
        yield "".join(forms)
        # As in "review code".
        yield "_".join(reversed(forms))


@lru_cache(maxsize=16)
def _synonyms(setting: str) -> dict[str, str]:
    known: dict[str, str] = {}
    for entry in setting.split(","):
        word, separator, task_type = entry.partition("=")
        if separator:
            known[word] = task_type
        elif word == "on":
            known = {**SYNONYMS, **known}
    return known
