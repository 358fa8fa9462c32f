"""Any file of a client is edited, or refused in words and left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from mutations import mutated

from immunos_mcp.assistants import json_edit, toml_edit
from immunos_mcp.assistants.documents import DocumentError, member

ENTRY: dict[str, Any] = {"command": "immunos-mcp", "args": ["--session", "x"]}
JSON_FILES = [
    b'{"mcpServers": {"other": {"command": "x"}}, "n": 1.50}\n',
    b'{\n\t// note\n\t"mcpServers": {},\n}\n',
    b"\xef\xbb\xbf{}",
    b"",
]
TOML_FILES = [
    b'model = "x"\n\n[mcp_servers.other]\ncommand = "y"\nargs = [\n  "a", # b\n]\n',
    b"mcp_servers = { other = { command = 'x' } }\n",
    b"[[a]]\nb = 1979-05-27T07:32:00Z\n",
]


@given(mutated(JSON_FILES))
@example(b"[" * 100_000)
@example(b'{"a": ' * 3000 + b"1" + b"}" * 3000)
def test_any_json_file_is_edited_or_refused(content: bytes) -> None:
    text = content.decode(errors="replace")
    path = ("mcpServers", "immunos")
    try:
        changed = json_edit.put(text, path, ENTRY)
    except DocumentError:
        return
    assert member(json_edit.read(changed), path) == ENTRY
    assert json_edit.put(changed, path, ENTRY) == changed
    assert "immunos" not in json.dumps(json_edit.read(json_edit.remove(changed, path)))


@given(mutated(TOML_FILES))
@example(b"a = " + b"[" * 5000)
@example(b"a" + b".a" * 3000 + b" = 1")
def test_any_toml_file_is_edited_or_refused(content: bytes) -> None:
    text = content.decode(errors="replace")
    path = ("mcp_servers", "immunos")
    try:
        changed = toml_edit.put(text, path, ENTRY)
    except DocumentError:
        return
    assert member(toml_edit.read(changed), path) == ENTRY
    assert toml_edit.put(changed, path, ENTRY) == changed


@pytest.mark.parametrize("edit", [json_edit, toml_edit])
def test_a_document_that_is_none_is_refused(edit: Any) -> None:
    with pytest.raises(DocumentError):
        edit.put("]", ("a", "b"), ENTRY)
