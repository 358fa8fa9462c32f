"""Edits of TOML files: the change and nothing else, whatever the file looks like."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.assistants.documents import DocumentError
from immunos_mcp.assistants.toml_edit import put, remove

PATH = ("mcp_servers", "immunos")
ENTRY: dict[str, Any] = {"command": "/bin/immunos-mcp", "args": ["--db", "x y"]}

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


def servers(text: str) -> dict[str, Any]:
    return tomllib.loads(text).get("mcp_servers", {})


@pytest.mark.parametrize("text", ["", CODEX, CODEX.rstrip("\n"), 'a = "[mcp_servers.immunos]"\n'])
def test_a_table_is_set_at_the_end_and_taken_out_again(text: str) -> None:
    changed = put(text, PATH, ENTRY)
    assert changed.startswith(text.rstrip())
    wanted = tomllib.loads(text)
    wanted.setdefault("mcp_servers", {})["immunos"] = ENTRY
    assert tomllib.loads(changed) == wanted
    assert remove(changed, PATH).rstrip() == text.rstrip()
    again = put(changed, PATH, {**ENTRY, "command": "other"})
    assert servers(again)["immunos"] == {**ENTRY, "command": "other"}


@pytest.mark.parametrize(
    "text",
    [
        "mcp_servers = {}\n",
        'mcp_servers = { other = { command = "o" } } # theirs\nx = 1\n',
        'mcp_servers = {other = {command = "o"}}',
        '# mine\nmcp_servers.other.command = "o"\nx = 1\n[tui]\n',
        '[mcp_servers]\nother.command = "o" # theirs\n\n[tui]\na = 1\n',
        '[mcp_servers]\nother = { command = "o" }\n',
    ],
)
def test_whichever_way_other_servers_are_spelled_ours_comes_and_goes(text: str) -> None:
    changed = put(text, PATH, ENTRY)
    assert servers(changed) == {**servers(text), "immunos": ENTRY}
    assert put(changed, PATH, ENTRY) == changed
    assert remove(changed, PATH).rstrip("\n") == text.rstrip("\n")


@pytest.mark.parametrize(
    ("text", "updated", "left"),
    [
        (
            'mcp_servers = { a = {}, immunos = { command = "x", on = true }, b = {} } # c\nx = 1\n',
            'mcp_servers = { a = {}, immunos = { command = "y", on = true }, b = {} } # c\nx = 1\n',
            "mcp_servers = { a = {}, b = {} } # c\nx = 1\n",
        ),
        (
            '# c\nmcp_servers.immunos.command = "x" # d\nmcp_servers.immunos.on = true\nz = 1\n',
            '# c\nmcp_servers.immunos.command = "y" # d\nmcp_servers.immunos.on = true\nz = 1\n',
            "# c\nz = 1\n",
        ),
        (
            'mcp_servers.immunos = { command = "x", on = true }\nz = 1\n',
            'mcp_servers.immunos = { command = "y", on = true }\nz = 1\n',
            "z = 1\n",
        ),
        (
            '[mcp_servers]\n# c\nimmunos = { command = "x", on = true } # d\na = {}\n',
            '[mcp_servers]\n# c\nimmunos = { command = "y", on = true } # d\na = {}\n',
            "[mcp_servers]\n# c\na = {}\n",
        ),
        (
            '[mcp_servers]\nimmunos.command = "x"\na.on = 1\nimmunos.on = true\n\n[z]\n',
            '[mcp_servers]\nimmunos.command = "y"\na.on = 1\nimmunos.on = true\n\n[z]\n',
            "[mcp_servers]\na.on = 1\n\n[z]\n",
        ),
    ],
)
def test_a_table_in_braces_or_of_dotted_keys_is_updated_and_taken_out(
    text: str, updated: str, left: str
) -> None:
    assert put(text, PATH, {"command": "y", "on": True}) == updated
    assert remove(text, PATH) == left
    grown = put(text, PATH, {"command": "y", "on": True, "args": ["z"]})
    assert servers(grown)["immunos"] == {"command": "y", "on": True, "args": ["z"]}
    assert remove(grown, PATH) == left


GROWN = """\
# mine
[mcp_servers.immunos]
enabled = true  # for now
args = [
  "--db",
  "[x]",
]
# where it is
  command = "/old" # here

