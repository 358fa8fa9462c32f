"""A row is enough: whatever it says holds wherever a setting is read, changed, stored and described."""

from __future__ import annotations

import math
from typing import get_args, get_origin

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.domain import Switch
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.rules import setting_changes
from immunos_mcp.rules.setting_kinds import (
    Budgets,
    Choice,
    Kind,
    ModelName,
    Number,
    SettingChangeValue,
    SettingValue,
    TaskMappings,
    TaskSynonyms,
    TimeZone,
    ToolNames,
    WholeNumber,
    Words,
)
from immunos_mcp.rules.settings import ROWS, Settings, values
from immunos_mcp.server.arguments import UpdateConfigArguments, input_schema, parse

EVERYDAY = [name for name, row in ROWS.items() if not row.is_advanced]
ADVANCED = [name for name, row in ROWS.items() if row.is_advanced]


def accepted(kind: Kind) -> st.SearchStrategy[SettingValue]:  # noqa: C901, PLR0911  # a case for each kind
    """Return values of a kind as settings hold them."""
    match kind:
        case WholeNumber():
            return st.integers(kind.lowest, kind.highest)
        case Number():
            scale = 10**kind.decimals
            steps = st.integers(math.ceil(kind.lowest * scale), math.floor(kind.highest * scale))
            return steps.map(lambda step: step / scale)
        case Choice():
            return st.sampled_from(list(kind.choices))
        case Words():
            words = [*kind.choices]
            others = st.sets(st.sampled_from(words)).map(lambda some: some | {kind.always})
            return others.map(lambda some: ",".join(word for word in words if word in some))
        case ToolNames():
            return st.sampled_from(["none", "WebSearch", "mcp__x__y,Workflow"])
        case TaskSynonyms():
            return st.sampled_from(["off", "on", "on,a=debug", "a=debug,b=c"])
        case ModelName():
            return st.sampled_from(["llama3:8b", "x", "hf.co/org/model:Q4"])
        case TaskMappings():
            return strategies.mappings
        case Budgets():
            return st.sampled_from(["", "a=1 usd/day", "a=5 percent/7d; b=9 tokens/week spread"])
        case TimeZone():
            return st.sampled_from(["system", "UTC", "Europe/Berlin"])


def refused(kind: Kind) -> list[object]:  # noqa: C901, PLR0911  # a case for each kind
    """Return values that a kind does not accept."""
    match kind:
        case WholeNumber():
            return [kind.lowest - 1, kind.highest + 1, kind.lowest + 0.5, True, "1", None]
        case Number():
            below, beyond = kind.lowest - 10**-kind.decimals, kind.highest + 10**-kind.decimals
            return [below, beyond, math.nan, math.inf, 10**400, True, "1", None]
        case Choice():
            return ["", "ON", True, 1, None]
        case Words():
            return ["", "creative", "codex", "critical,urgent", "claude-code,x", True, 1, None]
        case ToolNames():
            return ["", "a b", "a,", "a,none;", ",".join(map(str, range(51))), True, 1, None]
        case TaskSynonyms():
            return ["", "yes", "on,off", "a", True, 1, None]
        case ModelName():
            return [5, True, None, ["x"]]
        case TaskMappings():
            return ["x", 5, [1], None]
        case Budgets():
            return ["a", True, 1, None]
        case TimeZone():
            return ["", "Mars/Olympus", "../etc/passwd", True, 1, None]


@st.composite
def settings_with_a_value(draw: st.DrawFn) -> tuple[str, SettingValue]:
    name = draw(st.sampled_from(list(ROWS)))
    return name, draw(accepted(ROWS[name].kind))


@given(settings_with_a_value())
def test_a_value_that_a_row_accepts_is_read_stored_and_restored(
    given_: tuple[str, SettingValue],
) -> None:
    name, value = given_
    text = setting_changes.to_text(value)
    assert setting_changes.parse(name, text) == value
    settings = setting_changes.from_stored({name: text})
    assert values(settings)[name] == value
    assert setting_changes.from_canonical(setting_changes.stored_form(settings)) == settings
    assert setting_changes.apply(settings, {name: value}) == settings


