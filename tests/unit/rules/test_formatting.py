"""Text from outside, as terminals, JSON and spreadsheets get it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.answers.encoding import escaped_json
from immunos_mcp.rules.formatting import csv_cell, encodable, for_terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\tlines", "plain\n\tlines"),
        ("\x1b[2J", "?[2J"),
        ("\x9b2J\x07\x00\x7f", "?2J???"),
        ("a\r\nb\rc", "a\nbc"),
        ("\u202egnp\u2069", "?gnp?"),
        ("naïve 👨\u200d👩 \u0644\u200c\u0627", "naïve 👨\u200d👩 \u0644\u200c\u0627"),
    ],
)
def test_a_terminal_gets_nothing_to_obey(text: str, shown: str) -> None:
    assert for_terminal(text) == shown


@given(st.text())
def test_json_means_the_same_and_has_nothing_to_obey(text: str) -> None:
    written = escaped_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(written) == {text: text}
    assert for_terminal(written) == written


@pytest.mark.parametrize(
    "cell", ["=1", "+1", "-1+2", "@x", " =1", "\n=1", "\t=1", "\r=1", "\uff1d1", "\u00a0=1"]
)
def test_a_cell_that_a_spreadsheet_would_run_is_text(cell: str) -> None:
    assert csv_cell(cell).startswith("'")


@pytest.mark.parametrize("cell", ["", "a=1", "5", "-5", "-0.25", "2026-01-01", "'", "name"])
def test_any_other_cell_stays_as_it_is(cell: str) -> None:
    assert csv_cell(cell) == cell


@given(st.text(st.characters(exclude_categories=[])))
def test_every_text_has_utf_8_once_half_pairs_are_replaced(text: str) -> None:
    assert len(encodable(text).encode().decode()) == len(text)
