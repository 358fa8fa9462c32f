"""The settings' rules: what is taken, what fits together, how the ledger spells it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp import settings as rules
from immunos_mcp.domain import Difference, Settings, Weights
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError

thresholds = st.lists(st.integers(1, 10**12), min_size=3, max_size=3).map(sorted)
weight = st.integers(0, 100_000).map(lambda thousandths: thousandths / 1000)
mapped = st.dictionaries(
    st.from_regex(r"[a-z]{1,9}(_[a-z0-9]{1,9})?", fullmatch=True),
    st.sampled_from(["llama3:8b", "claude-opus-4-8", "qwen2.5:1.5b"]),
    max_size=5,
)


@st.composite
def built_settings(draw: st.DrawFn) -> Settings:
    warning, auto_switch, limit = draw(thresholds)
    return Settings(
        token_warning_threshold=warning,
        token_auto_switch_threshold=auto_switch,
        session_limit=limit,
        task_mappings=draw(mapped),
        claude_model=draw(st.sampled_from(["claude-x", "gpt-5"])),
        default_local_model=draw(st.sampled_from(["llama3:8b", "qwen2.5:1.5b"])),
        weights=draw(st.builds(Weights, weight, weight, weight, weight)),
        session_window_minutes=draw(st.integers(0, 525_600)),
    )


@given(built_settings())
def test_settings_come_back_from_the_ledger_as_they_were(settings: Settings) -> None:
    stored = {name: rules.to_text(value) for name, value in rules.values(settings).items()}
    assert rules.from_stored(stored) == settings
    assert rules.stored_form(rules.from_stored(stored)) == rules.stored_form(settings)


def test_an_empty_ledger_has_the_defaults() -> None:
    assert rules.from_stored({}) == Settings()
    assert (
        Settings().token_warning_threshold,
        Settings().token_auto_switch_threshold,
        Settings().session_limit,
        len(Settings().task_mappings),
    ) == (150_000, 180_000, 200_000, 12)


def test_a_ledger_of_earlier_scripts_holds() -> None:
    stored = {
        "token_warning_threshold": "100000",
        "token_auto_switch_threshold": "120000",
        "task_mappings": '{"Code Review": "llama3:8b"}',
        "theme": "dark",
    }
    assert rules.from_stored(stored) == Settings(
        token_warning_threshold=100_000,
        token_auto_switch_threshold=120_000,
        task_mappings={"code_review": "llama3:8b"},
    )


@pytest.mark.parametrize(
    ("stored", "bounds"),
    [
        ({"token_auto_switch_threshold": "300000"}, (150_000, 300_000, 300_000)),
        ({"token_auto_switch_threshold": "90000"}, (90_000, 90_000, 200_000)),
        ({"token_warning_threshold": "190000"}, (190_000, 190_000, 200_000)),
        ({"session_limit": "1000"}, (1000, 1000, 1000)),
        (
            {"token_warning_threshold": "500", "session_limit": "1000"},
            (500, 1000, 1000),
        ),
    ],
)
def test_a_bound_that_nobody_set_gives_way_to_those_that_somebody_did(
    stored: dict[str, str], bounds: tuple[int, int, int]
) -> None:
    settings = rules.from_stored(stored)
    assert (
        settings.token_warning_threshold,
        settings.token_auto_switch_threshold,
        settings.session_limit,
    ) == bounds


@pytest.mark.parametrize(
    "stored",
    [
        {"token_warning_threshold": "many"},
        {"token_warning_threshold": "1.5"},
        {"token_warning_threshold": "0"},
        {"token_warning_threshold": "20", "token_auto_switch_threshold": "10"},
        {"task_mappings": "[1]"},
        {"task_mappings": "{broken"},
        {"task_mappings": '{"x": 5}'},
        {"input_weight": "nan"},
        {"input_weight": "-1"},
        {"claude_model": ""},
        {"default_local_model": "claude-x"},
    ],
)
def test_a_stored_setting_that_cannot_be_used_is_named_with_its_remedy(
    stored: dict[str, str],
) -> None:
    with pytest.raises(InvalidStoredSettingsError) as refused:
        rules.from_stored(stored)
    assert next(iter(stored)) in str(refused.value)
    assert "immunos-mcp config set" in str(refused.value)


def test_changes_apply_together_and_mappings_merge() -> None:
    changed = rules.apply(
        Settings(),
        {
            "warning_threshold": 10,
            "auto_switch_threshold": 20,
            "session_limit": 30,
            "cache_read_weight": 0.1,
            "session_window_minutes": 300,
            "claude_model": "claude-x",
            "default_local_model": "llama3:8b",
            "task_mappings": {"Code Review": "llama3:8b", "debug": None, "unheard of": None},
        },
    )
    mappings = {**Settings().task_mappings, "code_review": "llama3:8b"}
    del mappings["debug"]
    assert changed == Settings(
        10, 20, 30, mappings, "claude-x", "llama3:8b", Weights(1, 1, 1, 0.1), 300
    )


def test_one_bad_field_refuses_all_and_every_bad_field_is_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.apply(
            Settings(),
            {
                "session_limit": 0,
                "input_weight": 0.0001,
                "claude_model": "a b",
                "session_window_minutes": -1,
                "task_mappings": {"!!": "x", "fine": "a b"},
                "unheard_of": 1,
                "token_warning_threshold": 100,
            },
        )
    assert [problem.field for problem in refused.value.problems] == [
        "session_limit",
        "input_weight",
        "claude_model",
        "session_window_minutes",
        "task_mappings.!!",
        "task_mappings.fine",
        "setting",
    ]


@pytest.mark.parametrize("value", [True, 1.5, "5", None, 10**12 + 1, -1, 0])
def test_a_threshold_takes_whole_numbers_in_its_range_alone(value: object) -> None:
    changes: dict[str, object] = {"session_limit": value}
    with pytest.raises(InvalidInputError, match="session_limit: got "):
        rules.apply(Settings(), changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), -0.1, 100.001, 0.0005])
def test_a_weight_takes_numbers_in_its_range_in_steps_of_a_thousandth(value: object) -> None:
    changes: dict[str, object] = {"input_weight": value}
    with pytest.raises(InvalidInputError, match="input_weight: got "):
        rules.apply(Settings(), changes)  # type: ignore[arg-type]


def test_thresholds_that_cross_are_refused_naming_both() -> None:
    with pytest.raises(InvalidInputError) as refused:
        rules.apply(Settings(), {"token_warning_threshold": 190_000})
    assert str(refused.value) == (
        "token_warning_threshold: got 190000, takes at most token_auto_switch_threshold, "
        "which is 180000"
    )


def test_claude_is_no_default_local_model() -> None:
    with pytest.raises(InvalidInputError, match="default_local_model: got 'opus'"):
        rules.apply(Settings(), {"default_local_model": "opus"})


def test_more_mappings_than_the_ledger_takes_are_refused() -> None:
    many = {f"task_{number}": "llama3:8b" for number in range(201)}
    with pytest.raises(InvalidInputError, match="at most 200 mappings"):
        rules.apply(Settings(task_mappings={}), {"task_mappings": many})


def test_differences_name_mappings_one_by_one() -> None:
    after = replace(
        Settings(), session_limit=300_000, task_mappings={"debug": "llama3:8b", "new": "llama3:8b"}
    )
    before = replace(Settings(), task_mappings={"debug": "qwen2.5-coder:7b", "old": "llama3:8b"})
    assert rules.differences(before, after) == {
        "session_limit": Difference(200_000, 300_000),
        "task_mappings.debug": Difference("qwen2.5-coder:7b", "llama3:8b"),
        "task_mappings.new": Difference(None, "llama3:8b"),
        "task_mappings.old": Difference("llama3:8b", None),
    }


def test_the_history_of_mappings_is_kept_entry_by_entry() -> None:
    after = json.dumps({**Settings().task_mappings, "debug": "llama3:8b"})
    changes = rules.text_changes("task_mappings", None, after)
    assert changes == [("task_mappings.debug", "qwen2.5-coder:7b", "llama3:8b")]
    assert rules.text_changes("task_mappings", "{broken", None) == []
    assert rules.text_changes("session_limit", None, "5") == [("session_limit", None, "5")]
