"""Which task type a word means."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.domain import Classification, Task
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.rules import task_types
from immunos_mcp.rules.names import normalise_task_type
from immunos_mcp.rules.setting_changes import apply
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULTS = Settings()
SYNONYMS_ON = replace(DEFAULTS, task_synonyms="on")


def meant(word: str, settings: Settings = DEFAULTS) -> str:
    return task_types.meant(normalise_task_type(word), settings)


@pytest.mark.parametrize(
    ("word", "task_type"),
    [
        ("summarise", "summarize"),
        ("Summarization", "summarize"),
        ("code reviews", "code_review"),
        ("review code", "code_review"),
        ("codereview", "code_review"),
        ("debugging", "debug"),
        ("code-scanning", "code_scan"),
        ("detect vulnerabilities", "vulnerability_detection"),
        ("generating code", "code_generation"),
        ("analyse files", "file_analysis"),
        ("analyzing", "analysis"),
        ("plan", "planning"),
        ("reason", "reasoning"),
        ("solve problems", "problem_solving"),
        ("Simple Questions", "simple_question"),
    ],
)
def test_other_forms_of_a_default_name_mean_it(word: str, task_type: str) -> None:
    assert meant(word) == task_type


def noun(word: str) -> tuple[str, ...]:
    if word.endswith("y"):
        return word, f"{word[:-1]}ies"
    return word, f"{word[:-2]}es" if word.endswith("sis") else f"{word}s"


def verb(word: str, doubled: str = "") -> tuple[str, ...]:
    stem = word.removesuffix("e") + doubled
    return word, f"{word}s", f"{stem}ed", f"{stem}ing"


ANALYSIS = (*noun("analysis"), *verb("analyze"), *verb("analyse"))
SUMMARY = (*noun("summary"), *noun("summarization"), *noun("summarisation"))
GRAMMAR = {
    "code_scan": (("code",), verb("scan", "n")),
    "vulnerability_detection": (noun("vulnerability"), (*noun("detection"), *verb("detect"))),
    "code_review": (("code",), verb("review")),
    "code_generation": (("code",), (*noun("generation"), *verb("generate"))),
    "debug": (verb("debug", "g"),),
    "reasoning": (verb("reason"),),
    "planning": (verb("plan", "n"),),
    "analysis": (ANALYSIS,),
    "problem_solving": (noun("problem"), verb("solve")),
    "file_analysis": (noun("file"), ANALYSIS),
    "summarize": ((*SUMMARY, *verb("summarize"), *verb("summarise")),),
    "simple_question": (("simple",), noun("question")),
}
"""How English forms the words of each name, stated a second time."""

SEPARATORS = ("_", "-", " ", "  ", "")
CASES: tuple[Callable[[str], str], ...] = (str, str.upper, str.title)


@pytest.mark.parametrize("task_type", DEFAULT_TASK_MAPPINGS)
def test_every_form_means_its_type_however_it_is_written(task_type: str) -> None:
    phrases = [*product(*GRAMMAR[task_type])]
    spelled = {
        case(separator.join(words))
        for words, separator, case in product(phrases, SEPARATORS, CASES)
    }
    spelled |= {"".join(word.title() for word in words) for words in phrases}
    assert {word: meant(word) for word in spelled if meant(word) != task_type} == {}


def test_no_other_phrase_means_a_default_type() -> None:
    expected = {
        "_".join(order): task_type
        for task_type, parts in GRAMMAR.items()
        for words in product(*parts)
        for order in (words, words[::-1])
    }
    known = {word for parts in GRAMMAR.values() for words in parts for word in words}
    known |= {"codec", "coder", "planet", "planner", "scanner", "reasonable", "analyst", "debugger"}
    known |= {"profile", "filesystem", "summer", "solver", "reviewer", "generator", "questionable"}
    phrases = ["_".join(words) for count in (1, 2) for words in product(known, repeat=count)]
    found = {phrase: meant(phrase) for phrase in phrases}
    assert {
        phrase: meaning
        for phrase, meaning in found.items()
        if meaning != expected.get(phrase, phrase)
    } == {}


@given(st.sampled_from(sorted(GRAMMAR)), st.text("abcdefgnrsy_", min_size=1, max_size=4))
def test_a_word_that_goes_on_means_itself(task_type: str, more: str) -> None:
    word = normalise_task_type(f"{task_type}x{more}")
    assert (meant(word), meant(f"x{word}")) == (word, f"x{word}")


@pytest.mark.parametrize("task_type", DEFAULT_TASK_MAPPINGS)
def test_every_default_type_has_forms_and_means_itself(task_type: str) -> None:
    assert task_type in task_types.FORMS
    assert meant(task_type) == task_type
    assert meant(task_type, replace(DEFAULTS, task_mappings={})) == task_type


@pytest.mark.parametrize("word", ["translate", "bug_fix", "security_audit", "codes", "planet"])
def test_any_other_word_means_itself(word: str) -> None:
    assert meant(word) == word


def test_a_word_that_is_mapped_means_itself() -> None:
    mapped = replace(DEFAULTS, task_mappings={"debugging": "llama3:8b"})
    assert meant("debugging", mapped) == "debugging"
    assert meant("bug_fix", replace(mapped, task_synonyms="on,bug_fix=planning")) == "planning"


@pytest.mark.parametrize(
    ("word", "task_type"),
    [
        ("bug_fix", "debug"),
        ("security audit", "vulnerability_detection"),
        ("Refactoring", "code_generation"),
    ],
)
def test_synonyms_are_a_setting(word: str, task_type: str) -> None:
    assert meant(word, SYNONYMS_ON) == task_type
    assert meant(word) == normalise_task_type(word)


def test_no_synonym_is_a_name_or_a_form_of_one_and_each_means_a_default_type() -> None:
    for word, task_type in task_types.SYNONYMS.items():
        assert normalise_task_type(word) == word
        assert meant(word) == word
        assert task_type in DEFAULT_TASK_MAPPINGS


def test_own_synonyms_come_first() -> None:
    settings = apply(DEFAULTS, {"task_synonyms": "Bug Fix = planning, on, perfTuning=Analysis"})
    assert settings.task_synonyms == "on,bug_fix=planning,perf_tuning=analysis"
    assert meant("bug_fix", settings) == "planning"
    assert meant("perf tuning", settings) == "analysis"
    assert meant("hotfix", settings) == "debug"
    own = apply(DEFAULTS, {"task_synonyms": "a=b"})
    assert (meant("a", own), meant("hotfix", own)) == ("b", "hotfix")


@pytest.mark.parametrize("value", ["", "yes", "on,off", "a", "a=", "=b", "on,", 1, True])
def test_what_is_no_synonym_is_refused(value: str | int) -> None:
    with pytest.raises(InvalidInputError, match="task_synonyms"):
        apply(DEFAULTS, {"task_synonyms": value})


@pytest.mark.parametrize("value", ["creative", "", "critical,urgent", "critical;creative", 3])
def test_critical_tasks_always_stay_with_claude(value: str | int) -> None:
    with pytest.raises(InvalidInputError, match="claude_classifications"):
        apply(DEFAULTS, {"claude_classifications": value})


def test_classifications_are_stored_in_one_form() -> None:
    changed = apply(DEFAULTS, {"claude_classifications": "critical , creative,critical"})
    assert changed.claude_classifications == "creative,critical"


@given(st.text(min_size=1, max_size=64), st.sampled_from((DEFAULTS, SYNONYMS_ON)))
def test_what_a_word_means_means_itself(text: str, settings: Settings) -> None:
    try:
        word = normalise_task_type(text)
    except InvalidInputError:
        return
    once = task_types.meant(word, settings)
    assert task_types.meant(once, settings) == once


def test_a_task_keeps_the_word_that_was_given() -> None:
    task = Task("debugging", Classification.ROUTINE, 5)
    found = task_types.as_meant(task, DEFAULTS)
    assert (found.task_type, found.given_task_type) == ("debug", "debugging")
    assert task_types.as_meant(found, DEFAULTS) == found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"debugging": "a"}, {"debug": "a"}),
        ({"debugging": "a", "debug": "b"}, {"debugging": "a", "debug": "b"}),
        ({"plan": None}, {"plan": None}),
        ({"poetry": "a"}, {"poetry": "a"}),
    ],
)
def test_a_mapping_is_changed_under_the_name_that_tasks_are_looked_up_by(
    changes: dict[str, str | None], expected: dict[str, str | None]
) -> None:
    settings = replace(DEFAULTS, task_mappings={"plan": "m", "debug": "n"})
    found = task_types.meant_mappings({"task_mappings": changes}, settings)
    assert found == {"task_mappings": expected}
