"""Delegated answers that are checked: what the caller gets, and what the ledger keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from desks import desk_at
from ollama_server import Script, scripted_ollama

from immunos_mcp.domain import Outcome
from immunos_mcp.errors import DelegationError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from desks import Desk

SCHEMA = {"type": "object", "required": ["n"]}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def desk(tmp_path: Path, script: Script) -> AsyncGenerator[Desk]:
    with scripted_ollama(script) as where:
        async with desk_at(tmp_path, where) as made:
            yield made


async def outcomes(desk: Desk) -> list[Outcome | None]:
    return [entry.outcome for entry in await desk.archive.list_decisions(50, None)]


@pytest.mark.anyio
async def test_a_passed_check_is_named(desk: Desk, script: Script) -> None:
    script.words = (
        "See",
        " one.py:2",
    )
    answer = await desk.delegate(paths=[desk.write("one.py", ["a", "b"])])
    assert (answer.passed_checks, answer.local_output) == ("citations", "See one.py:2")
    assert await outcomes(desk) == [Outcome.SUCCESS]


@pytest.mark.anyio
async def test_a_failed_check_is_an_error_and_a_failure_by_check(
    desk: Desk, script: Script
) -> None:
    script.words = ("See", " one.py:3")
    path = desk.write("one.py", ["a", "b"])
    with pytest.raises(DelegationError, match=r"check citations failed: .* one.py has 2 lines"):
        await desk.delegate(paths=[path], output_path="review.md")
    assert (desk.folder / "review.md.unfinished").read_text(encoding="utf-8") == "See one.py:3"
    assert await outcomes(desk) == [Outcome.FAILURE]


@pytest.mark.anyio
async def test_a_schema_goes_to_the_engine_and_the_answer_comes_without_a_fence(
    desk: Desk, script: Script
) -> None:
    script.words = ("```json\n", '{"n":', " 1}", "\n```")
    answer = await desk.delegate("summarize", schema=SCHEMA)
    assert (answer.passed_checks, answer.local_output) == ("json", '{"n": 1}')
    assert script.requests[0]["format"] == SCHEMA
    assert "JSON of this schema" in script.requests[0]["messages"][1]["content"]
    script.words = ("[", "1", "]")
    with pytest.raises(DelegationError, match="check json failed"):
        await desk.delegate("summarize", schema=SCHEMA)


@pytest.mark.anyio
async def test_an_answer_that_was_cut_off_is_not_checked(desk: Desk, script: Script) -> None:
    script.words = ("See", " one.py:3", " and", " more")
    path = desk.write("one.py", ["a", "b"])
    answer = await desk.delegate(paths=[path], max_output_tokens=2)
    assert (answer.cut_off, answer.passed_checks) == (True, None)
    assert await outcomes(desk) == [None]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"schema": {"type": "objekt"}}, "schema: must be a JSON schema"),
        ({"checks": ["code", "pathc"]}, r"unknown check 'pathc' \(did you mean patch"),
    ],
)
async def test_what_cannot_be_checked_is_rejected_before_anything_is_done(
    desk: Desk, script: Script, bad: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        await desk.delegate(**bad)
    assert (script.requests, await outcomes(desk)) == ([], [])


@pytest.mark.anyio
async def test_code_for_a_file_is_written_without_its_fence(desk: Desk, script: Script) -> None:
    script.words = ("```python\n", "x = 1\n", "```")
    answer = await desk.delegate("code_generation", output_path="new.py")
    assert answer.passed_checks == "code"
    assert (desk.folder / "new.py").read_text(encoding="utf-8") == "x = 1\n"