# its tools
[ mcp_servers."immunos".tools.route_task ]
approval_mode = "approve"

# the shop
[projects."/shop"]
trust_level = "trusted"
"""
IN_GROWN: dict[str, Any] = tomllib.loads(GROWN)["mcp_servers"]["immunos"]


def test_a_table_that_has_grown_is_updated_where_it_stands() -> None:
    changed = put(GROWN, PATH, {**IN_GROWN, "command": "/new", "args": [], "cwd": "/"})
    list_of_several_lines = '[\n  "--db",\n  "[x]",\n]'
    here = '  command = "/old" # here\n'
    now = '  command = "/new" # here\ncwd = "/"\n'
    assert changed == GROWN.replace(list_of_several_lines, "[]").replace(here, now)


def test_what_has_its_value_already_keeps_its_spelling() -> None:
    changed = put(GROWN, PATH, {**IN_GROWN, "command": "/new"})
    assert changed == GROWN.replace('"/old"', '"/new"')


def test_a_member_that_is_not_among_the_values_goes() -> None:
    left = {name: value for name, value in IN_GROWN.items() if name != "enabled"}
    assert put(GROWN, PATH, left) == GROWN.replace("enabled = true  # for now\n", "")


def test_a_table_that_has_grown_is_taken_out_whole_and_others_comments_stay() -> None:
    left = "# mine\n# its tools\n" + GROWN[GROWN.index("# the shop") :]
    assert remove(GROWN, PATH) == left


SCATTERED = """\
[mcp_servers.immunos.env]
A = "1"

[z]
b = 1

[mcp_servers.immunos]
command = "/old"
# end
"""


def test_a_table_whose_parts_lie_apart_is_updated_and_taken_out() -> None:
    changed = put(SCATTERED, PATH, {"env": {"A": "1"}, "command": "/new", "cwd": "/"})
    assert changed == SCATTERED.replace('"/old"\n', '"/new"\ncwd = "/"\n')
    assert remove(SCATTERED, PATH) == "[z]\nb = 1\n\n# end\n"


def test_tables_around_an_array_of_tables_keep_their_places() -> None:
    text = "[mcp_servers.x]\na = 1\n\n[[d]]\n[[d]]\nb = 1\n\n"
    changed = put(text, PATH, ENTRY)
    updated = put(changed, PATH, {**ENTRY, "command": "other"})
    assert updated == changed.replace(ENTRY["command"], "other")
    assert remove(updated, PATH) == text


@pytest.mark.parametrize(
    "end",
    ['[mcp_servers.immunos]\ncommand = "x"', "[mcp_servers.immunos]", "[mcp_servers.immunos] # x"],
)
def test_a_table_without_an_end_of_line_is_updated(end: str) -> None:
    changed = put(end, PATH, {"command": "y", "args": ["z"]})
    assert tomllib.loads(changed) == {"mcp_servers": {"immunos": {"command": "y", "args": ["z"]}}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a =\n", "invalid TOML: .*line 1, column 4"),
        ("a = 1\na = 2\n", "invalid TOML"),
        ('mcp_servers = "x"\n', "immunos must be inside an object"),
        ("[[mcp_servers]]\n", "immunos must be inside an object"),
        ("mcp_servers.immunos = 3\n", "mcp_servers.immunos must be a table"),
    ],
)
def test_what_cannot_be_edited_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        put(text, PATH, ENTRY)


comments = st.sampled_from(["", "# c\n", "\n", "\n# [mcp_servers.immunos]\n\n", "  # x\n"])
keys = st.lists(st.sampled_from(["k", "l", "m.n", "m.o", '"q.r"', "k2"]), max_size=3, unique=True)
spaces = st.sampled_from(["", " ", "  "])
spelled_values = st.sampled_from(
    [
        *("1", "true", "2026-11-27", '"#"', "'[x]'", '"""\n[mcp_servers.immunos]\n"""', "{}"),
        *("[\n  1, # one\n  2,\n]", "{ a = 1, b.c = [] }", "'''\n# '''", "1e3", r'"\u00e9 \""'),
    ]
)
headers = st.lists(
    st.sampled_from(
        [
            *("[a]", "[ b.c ]", "[mcp_servers]", "[mcp_servers.x]", '[mcp_servers."x".env] # c'),
            *("[mcp_servers.immunos]", "[mcp_servers.immunos.env]", "[[mcp_servers.immunos.t]]"),
            *("[[d]]", "  [e]"),
        ]
    ),
    max_size=5,
    unique=True,
)
beginnings = st.sampled_from(
    [
        *("", "", "", "mcp_servers = {}\n", 'mcp_servers = { x = { command = "o" } } # c\n'),
        *('mcp_servers.x.command = "o"\n', 'mcp_servers.immunos.command = "o" # c\n'),
        'mcp_servers.immunos = { command = "o" }\n',
        'mcp_servers = { x = {}, immunos = {command = "o", args = [ ]} }\n',
    ]
)


@st.composite
def bodies(draw: st.DrawFn) -> str:
    return "".join(
        f"{draw(comments)}{key}{draw(spaces)}={draw(spaces)}{draw(spelled_values)}"
        f"{draw(st.sampled_from(['', ' ', ' # c']))}\n"
        for key in draw(keys)
    )


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Return a TOML document, of every layout, that may or may not hold an entry of our name."""
    text = draw(beginnings) + draw(bodies())
    for header in draw(headers):
        text += f"{draw(comments)}{header}\n{draw(bodies())}"
    text += draw(comments)
    text = text.removesuffix("\n") if draw(st.booleans()) else text
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return draw(beginnings)
    return text


