"""Checks of answers: what each accepts and rejects, and which tasks it is for."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.delegation.checks import answer_json, code, patch, registry
from immunos_mcp.delegation.checks.subject import Subject, unfenced
from immunos_mcp.delegation.material import Document
from immunos_mcp.errors import BadAnswerError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Collection

FILES = (
    Document("src/one.py", ("def one():", "    return 1", "", "def two():", "    return 2")),
    Document("docs/guide.md", ("The quick brown fox jumps", "over the lazy dog.")),
)
DIFF = """\
Here it is:
```diff
--- a/src/one.py
+++ b/src/one.py
@@ -4,2 +4,3 @@
 def two():
-    return 2
+    # twice
+    return 1 + 1
```
"""


def passed(text: str, *, asked: Collection[str] = (), **more: Any) -> tuple[str, ...]:
    subject = Subject(text, task_type="other", documents=FILES)
    return registry.run(subject._replace(**more), asked, "tiny")


def fault(text: str, **more: Any) -> str:
    with pytest.raises(BadAnswerError) as caught:
        passed(text, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The bug is in src/one.py:2.", None),
        ("See one.py:4-5 and `docs/guide.md:1`.", None),
        ("See http://localhost:8080 and 12:30, other.rs:77, or version 1.2:3", None),
        ("The bug is in src/one.py:6.", "cites src/one.py:6, but src/one.py has 5 lines"),
        ("one.py:0", "one.py has 5 lines"),
        ("one.py:2-9", "cites one.py:2-9"),
        ("src/three.py:1 is wrong", "was given no src/three.py"),
    ],
)
def test_cited_lines_exist(text: str, words: str | None) -> None:
    if words is None:
        assert set(passed(text, task_type="code_review")) <= {"citations"}
    else:
        assert words in fault(text, task_type="code_review")
        assert "citations" not in passed(text, task_type="code_generation")


def test_a_file_that_the_material_itself_names_may_be_cited() -> None:
    log = Document("app.py", ('File "server.py", line 3', "see server.py"))
    assert passed("server.py:300", task_type="debug", documents=(log,)) == ()


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ('It says "the quick  brown fox jumps over".', True),
        ("It says “the quick ... lazy dog”.", True),
        ("> over the lazy dog", True),
        ("2|     return 1", True),
        ('A "short term" is no quotation', True),
        ('It says "the slow brown fox jumps".', False),
        ("> over the lazy old cat", False),
        ("2|     return 7", False),
    ],
)
def test_quoted_text_is_in_the_material(text: str, *, is_there: bool) -> None:
    if is_there:
        passed(text, task_type="summarize")
    else:
        assert "is not in its material" in fault(text, task_type="summarize")


def test_what_the_caller_asks_for_must_be_there() -> None:
    assert "cites no line" in fault("All is well.", asked=["citations"])
    assert "has no unified diff" in fault("All is well.", asked=["patch"])
    assert "quotes nothing" in fault("All is well.", asked=["quotes"])
    assert "fenced block" in fault("All is well.", asked=["code"])
    assert passed("src/one.py:1", asked=["citations"]) == ("citations",)


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"n": 1}', None),
        ('```json\n{"n": 1}\n```', None),
        ('{"n": "1"}', "does not have the schema's structure at $.n"),
        ('{"m": 1}', "schema's structure"),
        ('Sure! {"n": 1}', "is not JSON"),
        ('{"n": NaN}', "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_has_the_callers_structure(text: str, words: str | None) -> None:
    if words is None:
        assert "json" in passed(text, schema=SCHEMA)
        assert unfenced(text) == '{"n": 1}'
    else:
        assert words in fault(text, schema=SCHEMA)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "must be a JSON schema"),
        ({"properties": {"a": {"$ref": "https://example.com/x"}}}, r"without \$ref"),
        ({"items": [{"pattern": "(a+)+$"}]}, "without pattern"),
        ({"description": "x" * 20_000}, "at most 20000 characters"),
        (nested(20_000), "nested less deeply"),
    ],
)
def test_a_schema_that_answers_cannot_be_compared_with_is_rejected(
    schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        answer_json.check_schema(schema)


def test_a_schema_may_have_properties_with_any_name() -> None:
    answer_json.check_schema({"properties": {"pattern": {"type": "string"}, "$ref": {}}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```python\ndef f():\n    return 1\n```", None),
        ("  ```py\n    x = 1\n  ```", None),
        ("```python\n>>> 1 +\n```\n```rust\nfn (\n```", None),
        ("```python\ndef f(:\n```", "Python that does not parse"),
        ("```json\n{'a': 1}\n```", "json that does not parse"),
        ("```toml\na = \n```", "toml that does not parse"),
        ("```python\n" + "(" * 5_000 + "\n```", "does not parse"),
        ("```python\nx = 1\0\n```", "does not parse"),
    ],
)
def test_code_parses(text: str, words: str | None) -> None:
    if words is None:
        assert "code" in passed(text, task_type="code_generation")
    else:
        assert words in fault(text, task_type="code_generation")
        assert passed(text, task_type="code_review") is not None


@pytest.mark.parametrize("depth", [1_000, 90_000])
def test_deep_code_does_not_end_the_process(depth: int) -> None:
    for deep in ("-" * depth + "1", "a" + ".a" * depth, "1" + "+1" * depth, "[" * depth):
        try:
            passed(f"```python\n{deep}\n```", task_type="code_generation")
        except BadAnswerError:
            continue


def test_an_answer_for_a_file_is_parsed_by_the_files_language() -> None:
    assert "code" in passed("x = 1", file_name="out.py", task_type="code_generation")
    assert "does not parse" in fault("x = = 1", file_name="out.py", task_type="code_generation")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DIFF, None),
        (DIFF.replace("-4,2 +4,3", "-40,2 +40,3"), None),
        (DIFF.replace("a/src/one.py", "/dev/null"), "creates src/one.py, which exists"),
        (DIFF.replace("src/one.py", "src/nine.py"), "changes src/nine.py"),
        (DIFF.replace("    return 2", "    return 3"), "does not apply to src/one.py"),
        (DIFF.replace("-4,2 +4,3", "-4,3 +4,3"), "line counts are wrong"),
        (DIFF.replace("@@ -4,2 +4,3 @@", "@@ ... @@"), "without line numbers"),
    ],
)
def test_a_diff_applies(text: str, words: str | None) -> None:
    if words is None:
        assert "patch" in passed(text, task_type="debug")
    else:
        assert words in fault(text, task_type="debug")


LINES = st.lists(st.sampled_from(["a", "b", "", "  c", "--- x", "+++ y", "@@ z"]), max_size=20)


@given(before=LINES, after=LINES, context=st.integers(0, 3))
def test_what_difflib_writes_applies(before: list[str], after: list[str], context: int) -> None:
    diff = "\n".join(difflib.unified_diff(before, after, "a/f", "b/f", lineterm="", n=context))
    patches = patch.parsed(diff)
    assert len(patches) == (before != after)
    for each in patches:
        assert patch.applied(each, before) == after


def test_a_diff_that_would_take_for_ever_is_rejected() -> None:
    hunk = patch.Hunk(9, ("a",) * 10_000 + ("b",), ())
    with pytest.raises(patch.PatchError, match="too large"):
        patch.applied(patch.FilePatch("f", "f", (hunk,)), ["a"] * 100_000)


@given(st.text(), st.sampled_from(["code_review", "summarize", "code_generation", "debug"]))
def test_any_text_passes_or_fails(text: str, task_type: str) -> None:
    subject = Subject(text, task_type, documents=FILES)
    for check in registry.CHECKS:
        assert "\n" not in (check.find(subject) or "")


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("~~~~\n```\nx\n```\n~~~~\n", "```\nx\n```"),
        ("```\na\n```\nand\n```\nb\n```", None),
        ("Look:\n```\na\n```", None),
        ("```", None),
        ("```\na\n``", None),
    ],
)
def test_only_an_answer_that_is_one_fenced_block_loses_its_fence(
    text: str, whole: str | None
) -> None:
    assert unfenced(text) == (text if whole is None else whole)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Here it is:\n```python\nx = 1\n```\nIt is one.", "x = 1"),
        ("Here it is:\n```\nx = 1", "x = 1"),
        ("```python\nx = 1\n```\nUse it:\n```python\nx\n```", None),
        ("Here it is:\n```python\nx =\n```", None),
        ('"""So:\n```\nx\n```\n"""\ny = 1', None),
    ],
)
def test_code_for_a_file_loses_the_words_around_it_where_they_do_not_parse(
    text: str, whole: str | None
) -> None:
    assert code.delivered(Subject(text, file_name="new.py")) == (text if whole is None else whole)
    assert code.delivered(Subject(text, file_name="new.go")) == text
    assert code.delivered(Subject(text)) == text


def test_many_fences_are_read_in_one_pass() -> None:
    text = "\n".join("`" * length for length in range(3, 500))
    assert passed(text, task_type="code_generation") == ()
    assert unfenced(text) == text
