"""The reference pages are what the program's own tables say, and every word of the policy is explained."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from immunos_mcp.domain import Reason

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> Any:
    found = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def written_pages() -> Any:
    return script("reference").PAGES


@pytest.mark.parametrize("name", ["commands.md", "options.md", "settings.md", "tools.md"])
def test_a_reference_page_is_what_the_tables_say(name: str) -> None:
    page = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert page == written_pages()[name](), "run: python docs/reference.py"


def test_every_page_that_is_written_is_compared() -> None:
    assert set(written_pages()) == {"commands.md", "options.md", "settings.md", "tools.md"}


def test_the_table_of_faults_counts_what_the_tests_try() -> None:
    faults = script("faults")
    page = faults.PAGE.read_text(encoding="utf-8")
    assert page == faults.written(page), "run: python docs/faults.py"
    for row in faults.ROWS:
        assert sum(faults.tried(row)) > 0


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason) -> None:
    assert f"`{reason}`" in (DOCS / "explanation" / "policy.md").read_text(encoding="utf-8")


def test_the_readmes_pictures_are_there_small_and_told_in_words() -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[([^]]*)\]\((?!https:)([^)]+)\)", readme)
    assert {picture for _, picture in pictures} == {
        f"docs/pictures/{file.name}" for file in (DOCS / "pictures").iterdir()
    }
    for words, picture in pictures:
        assert len(words) > 20
        assert (DOCS.parent / picture).stat().st_size < 150_000
