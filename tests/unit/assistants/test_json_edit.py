"""Edits of configuration files: the change and nothing else, whatever the file looks like."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from json_documents import PATH, objects

from immunos_mcp.assistants.json_edit import (
    DocumentError,
    read_json,
    remove_json,
    remove_toml_table,
    set_json,
    set_toml_table,
)

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
    changed = set_json(text, PATH, ENTRY)
    servers = {**document.get("mcpServers", {}), "immunos": ENTRY}
    assert json.loads(changed) == {**document, "mcpServers": servers}
    assert set_json(changed, PATH, ENTRY) == changed
    left = json.loads(remove_json(changed, PATH))
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
    changed = set_json(COMMENTED, ("servers", "immunos"), {"command": "x"})
    added = """\
        "old": {} */
        "immunos": {
            "command": "x"
        }
    }, // more"""
    assert changed == COMMENTED.replace('        "old": {} */\n    }, // more', added)
    # Whose the last comma was is not known by then; without it every reader takes the file.
    left = COMMENTED.replace('"/* no */"],}, // good', '"/* no */"],} // good')
    assert remove_json(changed, ("servers", "immunos")) == left


def test_a_member_after_a_comment_gets_its_comma_before_it() -> None:
    text = '{\n  "a": 1 // one\n}\n'
    changed = set_json(text, ("b",), 2)
    assert changed == '{\n  "a": 1, // one\n  "b": 2\n}\n'
    assert remove_json(changed, ("b",)) == text


@pytest.mark.parametrize("text", ["", "\n", " \n"])
def test_an_empty_file_is_an_empty_object(text: str) -> None:
    assert json.loads(set_json(text, PATH, ENTRY)) == {"mcpServers": {"immunos": ENTRY}}


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
    for edit in (lambda: set_json(text, PATH, 1), lambda: remove_json(text, PATH)):
        with pytest.raises(DocumentError, match=place):
            edit()


def test_something_that_is_no_object_on_the_way_is_not_overwritten() -> None:
    with pytest.raises(DocumentError, match="takes an object around immunos"):
        set_json('{"mcpServers": [1]}', PATH, ENTRY)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = read_json(text)
    except DocumentError:
        return
    assert value == {} or text.strip()


CODEX = """\
# mine
model = "gpt-5"

[mcp_servers.files]
command = "files"  # the first

[mcp_servers.files.env]
X = "1"

[tui]
theme = "dark"
"""


@pytest.mark.parametrize("text", ["", CODEX, CODEX.rstrip("\n"), 'a = "[mcp_servers.immunos]"\n'])
def test_a_table_is_set_at_the_end_and_taken_out_again(text: str) -> None:
    path = ("mcp_servers", "immunos")
    changed = set_toml_table(text, path, ENTRY)
    assert changed.startswith(text.rstrip())
    wanted = tomllib.loads(text)
    wanted.setdefault("mcp_servers", {})["immunos"] = ENTRY
    assert tomllib.loads(changed) == wanted
    assert remove_toml_table(changed, path).rstrip() == text.rstrip()
    again = set_toml_table(changed, path, {"command": "other"})
    assert tomllib.loads(again)["mcp_servers"]["immunos"] == {**ENTRY, "command": "other"}


@pytest.mark.parametrize(
    "text",
    [
        'mcp_servers = {immunos = {command = "x"}}\n',
        '[mcp_servers]\nimmunos.command = "x"\n',
    ],
)
def test_a_table_spelled_in_another_way_is_left_alone(text: str) -> None:
    with pytest.raises(DocumentError, match="without touching something else"):
        remove_toml_table(text, ("mcp_servers", "immunos"))


GROWN = """\
# mine
[mcp_servers.immunos]
enabled = true  # for now
args = [
  "--db",
  "[x]",
]
# where it is
command = "/old"

[ mcp_servers."immunos".tools.route_task ]
approval_mode = "approve"

# the shop
[projects."/shop"]
trust_level = "trusted"
"""


def test_a_table_that_has_grown_is_updated_where_it_stands() -> None:
    path = ("mcp_servers", "immunos")
    changed = set_toml_table(GROWN, path, {"command": "/new", "args": [], "cwd": "/"})
    was = 'args = [\n  "--db",\n  "[x]",\n]\n# where it is\ncommand = "/old"\n'
    assert changed == GROWN.replace(was, 'args = []\n# where it is\ncommand = "/new"\ncwd = "/"\n')


def test_a_table_that_has_grown_is_taken_out_whole_and_others_comments_stay() -> None:
    left = GROWN[: GROWN.index("[mcp")] + GROWN[GROWN.index("# the shop") :]
    assert remove_toml_table(GROWN, ("mcp_servers", "immunos")) == left


@pytest.mark.parametrize(
    "end",
    ['[mcp_servers.immunos]\ncommand = "x"', "[mcp_servers.immunos]", "[mcp_servers.immunos] # x"],
)
def test_a_table_without_an_end_of_line_is_updated(end: str) -> None:
    changed = set_toml_table(end, ("mcp_servers", "immunos"), {"command": "y", "args": ["z"]})
    assert tomllib.loads(changed) == {"mcp_servers": {"immunos": {"command": "y", "args": ["z"]}}}


toml_values = st.booleans() | st.integers(-9, 9) | st.text("ab\"'[]#= \\", max_size=6)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["a", "b.c", "mcp_servers", "mcp_servers.x", "mcp_servers.immunos.env"]
            ),
            st.dictionaries(st.sampled_from("klm"), toml_values, max_size=3),
        ),
        max_size=4,
        unique_by=lambda table: table[0],
    )
)
def test_a_table_comes_and_goes_among_any_others(tables: list[tuple[str, dict[str, Any]]]) -> None:
    text = "".join(
        f"# {name}\n[{name}]\n"
        + "".join(f"{key} = {json.dumps(each)}\n" for key, each in table.items())
        for name, table in tables
    )
    path = ("mcp_servers", "immunos")
    before = tomllib.loads(text)
    changed = set_toml_table(text, path, ENTRY)
    known = before.get("mcp_servers", {}).get("immunos", {})
    servers = {**before.get("mcp_servers", {}), "immunos": {**known, **ENTRY}}
    assert tomllib.loads(changed) == {**before, "mcp_servers": servers}
    left = tomllib.loads(remove_toml_table(changed, path))
    servers.pop("immunos")
    assert left in (
        {**before, "mcp_servers": servers},
        {k: v for k, v in before.items() if k != "mcp_servers"},
    )
    assert servers == {} or left["mcp_servers"] == servers
