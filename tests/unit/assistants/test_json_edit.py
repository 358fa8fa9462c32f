"""Edits of JSON files: the change and nothing else, whatever the file looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from json_documents import PATH, objects

from immunos_mcp.assistants.documents import DocumentError
from immunos_mcp.assistants.json_edit import put, read, remove

ENTRY: dict[str, Any] = {"command": "/bin/immunos-mcp", "args": ["--db", "x y"]}

layouts = st.sampled_from(
    [
        {"indent": 2},
        {"indent": 4},
        {"indent": "\t"},
        {"indent": 0},
        {},
        {"separators": (",", ":")},
        {"indent": 2, "ensure_ascii": False},
    ]
)


@given(objects, layouts, st.sampled_from(["", "\n", "\n\n"]))
def test_a_member_is_set_and_taken_out_again_and_all_else_stays(
    document: dict[str, Any], layout: dict[str, Any], end: str
) -> None:
    assume(isinstance(document.get("mcpServers", {}), dict))
    text = json.dumps(document, **layout) + end
    changed = put(text, PATH, ENTRY)
    servers = {**document.get("mcpServers", {}), "immunos": ENTRY}
    assert json.loads(changed) == {**document, "mcpServers": servers}
    assert put(changed, PATH, ENTRY) == changed
    left = json.loads(remove(changed, PATH))
    servers.pop("immunos")
    assert left == {**document, "mcpServers": servers}


COMMENTED = """\
// my servers
{
    "servers": {
        // the first
        "files": {"command": "files", "args": ["http://x//y", "/* no */"],}, // good
        /* off:
        "old": {} */
    }, // more to come
    "inputs": [1, 2,],
}
"""


def test_comments_trailing_commas_order_and_layout_stay() -> None:
    changed = put(COMMENTED, ("servers", "immunos"), {"command": "x"})
    added = """\
        "old": {} */
        "immunos": {
            "command": "x"
        }
    }, // more"""
    assert changed == COMMENTED.replace('        "old": {} */\n    }, // more', added)
    # Whose the last comma was is not known by then; without it every reader takes the file.
    left = COMMENTED.replace('"/* no */"],}, // good', '"/* no */"],} // good')
    assert remove(changed, ("servers", "immunos")) == left


def test_a_member_after_a_comment_gets_its_comma_before_it() -> None:
    text = '{\n  "a": 1 // one\n}\n'
    changed = put(text, ("b",), 2)
    assert changed == '{\n  "a": 1, // one\n  "b": 2\n}\n'
    assert remove(changed, ("b",)) == text


@pytest.mark.parametrize("text", ["", "\n", " \n"])
def test_an_empty_file_is_an_empty_object(text: str) -> None:
    assert json.loads(put(text, PATH, ENTRY)) == {"mcpServers": {"immunos": ENTRY}}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "line 1, column 2"),
        ('{"a": }', "line 1, column 7"),
        ('{\n  "a": 1\n  "b": 2\n}', "line 3, column 3"),
        ('{"a": 1} x', "line 1, column 10"),
        ("[1]", "line 1, column 1"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": 1, "a": 2}', "line 1, column 10"),
        ('{"a": "x\n"}', "line 1, column 7"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, place: str) -> None:
    for edit in (lambda: put(text, PATH, 1), lambda: remove(text, PATH)):
        with pytest.raises(DocumentError, match=place):
            edit()


def test_something_that_is_no_object_on_the_way_is_not_overwritten() -> None:
    with pytest.raises(DocumentError, match="immunos must be inside an object"):
        put('{"mcpServers": [1]}', PATH, ENTRY)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = read(text)
    except DocumentError:
        return
    assert value == {} or text.strip()
