"""How refused values are shown: in one short printable line, whatever they are."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import Outcome
from immunos_mcp.errors import (
    ISSUES,
    ImmunosError,
    InvalidInputError,
    InvalidStoredSettingsError,
    LedgerError,
    Problem,
    bug_report,
    nearest,
    shown,
    unknown,
)

LONGEST_SHOWN = 60 + len("... (10000000 characters)")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-5, "-5"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("", "''"),
        ("urgent", "'urgent'"),
        ("it's", '"it\'s"'),
        ("a\nb\x00", "'a\\nb\\x00'"),
        ("\u202e\ud800", "'\\u202e\\ud800'"),
        ("\U0001f525", "'\\U0001f525'"),
        (["x", None], "['x', None]"),
        ({"a": 1}, "{'a': 1}"),
        (2**128 - 1, "340282366920938463463374607431768211455"),
        (2**128, "a whole number of 129 bits"),
        (-(2**128), "a whole number of 129 bits"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 100, "'" + "x" * 59 + "... (100 characters)"),
        ("x" * 10_000_000, "'" + "x" * 59 + "... (10000000 characters)"),
        (["x" * 100], "['" + "x" * 58 + "... (104 characters)"),
    ],
)
def test_a_value_is_shown(value: object, text: str) -> None:
    assert shown(value) == text


@given(json_values)
def test_whatever_is_sent_is_shown_in_one_short_printable_line(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert 1 <= len(text) <= LONGEST_SHOWN


def test_a_number_too_long_to_be_written_is_shown_inside_an_object_too() -> None:
    text = shown({"debug": [10**5000]})
    assert text.isprintable()
    assert len(text) <= LONGEST_SHOWN


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            Problem("outcome", "meh", "success or failure"),
            "outcome: must be success or failure (got 'meh')",
        ),
        (
            Problem("outcome", "sucess", "success or failure", "success"),
            "outcome: must be success or failure (got 'sucess'; did you mean 'success'?)",
        ),
        (
            Problem("outcome", None, "success or failure"),
            "outcome: is required; must be success or failure",
        ),
        (Problem("outcome", None), "outcome: is required"),
        (Problem("outcome", "meh", message="decision 7 is closed"), "decision 7 is closed"),
    ],
)
def test_a_problem_is_one_sentence(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_an_unknown_name_is_shown_with_the_nearest_or_with_all_that_exist() -> None:
    known = ("session_limit", "claude_model")
    assert str(unknown("setting", "setting", "session_limt", known)) == (
        "unknown setting 'session_limt' (did you mean session_limit?)"
    )
    assert str(unknown("setting", "setting", "x", known)) == (
        "unknown setting 'x' (known: session_limit, claude_model)"
    )


@pytest.mark.parametrize(
    ("got", "close"),
    [
        ("Rutine", "routine"),
        ("critcal", "critical"),
        ("x", None),
        ("", None),
        (5, None),
        (None, None),
    ],
)
def test_the_nearest_accepted_value_is_found(got: object, close: str | None) -> None:
    assert nearest(got, ("routine", "creative", "critical")) == close


def test_the_nearest_member_of_an_enumeration_is_shown_as_its_word() -> None:
    problem = Problem("outcome", "Sucess", "success or failure", nearest("Sucess", Outcome))
    assert "did you mean 'success'?" in str(problem)


def test_all_problems_are_said_in_the_order_found() -> None:
    first, second = Problem("b", None, "text"), Problem("a", 5, "a name")
    refused = InvalidInputError(first, second)
    assert refused.problems == (first, second)
    assert str(refused) == "b: is required; must be text; a: must be a name (got 5)"


@pytest.mark.parametrize("kind", [InvalidInputError, InvalidStoredSettingsError, LedgerError])
def test_every_error_meant_for_the_caller_is_caught_as_one(kind: type[Exception]) -> None:
    assert issubclass(kind, ImmunosError)


def test_a_bug_is_reported_where_the_package_says() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["urls"]["Issues"] == ISSUES


@pytest.mark.parametrize("words", ["", "two\nlines", "\ud83d", "x" * 9999, "\x1b[2J"])
def test_a_bug_is_reported_in_one_printable_line(words: str) -> None:
    report = bug_report(KeyError(words))
    assert report.startswith("internal error (KeyError")
    assert report.endswith(f"this is a bug, please report it at {ISSUES}")
    assert report.isprintable()
    assert report.isascii()
    assert len(report) < 2000
