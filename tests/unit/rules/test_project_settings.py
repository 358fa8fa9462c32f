"""Settings of project folders against an independent statement of what holds where."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.domain import EnginesAllowed, HandoverChoice
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError
from immunos_mcp.rules.project_settings import (
    changed,
    is_in,
    settings_at,
    settings_in_folder,
    unset,
)
from immunos_mcp.rules.settings import ROWS, Settings

NEVER, ON = HandoverChoice.NEVER, HandoverChoice.ON
NAMES = ("a", "ab", "A", "a.b", "ä")
folders = st.lists(st.sampled_from(NAMES), max_size=4).map(lambda names: "/" + "/".join(names))
own = st.fixed_dictionaries(
    {},
    optional={
        "handover": st.sampled_from(["on", "never"]),
        "engines_allowed": st.sampled_from(["any", "this_machine"]),
        "ladder": st.sampled_from(["on", "off"]),
    },
)
by_folders = st.dictionaries(folders, own, max_size=5)
everywheres = st.builds(
    Settings,
    handover=st.sampled_from(HandoverChoice),
    engines_allowed=st.sampled_from(EnginesAllowed),
)


def stated(place: str, name: str, everywhere: str, by_folder: dict[str, dict[str, str]]) -> str:
    """Return what holds in a place: go up from it until a folder says so."""
    here = place
    while True:
        if name in by_folder.get(here, {}):
            return by_folder[here][name]
        if here == "/":
            return everywhere
        here = here.rpartition("/")[0] or "/"


@hypothesis.settings(max_examples=60)
@given(st.lists(folders, min_size=1, max_size=3), everywheres, by_folders)
def test_the_nearest_folder_decides_and_of_restrictions_the_strictest_of_all_places(
    places: list[str], everywhere: Settings, by_folder: dict[str, dict[str, str]]
) -> None:
    found = settings_at(places, everywhere, by_folder)
    handover = {stated(each, "handover", everywhere.handover, by_folder) for each in places}
    engines = {
        stated(each, "engines_allowed", everywhere.engines_allowed, by_folder) for each in places
    }
    assert found.settings == replace(
        everywhere,
        handover=NEVER if "never" in handover else ON,
        engines_allowed=(
            EnginesAllowed.THIS_MACHINE if "this_machine" in engines else EnginesAllowed.ANY
        ),
        ladder=stated(places[0], "ladder", everywhere.ladder, by_folder),
    )


@given(st.lists(folders, max_size=2), everywheres)
def test_where_no_folder_has_any_nothing_is_different(
    places: list[str], everywhere: Settings
) -> None:
    found = settings_at(places, everywhere, {})
    assert found.settings is everywhere
    assert not found.origins


@pytest.mark.parametrize(
    ("place", "folder", "here", "where_case_does_not_matter"),
    [
        ("/a/b", "/a/b", True, True),
        ("/a/b/", "/a/b", True, True),
        ("/a/b", "/a/b/", True, True),
        ("/a/b/c", "/a/b", True, True),
        ("/a", "/a/b", False, False),
        ("/a/bc", "/a/b", False, False),
        ("/a/b", "/", True, True),
        ("/A/b", "/a/B", False, True),
        ("/caf\u00e9/x", "/cafe\u0301", False, True),
    ],
)
def test_a_folder_holds_itself_and_what_is_below_it(
    place: str, folder: str, here: bool, where_case_does_not_matter: bool
) -> None:
    assert is_in(place, folder, ignores_case=False) is here
    assert is_in(place, folder, ignores_case=True) is where_case_does_not_matter


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.is_shared])
def test_what_is_counted_held_back_or_learned_is_the_same_in_every_folder(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} is the same in every folder"):
        changed("/a", {name: getattr(Settings(), name)}, Settings(), {})


def test_task_mappings_merge_over_those_that_hold_everywhere() -> None:
    everywhere = Settings(task_mappings={"debug": "m:1", "plan": "m:2"})
    first = changed("/a", {"task_mappings": {"debug": None, "essay": "m:3"}}, everywhere, {})
    both = changed("/a/b", {"task_mappings": {"debug": "m:4"}}, everywhere, first)
    mapped = settings_at(["/a"], everywhere, both).settings.task_mappings
    assert mapped == {"plan": "m:2", "essay": "m:3"}
    below = settings_at(["/a/b"], everywhere, both)
    assert below.settings.task_mappings == {"plan": "m:2", "essay": "m:3", "debug": "m:4"}
    assert below.origins == {"task_mappings.debug": "/a/b", "task_mappings.essay": "/a"}
    later = replace(everywhere, task_mappings={"plan": "m:9"})
    assert settings_at(["/a"], later, both).settings.task_mappings["plan"] == "m:9"
    found = settings_at(["/a"], everywhere, both)
    shown = settings_in_folder(found.settings, found.origins)
    assert [shown[f"task_mappings.{each}"].value for each in ("debug", "plan", "essay")] == [
        "null", "m:2", "m:3",
    ]  # fmt: skip
    assert unset("/a", ["task_mappings.debug", "task_mappings.essay"], everywhere, first) == {}


def test_what_would_not_go_together_in_a_folder_is_refused() -> None:
    by_folder = changed("/a", {"token_warning_threshold": 170_000}, Settings(), {})
    lower = replace(Settings(), token_warning_threshold=1, token_auto_switch_threshold=2)
    with pytest.raises(InvalidStoredSettingsError, match="the settings of /a/b do not go"):
        settings_at(["/a/b"], lower, by_folder)
    with pytest.raises(InvalidInputError, match="at most token_auto_switch_threshold"):
        changed("/a", {"token_warning_threshold": 190_000}, Settings(), {})
    mended = changed("/a", {"token_warning_threshold": 1}, lower, by_folder)
    assert settings_at(["/a"], lower, mended).settings == lower


def test_taking_back_what_a_folder_does_not_have_changes_nothing() -> None:
    by_folder = {"/a": {"handover": "never"}}
    assert unset("/a", ["ladder", "task_mappings.debug"], Settings(), by_folder) == by_folder
    assert unset("/b", ["handover"], Settings(), by_folder) == by_folder
    assert unset("/a", ["handover"], Settings(), by_folder) == {}
    with pytest.raises(InvalidInputError, match=r"unknown setting 'handover.debug'"):
        unset("/a", ["handover.debug"], Settings(), by_folder)
