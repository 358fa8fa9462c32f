"""Names that callers choose: how they are normalised, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.errors import InvalidInputError
from immunos_mcp.names import (
    check_model_name,
    check_reason,
    check_request_id,
    check_session_name,
    normalise_task_type,
)


@pytest.mark.parametrize(
    ("given_text", "normalised"),
    [
        ("code_review", "code_review"),
        ("Code Review", "code_review"),
        ("  code-review!! ", "code_review"),
        ("codeReview", "code_review"),
        ("JSONParsing", "json_parsing"),
        ("step2Plan", "step2_plan"),
        ("\u0130stanbul", "i_stanbul"),
        ("Übersetzung", "übersetzung"),
        ("\ufb01le analysis", "file_analysis"),
        ("🔥 fix", "fix"),
    ],
)
def test_a_task_type_becomes_lower_snake_case(given_text: str, normalised: str) -> None:
    assert normalise_task_type(given_text) == normalised


@given(st.text(max_size=80))
def test_a_task_type_is_normalised_for_good_or_refused(text: str) -> None:
    try:
        normalised = normalise_task_type(text)
    except InvalidInputError:
        return
    assert re.fullmatch(r"\w+", normalised)
    assert 1 <= len(normalised) <= 64
    assert normalise_task_type(normalised) == normalised


@pytest.mark.parametrize(
    "text", ["", " ", "!!!", "x" * 65, "a\nb", "a\x00b", "a\u200bb", "\u202eab", "\ud800", "a\x7f"]
)
def test_a_task_type_without_a_letter_or_with_what_cannot_be_seen_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"task_type: got .*, takes 1 to 64 printable"):
        normalise_task_type(text)


@pytest.mark.parametrize("check", [check_session_name, check_request_id, check_reason])
def test_names_lose_surrounding_blanks_and_are_composed(check: object) -> None:
    assert callable(check)
    assert check("  cafe\u0301 1 ") == "caf\u00e9 1"


@pytest.mark.parametrize("check", [check_session_name, check_request_id, check_reason])
@pytest.mark.parametrize("text", ["", "  ", "a\tb", "\u2066x", "x" * 501])
def test_names_that_cannot_be_seen_or_are_too_long_are_refused(check: object, text: str) -> None:
    assert callable(check)
    with pytest.raises(InvalidInputError):
        check(text)


@pytest.mark.parametrize("text", ["", "a b", "modèle", "x" * 201, "a\n"])
def test_a_model_name_with_blanks_or_outside_ascii_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="model: got "):
        check_model_name(text)


def test_a_model_name_is_taken_as_it_is() -> None:
    assert check_model_name("hf.co/Org/Model-GGUF:Q4_K_M") == "hf.co/Org/Model-GGUF:Q4_K_M"