@given(settings_with_a_value())
def test_update_config_takes_what_a_row_accepts_unless_it_is_advanced(
    given_: tuple[str, SettingValue],
) -> None:
    name, value = given_
    if ROWS[name].is_advanced:
        with pytest.raises(InvalidInputError, match=f"{name}: no such argument"):
            parse(UpdateConfigArguments, {name: value})
    else:
        assert parse(UpdateConfigArguments, {name: value}).changes() == {name: value}


@pytest.mark.parametrize("name", ROWS)
def test_what_a_row_does_not_accept_is_refused_in_its_words(name: str) -> None:
    kind = ROWS[name].kind
    for value in refused(kind):
        changes: dict[str, object] = {name: value}
        with pytest.raises(InvalidInputError) as of_rules:
            setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]  # a bad value
        (problem,) = of_rules.value.problems
        assert (problem.field, problem.expected) == (name, kind.expected)
        # As an argument, text for a number is read as that number.
        if value in (None, "1") or ROWS[name].is_advanced:
            continue
        with pytest.raises(InvalidInputError) as of_arguments:
            parse(UpdateConfigArguments, changes)
        expected = "a model name" if isinstance(kind, ModelName) else kind.expected
        assert [each.expected for each in of_arguments.value.problems] == [expected]


def test_the_schema_of_update_config_has_every_row_that_is_not_advanced() -> None:
    properties = input_schema(UpdateConfigArguments)["properties"]
    assert list(properties) == [*EVERYDAY, "dry_run", "session"]
    assert {name: properties[name].get("description") for name in EVERYDAY} == {
        name: ROWS[name].argument_description for name in EVERYDAY
    }


def test_advanced_settings_are_shown_where_they_differ_from_their_defaults() -> None:
    shown_by_default = [name for name in EVERYDAY if name != "budgets"]
    assert list(setting_changes.notable_values(Settings())) == shown_by_default
    assert ADVANCED
    for name in ADVANCED:
        kind = ROWS[name].kind
        other: SettingValue = Switch.ON
        if isinstance(kind, Number | WholeNumber):
            other = kind.highest
        if isinstance(kind, Words):
            other = ",".join(kind.choices)
        if isinstance(kind, TimeZone):
            other = "UTC"
        if isinstance(kind, Choice):
            other = next(each for each in kind.choices if each != getattr(Settings(), name))
        change: dict[str, SettingChangeValue] = {name: other}
        shown = setting_changes.notable_values(setting_changes.apply(Settings(), change))
        assert set(shown) == {*shown_by_default, name}


@pytest.mark.parametrize("name", ROWS)
def test_a_default_is_of_the_row_s_own_kind_and_type(name: str) -> None:
    default = values(Settings())[name]
    assert ROWS[name].kind.check(name, default) == default
    declared = get_args(Settings.__annotations__[name])[0]
    assert isinstance(default, get_origin(declared) or declared)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.at_most])
def test_a_setting_may_reach_and_not_exceed_the_one_that_bounds_it(name: str) -> None:
    above = ROWS[name].at_most
    assert above is not None
    kind = ROWS[above].kind
    assert isinstance(kind, WholeNumber)
    others: dict[str, SettingChangeValue] = dict.fromkeys(setting_changes.THRESHOLDS, 50)
    fits = setting_changes.apply(Settings(), {**others, above: 50, name: 50})
    assert (getattr(fits, name), getattr(fits, above)) == (50, 50)
    with pytest.raises(InvalidInputError) as crossing:
        setting_changes.apply(Settings(), {**others, above: 50, name: 51})
    assert Problem(name, 51, f"at most {above}, which is 50") in crossing.value.problems


def test_a_row_names_settings_that_exist_and_short_names_that_do_not() -> None:
    for row in ROWS.values():
        assert row.at_most is None or row.at_most in ROWS
        assert row.short_name not in ROWS
