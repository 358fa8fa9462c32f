"""The settings' rules: what is taken, what fits together, how the ledger spells it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from immunos_mcp.answers.settings import Difference
from immunos_mcp.domain import MAXIMUM_TOKENS
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, Problem
from immunos_mcp.rules import setting_changes
from immunos_mcp.rules.settings import ROWS, Settings, values

if TYPE_CHECKING:
    from immunos_mcp.rules.setting_kinds import SettingChangeValue


@given(strategies.settings())
def test_settings_come_back_from_the_ledger_as_they_were(settings: Settings) -> None:
    stored = {name: setting_changes.to_text(value) for name, value in values(settings).items()}
    assert setting_changes.from_stored(stored) == settings
    assert setting_changes.stored_form(
        setting_changes.from_stored(stored)
    ) == setting_changes.stored_form(settings)


def test_an_empty_ledger_has_the_defaults() -> None:
    assert setting_changes.from_stored({}) == Settings()
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
    assert setting_changes.from_stored(stored) == Settings(
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
    settings = setting_changes.from_stored(stored)
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
        setting_changes.from_stored(stored)
    assert next(iter(stored)) in str(refused.value)
    assert "immunos-mcp config set" in str(refused.value)


def test_changes_apply_together_and_mappings_merge() -> None:
    changed = setting_changes.apply(
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
        token_warning_threshold=10,
        token_auto_switch_threshold=20,
        session_limit=30,
        task_mappings=mappings,
        claude_model="claude-x",
        default_local_model="llama3:8b",
        cache_read_weight=0.1,
        session_window_minutes=300,
    )


def test_one_bad_field_refuses_all_and_every_bad_field_is_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(
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
    with pytest.raises(InvalidInputError, match=r"session_limit: (must be|is required)"):
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), -0.1, 100.001, 0.0005])
def test_a_weight_takes_numbers_in_its_range_in_steps_of_a_thousandth(value: object) -> None:
    changes: dict[str, object] = {"input_weight": value}
    with pytest.raises(InvalidInputError, match="input_weight: must be "):
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]


def test_thresholds_that_cross_are_refused_naming_both() -> None:
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), {"token_warning_threshold": 190_000})
    assert str(refused.value) == (
        "token_warning_threshold: must be at most token_auto_switch_threshold, which is 180000 "
        "(got 190000)"
    )


def test_claude_is_no_default_local_model() -> None:
    with pytest.raises(
        InvalidInputError, match=r"default_local_model: must be a local model, .*\(got 'opus'\)"
    ):
        setting_changes.apply(Settings(), {"default_local_model": "opus"})


def test_more_mappings_than_the_ledger_takes_are_refused() -> None:
    many = {f"task_{number}": "llama3:8b" for number in range(201)}
    with pytest.raises(InvalidInputError, match="at most 200 task types can be mapped"):
        setting_changes.apply(Settings(task_mappings={}), {"task_mappings": many})


def test_differences_name_mappings_one_by_one() -> None:
    after = replace(
        Settings(), session_limit=300_000, task_mappings={"debug": "llama3:8b", "new": "llama3:8b"}
    )
    before = replace(Settings(), task_mappings={"debug": "qwen2.5-coder:7b", "old": "llama3:8b"})
    assert setting_changes.differences(before, after) == {
        "session_limit": Difference(200_000, 300_000),
        "task_mappings.debug": Difference("qwen2.5-coder:7b", "llama3:8b"),
        "task_mappings.new": Difference(None, "llama3:8b"),
        "task_mappings.old": Difference("llama3:8b", None),
    }


def test_the_history_of_mappings_is_kept_entry_by_entry() -> None:
    after = json.dumps({**Settings().task_mappings, "debug": "llama3:8b"})
    changes = setting_changes.text_changes("task_mappings", None, after)
    assert changes == [("task_mappings.debug", "qwen2.5-coder:7b", "llama3:8b")]
    assert setting_changes.text_changes("task_mappings", "{broken", None) == []
    assert setting_changes.text_changes("session_limit", None, "5") == [
        ("session_limit", None, "5")
    ]


NAMES = (
    "token_warning_threshold",
    "token_auto_switch_threshold",
    "session_limit",
    "claude_model",
    "default_local_model",
    "input_weight",
    "output_weight",
    "cache_creation_weight",
    "cache_read_weight",
    "session_window_minutes",
    "plan_warning_percent",
    "plan_auto_switch_percent",
    "budgets",
    "reservations",
    "reservation_minutes",
    "time_zone",
    "claude_classifications",
    "counted_assistants",
    "task_synonyms",
    "handover",
    "engines_allowed",
    "cloud_models",
    "remote_engine",
    "deny_agent_tool",
    "subagents_at_warning",
    "subagents_at_critical",
    "expensive_tools_at_warning",
    "expensive_tools_at_critical",
    "model_switches_at_warning",
    "model_switches_at_critical",
    "expensive_tools",
    "subagent_token_ceiling",
    "advice",
    "delegate_wait_seconds",
    "largest_context",
    "mains_power_required",
    "free_memory_required",
    "ladder",
    "track_record",
    "record_gain",
    "record_half_life_days",
    "record_local_rate",
    "record_claude_rate",
    "record_local_strength",
    "record_claude_strength",
    "record_horizon",
    "record_retry_days",
    "task_mappings",
)


def bounds(settings: Settings) -> tuple[int, int, int]:
    return (
        settings.token_warning_threshold,
        settings.token_auto_switch_threshold,
        settings.session_limit,
    )


def stored(settings: Settings) -> dict[str, str]:
    return {name: setting_changes.to_text(value) for name, value in values(settings).items()}


def test_the_names_of_the_settings_are_the_contract() -> None:
    assert tuple(ROWS) == NAMES
    assert tuple(values(Settings())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_known_by_its_full_name(name: str) -> None:
    assert setting_changes.full_name(name) == name


def test_the_thresholds_are_known_by_their_short_names_too() -> None:
    assert [
        setting_changes.full_name(name) for name in ("warning_threshold", "auto_switch_threshold")
    ] == [
        "token_warning_threshold",
        "token_auto_switch_threshold",
    ]


@pytest.mark.parametrize("name", ["", "limit", "SESSION_LIMIT", "task_mappings.debug", "a\nb"])
def test_a_name_of_no_setting_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.full_name(name)
    (problem,) = refused.value.problems
    assert (problem.got, problem.expected) == (name, f"one of {', '.join(NAMES)}")
    assert str(problem).startswith(f"unknown setting {name!r} (")


@given(strategies.settings(), strategies.settings())
def test_all_settings_can_be_changed_into_any_others_at_once(
    before: Settings, after: Settings
) -> None:
    removed = dict.fromkeys(before.task_mappings)
    changes: dict[str, SettingChangeValue] = {
        **values(after),
        "task_mappings": {**removed, **after.task_mappings},
    }
    assert setting_changes.apply(before, changes) == after


@given(strategies.settings())
def test_changing_nothing_changes_nothing(settings: Settings) -> None:
    assert setting_changes.apply(settings, {}) == settings
    assert setting_changes.apply(settings, values(settings)) == settings
    assert setting_changes.differences(settings, settings) == {}


@given(strategies.settings(), st.sampled_from(NAMES))
def test_a_change_beside_a_bad_one_is_not_applied(settings: Settings, name: str) -> None:
    bad: SettingChangeValue = "?" if name == "budgets" else ""
    if name == "task_mappings":
        bad = {"!": "x"}
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(settings, {**values(Settings()), name: bad})
    (problem,) = refused.value.problems
    assert problem.field == ("task_mappings.!" if name == "task_mappings" else name)


@given(strategies.settings(), strategies.settings())
def test_the_differences_are_what_turns_one_into_the_other(
    before: Settings, after: Settings
) -> None:
    found = setting_changes.differences(before, after)
    changes: dict[str, SettingChangeValue] = {}
    mappings: dict[str, str | None] = {}
    for name, difference in found.items():
        if name.startswith("task_mappings."):
            assert difference.after is None or isinstance(difference.after, str)
            mappings[name.removeprefix("task_mappings.")] = difference.after
        else:
            assert difference.after is not None
            changes[name] = difference.after
    assert setting_changes.apply(before, {**changes, "task_mappings": mappings}) == after
    assert setting_changes.differences(after, before) == {
        name: Difference(difference.after, difference.before) for name, difference in found.items()
    }


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"token_warning_threshold": 180_000}, True),
        ({"token_warning_threshold": 180_001}, False),
        ({"token_auto_switch_threshold": 150_000}, True),
        ({"token_auto_switch_threshold": 149_999}, False),
        ({"token_auto_switch_threshold": 200_000}, True),
        ({"token_auto_switch_threshold": 200_001}, False),
        ({"session_limit": 180_000}, True),
        ({"session_limit": 179_999}, False),
        ({"token_warning_threshold": 1}, True),
        (dict.fromkeys(setting_changes.THRESHOLDS, 1), True),
        (dict.fromkeys(setting_changes.THRESHOLDS, MAXIMUM_TOKENS), True),
    ],
)
def test_the_bounds_may_meet_and_not_cross(changes: dict[str, int], fits: bool) -> None:
    expected = tuple(
        changes.get(name, default)
        for name, default in zip(setting_changes.THRESHOLDS, bounds(Settings()), strict=True)
    )
    try:
        changed = setting_changes.apply(Settings(), changes)
    except InvalidInputError:
        assert not fits
    else:
        assert fits
        assert bounds(changed) == expected


def test_every_bound_that_crosses_another_is_named() -> None:
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), {"token_warning_threshold": 500_000, "session_limit": 5})
    assert refused.value.problems == (
        Problem(
            "token_warning_threshold",
            500_000,
            "at most token_auto_switch_threshold, which is 180000",
        ),
        Problem("token_auto_switch_threshold", 180_000, "at most session_limit, which is 5"),
    )


def test_a_claude_model_of_any_name_is_no_default_local_model() -> None:
    with pytest.raises(
        InvalidInputError, match=r"default_local_model: must be a local model, .*\(got 'gpt-5'\)"
    ):
        setting_changes.apply(Settings(), {"claude_model": "gpt-5", "default_local_model": "gpt-5"})
    with pytest.raises(InvalidInputError, match=r"local model, .*\(got 'qwen2\.5-coder:7b'\)"):
        setting_changes.apply(Settings(), {"claude_model": "qwen2.5-coder:7b"})


@pytest.mark.parametrize("number", [0, 0.0, 0.001, 0.1, 1, 2.5, 99.999, 100, 100.0])
def test_a_weight_is_kept_as_a_number_of_thousandths(number: float) -> None:
    assert setting_changes.apply(Settings(), {"cache_read_weight": number}) == Settings(
        cache_read_weight=float(number)
    )


@pytest.mark.parametrize(
    "number", [10**30, 10**400, -(10**400)], ids=["huge", "beyond floats", "below floats"]
)
def test_a_weight_of_any_size_is_refused_by_name(number: int) -> None:
    with pytest.raises(InvalidInputError, match="input_weight: must be "):
        setting_changes.apply(Settings(), {"input_weight": number})


@pytest.mark.parametrize("number", [True, -1, 525_601, 1.0, "5", None])
def test_a_window_takes_whole_minutes_of_up_to_a_year(number: object) -> None:
    changes: dict[str, object] = {"session_window_minutes": number}
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]
    expected = "a whole number of minutes from 0 (off) to 525600"
    assert refused.value.problems == (Problem("session_window_minutes", number, expected),)


@pytest.mark.parametrize("number", [0, 1, 525_600])
def test_a_window_may_be_off_and_as_long_as_a_year(number: int) -> None:
    changed = setting_changes.apply(Settings(), {"session_window_minutes": number})
    assert changed == replace(Settings(), session_window_minutes=number)


@pytest.mark.parametrize("number", [True, -1, 101, 1.0, "5", None])
def test_a_percentage_is_whole_and_at_most_a_hundred(number: object) -> None:
    changes: dict[str, object] = {"plan_warning_percent": number}
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]
    expected = "a whole percentage from 1 to 100, or 0 for off"
    assert refused.value.problems == (Problem("plan_warning_percent", number, expected),)


def test_the_plans_warning_comes_before_its_auto_switch_where_both_are_on() -> None:
    for warning, auto_switch in ((95, 0), (0, 5), (50, 50), (0, 0)):
        setting_changes.apply(
            Settings(),
            {"plan_warning_percent": warning, "plan_auto_switch_percent": auto_switch},
        )
    with pytest.raises(InvalidInputError, match="at most plan_auto_switch_percent, which is 50"):
        setting_changes.apply(
            Settings(), {"plan_warning_percent": 51, "plan_auto_switch_percent": 50}
        )


@pytest.mark.parametrize("word", ["", "yes", "ON", True, None, 1])
def test_a_switch_takes_on_and_off_alone(word: object) -> None:
    changes: dict[str, object] = {"deny_agent_tool": word}
    with pytest.raises(InvalidInputError, match="must be on or off"):
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [5, True, None, ["x"]])
def test_a_model_of_another_kind_is_refused_with_what_it_got(value: object) -> None:
    changes: dict[str, object] = {"claude_model": value}
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]
    (problem,) = refused.value.problems
    assert (problem.field, problem.got) == ("claude_model", value)


@pytest.mark.parametrize("value", [[1], "x", 5, None, True])
def test_mappings_that_are_no_object_are_refused(value: object) -> None:
    changes: dict[str, object] = {"task_mappings": value}
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]
    assert refused.value.problems == (
        Problem("task_mappings", value, ROWS["task_mappings"].kind.expected),
    )


def test_every_bad_mapping_is_named_and_what_cannot_be_seen_is_not_repeated() -> None:
    mappings: dict[str, object] = {"debug": 5, "a\nb": "m", "x" * 65: "m", "plan": "a b", "ok": "m"}
    changes: dict[str, object] = {"task_mappings": mappings}
    with pytest.raises(InvalidInputError) as refused:
        setting_changes.apply(Settings(), changes)  # type: ignore[arg-type]
    assert [(problem.field, problem.got) for problem in refused.value.problems] == [
        ("task_mappings.debug", 5),
        ("task_mappings.?", "a\nb"),
        ("task_mappings.?", "x" * 65),
        ("task_mappings.plan", "a b"),
    ]


def test_two_spellings_of_a_task_type_may_not_say_two_things() -> None:
    same: dict[str, str | None] = {"code review": "m:1", "codeReview": "m:1", "x": None, "X": None}
    assert ROWS["task_mappings"].kind.check("task_mappings", same) == {
        "code_review": "m:1",
        "x": None,
    }
    with pytest.raises(InvalidInputError) as refused:
        ROWS["task_mappings"].kind.check(
            "task_mappings", {"debug": "m:1", "Debug": "m:2", "DEBUG": None, "debug!": "m:1"}
        )
    conflict = "conflicts with another entry for the task type debug"
    assert refused.value.problems == (
        Problem("task_mappings.Debug", "m:2", message=f"task_mappings.Debug: {conflict}"),
        Problem("task_mappings.DEBUG", None, message=f"task_mappings.DEBUG: {conflict}"),
    )


def test_the_number_of_mappings_is_counted_after_merging() -> None:
    full = Settings(task_mappings={f"task_{number}": "m:1" for number in range(200)})
    swapped = setting_changes.apply(full, {"task_mappings": {"task_0": None, "task_200": "m:1"}})
    assert len(swapped.task_mappings) == 200
    with pytest.raises(InvalidInputError, match="at most 200 task types can be mapped, not 201"):
        setting_changes.apply(full, {"task_mappings": {"task_200": "m:1"}})


def test_the_settings_that_are_changed_stay_as_they_were() -> None:
    before = Settings(task_mappings={"debug": "m:1"})
    setting_changes.apply(
        before, {"task_mappings": {"debug": None, "plan": "m:2"}, "session_limit": 300_000}
    )
    assert before == Settings(task_mappings={"debug": "m:1"})


@given(strategies.settings(), st.sets(st.sampled_from(NAMES)))
def test_any_part_of_settings_that_fit_opens_and_holds(settings: Settings, names: set[str]) -> None:
    part = {name: text for name, text in stored(settings).items() if name in names}
    if names & {"claude_model", "default_local_model"}:
        part["claude_model"], part["default_local_model"] = "claude-x", "llama3:8b"
    opened = setting_changes.from_stored(part)
    warning, auto_switch, limit = bounds(opened)
    assert 0 < warning <= auto_switch <= limit
    assert {name: stored(opened)[name] for name in part} == part


@given(strategies.settings(), st.dictionaries(st.text(), st.text()))
def test_rows_of_unknown_keys_change_nothing(settings: Settings, others: dict[str, str]) -> None:
    assert setting_changes.from_stored({**others, **stored(settings)}) == settings


def test_stored_mappings_are_the_whole_mapping() -> None:
    assert setting_changes.from_stored({"task_mappings": "{}"}) == Settings(task_mappings={})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"session_limit": "9" * 5000}, "session_limit: must be a whole number from 1 to"),
        (
            {"session_limit": ""},
            "session_limit: must be a whole number from 1 to 1000000000000 (got '')",
        ),
        (
            {"session_window_minutes": "soon"},
            "session_window_minutes: must be a whole number of minutes",
        ),
        ({"task_mappings": "[" * 100_000}, "task_mappings: must be an object"),
        ({"output_weight": "1e999"}, "in steps of 0.001 (got inf)"),
        ({"claude_model": "llama3:8b", "default_local_model": "llama3:8b"}, "default_local_model"),
    ],
)
def test_a_damaged_row_is_told_in_a_short_line(rows: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidStoredSettingsError) as refused:
        setting_changes.from_stored(rows)
    assert str(refused.value).startswith("invalid setting in the ledger: ")
    assert words in str(refused.value)
    assert len(str(refused.value)) < 450


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("session_limit", "5", 5),
        ("session_limit", "5.0", "5.0"),
        ("session_limit", "many", "many"),
        ("session_window_minutes", "0", 0),
        ("plan_warning_percent", "80", 80),
        ("deny_agent_tool", "on", "on"),
        ("input_weight", "0.25", 0.25),
        ("input_weight", "heavy", "heavy"),
        ("claude_model", "5", "5"),
        ("task_mappings", '{"a": null}', {"a": None}),
        ("task_mappings", "{broken", "{broken"),
    ],
)
def test_text_is_read_as_its_setting_is_and_otherwise_left_for_refusal(
    name: str, text: str, value: object
) -> None:
    assert setting_changes.parse(name, text) == value


@given(strategies.settings())
def test_every_setting_is_read_back_from_its_text(settings: Settings) -> None:
    for name, value in values(settings).items():
        assert setting_changes.parse(name, setting_changes.to_text(value)) == value


@given(strategies.settings(), strategies.settings())
def test_settings_have_one_stored_form_each(one: Settings, other: Settings) -> None:
    turned = replace(one, task_mappings=dict(sorted(one.task_mappings.items(), reverse=True)))
    assert setting_changes.stored_form(turned) == setting_changes.stored_form(one)
    assert (setting_changes.stored_form(one) == setting_changes.stored_form(other)) == (
        one == other
    )
    assert "\n" not in setting_changes.stored_form(one)


@pytest.mark.parametrize(
    ("name", "before", "after", "changes"),
    [
        ("session_limit", "5", "6", [("session_limit", "5", "6")]),
        ("session_limit", "5", None, [("session_limit", "5", None)]),
        ("task_mappings", '{"a":"m"}', '{"a":"m"}', []),
        (
            "task_mappings",
            '{"b":"m","c":"m"}',
            '{"c":"n","a":"m"}',
            [
                ("task_mappings.a", None, "m"),
                ("task_mappings.b", "m", None),
                ("task_mappings.c", "m", "n"),
            ],
        ),
        ("task_mappings", '{"debug": 5}', "[]", []),
    ],
)
def test_a_change_of_stored_text_is_told_setting_by_setting(
    name: str,
    before: str | None,
    after: str | None,
    changes: list[tuple[str, str | None, str | None]],
) -> None:
    assert setting_changes.text_changes(name, before, after) == changes


def test_forgetting_the_mappings_tells_each_that_comes_back() -> None:
    defaults = Settings().task_mappings
    assert setting_changes.text_changes("task_mappings", "{}", None) == [
        (f"task_mappings.{task_type}", None, defaults[task_type]) for task_type in sorted(defaults)
    ]
