"""Names that callers choose: how they are normalised, and what is refused."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules.names import (
    check_model_name,
    check_reason,
    check_request_id,
    check_session_name,
    is_printable,
    normalise_task_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("given_text", "normalised"),
    [
        ("code_review", "code_review"),
        ("Code Review", "code_review"),
        ("  code-review!! ", "code_review"),
        ("codeReview", "code_review"),
        ("JSONParsing", "json_parsing"),
        ("step2Plan", "step2_plan"),
        ("\u0130stanbul", "i\u0307stanbul"),
        ("Übersetzung", "übersetzung"),
        ("\ufb01le analysis", "file_analysis"),
        ("🔥 fix", "fix"),
        ("❤\ufe0f fix", "fix"),
        ("नमस्ते Code", "नमस्ते_code"),
        ("รีวิวโค้ด", "รีวิวโค้ด"),
        ("H\u0331 W\u030a", "\u1e96_\u1e98"),
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
    words = normalised.split("_")
    assert all(word and word[0].isalnum() for word in words)
    assert all(character.isalnum() or category(character)[0] == "M" for character in "".join(words))
    assert 1 <= len(normalised) <= 64
    assert normalise_task_type(normalised) == normalised


@pytest.mark.parametrize(
    "text", ["", " ", "!!!", "x" * 65, "a\nb", "a\x00b", "a\u200bb", "\u202eab", "\ud800", "a\x7f"]
)
def test_a_task_type_without_a_letter_or_with_what_cannot_be_seen_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidInputError, match=r"task_type: must be a task type of 1 to 64 printable"
    ):
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
    with pytest.raises(InvalidInputError, match="model: must be a model name"):
        check_model_name(text)


def test_a_model_name_is_taken_as_it_is() -> None:
    assert check_model_name("hf.co/Org/Model-GGUF:Q4_K_M") == "hf.co/Org/Model-GGUF:Q4_K_M"


INVISIBLE = st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
VISIBLE = st.characters(exclude_categories=["C", "Zl", "Zp"])
CHECKS = (
    normalise_task_type,
    check_session_name,
    check_model_name,
    check_request_id,
    check_reason,
)


@given(st.text(VISIBLE, max_size=20), INVISIBLE, st.text(VISIBLE, max_size=20))
def test_one_character_that_cannot_be_seen_refuses_any_name(
    before: str, invisible: str, after: str
) -> None:
    text = f"x{before}{invisible}{after}x"
    assert not is_printable(text)
    for check in CHECKS:
        with pytest.raises(InvalidInputError):
            check(text)


@given(st.text(VISIBLE))
def test_text_of_characters_that_can_be_seen_is_printable(text: str) -> None:
    assert is_printable(text)


@pytest.mark.parametrize(
    ("given_text", "normalised"),
    [
        ("reviewPullRequest", "review_pull_request"),
        ("HTTPServer", "http_server"),
        ("parseHTML", "parse_html"),
        ("HTML", "html"),
        ("v2", "v2"),
        ("a__b", "a_b"),
        ("_debug_", "debug"),
        ("CODE_REVIEW", "code_review"),
        ("code\u00a0review", "code_review"),
        ("code\u3000review", "code_review"),
        ("\uff23\uff4f\uff44\uff45", "code"),
        ("CAFE\u0301", "caf\u00e9"),
        ("\u00e9tudeDeCas", "\u00e9tude_de_cas"),
        ("\u30b3\u30fc\u30c9", "\u30b3\u30fc\u30c9"),
        ("x" * 64, "x" * 64),
        ("7", "7"),
    ],
)
def test_spellings_of_one_task_type_meet(given_text: str, normalised: str) -> None:
    assert normalise_task_type(given_text) == normalised


@given(st.text(VISIBLE, min_size=1, max_size=64))
def test_a_normalised_task_type_has_no_capitals_and_no_doubled_or_outer_underscores(
    text: str,
) -> None:
    try:
        normalised = normalise_task_type(text)
    except InvalidInputError:
        return
    assert normalised == normalised.lower()
    assert "__" not in normalised
    assert normalised == normalised.strip("_")


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=6))
def test_a_task_type_is_the_same_in_camel_case_in_title_case_and_with_dashes(
    parts: list[str],
) -> None:
    snake = "_".join(parts)
    assert normalise_task_type(snake) == snake
    assert normalise_task_type("-".join(parts)) == snake
    assert normalise_task_type(" ".join(part.capitalize() for part in parts)) == snake
    assert normalise_task_type(snake.upper()) == snake


@pytest.mark.parametrize(
    ("check", "field", "longest"),
    [
        (normalise_task_type, "task_type", 64),
        (check_session_name, "session", 64),
        (check_model_name, "model", 200),
        (check_request_id, "request_id", 200),
        (check_reason, "reason", 500),
    ],
)
def test_a_name_may_be_as_long_as_its_limit_and_no_longer(
    check: Callable[[str], str], field: str, longest: int
) -> None:
    assert check("x" * longest) == "x" * longest
    with pytest.raises(InvalidInputError) as refused:
        check("x" * (longest + 1))
    (problem,) = refused.value.problems
    assert (problem.field, problem.got) == (field, "x" * (longest + 1))
    assert f"1 to {longest} " in problem.expected


def test_a_name_that_grows_too_long_when_composed_is_refused() -> None:
    ligatures = "\ufb03" * 30
    with pytest.raises(InvalidInputError):
        normalise_task_type(ligatures)
    grows = "\u0958" * 40
    assert len(unicodedata.normalize("NFC", grows)) == 80
    with pytest.raises(InvalidInputError):
        check_session_name(grows)


@pytest.mark.parametrize("check", CHECKS)
def test_a_refusal_names_the_field_that_it_is_told(
    check: Callable[[str, str], str],
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check("", "--field")
    (problem,) = refused.value.problems
    assert problem == Problem("--field", "", problem.expected)


@given(st.text(VISIBLE, min_size=1, max_size=64))
def test_a_session_name_is_taken_for_good(text: str) -> None:
    try:
        name = check_session_name(text)
    except InvalidInputError:
        return
    assert check_session_name(name) == name == name.strip()


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200))
def test_every_visible_ascii_text_is_a_model_name(text: str) -> None:
    assert check_model_name(text) == text


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\u3000"])
def test_blanks_of_any_kind_around_a_name_are_dropped_and_alone_are_none(blank: str) -> None:
    assert check_session_name(f"{blank}work{blank}") == "work"
    with pytest.raises(InvalidInputError):
        check_session_name(blank)