def is_subsequence(lines: list[str], of: list[str]) -> bool:
    """Tell whether all lines are there in their order; spaces at the very end may go."""
    left = iter([line.rstrip() for line in of])
    return all(line.rstrip() in left for line in lines)


@given(documents(), st.sampled_from([ENTRY, {"command": "x"}]))
def test_in_any_document_the_entry_is_set_and_nothing_else(
    text: str, entry: dict[str, Any]
) -> None:
    before = tomllib.loads(text)
    value = {**servers(text).get("immunos", {}), **entry}
    changed = put(text, PATH, value)
    assert tomllib.loads(changed) == {
        **before,
        "mcp_servers": {**before.get("mcp_servers", {}), "immunos": value},
    }
    assert put(changed, PATH, value) == changed
    others = [line for line in text.splitlines() if "command" not in line and "args" not in line]
    others = [line for line in others if line.strip() and not line.startswith("mcp_servers =")]
    assert is_subsequence(others, changed.splitlines())
    if "immunos" not in servers(text) and "mcp_servers = {" not in text:
        assert changed.startswith(text.rstrip())
        assert remove(changed, PATH).rstrip() == text.rstrip()


@given(documents())
def test_from_any_document_the_entry_is_taken_out_and_nothing_else(text: str) -> None:
    before = tomllib.loads(text)
    left = remove(text, PATH)
    others = {name: each for name, each in servers(text).items() if name != "immunos"}
    without = {name: each for name, each in before.items() if name != "mcp_servers"}
    wanted = [{**without, "mcp_servers": others}] + [without] * (not others)
    assert tomllib.loads(left) in wanted
    comments_of_others = [line for line in text.splitlines() if line.strip() in {"# c", "# x"}]
    if "immunos" not in servers(text):
        assert left == text
    elif not any(line.lstrip("[").startswith("mcp_servers") for line in text.splitlines()):
        assert is_subsequence(comments_of_others, left.splitlines())


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
    before = tomllib.loads(text)
    known = servers(text).get("immunos", {})
    changed = put(text, PATH, {**known, **ENTRY})
    others = {**servers(text), "immunos": {**known, **ENTRY}}
    assert tomllib.loads(changed) == {**before, "mcp_servers": others}
    left = tomllib.loads(remove(changed, PATH))
    others.pop("immunos")
    assert left in (
        {**before, "mcp_servers": others},
        {k: v for k, v in before.items() if k != "mcp_servers"},
    )
    assert others == {} or left["mcp_servers"] == others
