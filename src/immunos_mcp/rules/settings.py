"""The rules of the settings: what each takes, how they fit together, how the ledger spells them.

Pure. The ledger stores only what somebody set, one text per key; everything else is a default.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, cast

from msgspec.structs import replace

from immunos_mcp.answers.settings import Difference
from immunos_mcp.domain import (
    DEFAULT_TASK_MAPPINGS,
    MAXIMUM_TOKENS,
    Consultation,
    Provider,
    RecordRules,
    Settings,
    Switch,
)
from immunos_mcp.errors import InvalidInputError, InvalidStoredSettingsError, Problem
from immunos_mcp.rules.models import provider_of
from immunos_mcp.rules.names import (
    LONGEST_TASK_TYPE,
    MODEL_TAKES,
    check_model_name,
    normalise_task_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SettingValue: TypeAlias = "int | float | str | Mapping[str, str]"
SettingChangeValue: TypeAlias = "int | float | str | Mapping[str, str | None]"

MAXIMUM_WEIGHT = 100
MAXIMUM_WINDOW_MINUTES = 525_600
MAXIMUM_TASK_MAPPINGS = 200

TOKENS_TAKES = f"a whole number from 1 to {MAXIMUM_TOKENS}"
WEIGHT_TAKES = f"a number from 0 to {MAXIMUM_WEIGHT} in steps of 0.001"
WINDOW_TAKES = f"a whole number of minutes from 0 (off) to {MAXIMUM_WINDOW_MINUTES}"
PERCENT_TAKES = "a whole percentage from 1 to 100, or 0 for off"
WAIT_TAKES = "a whole number of seconds from 1 to 3600"
SWITCH_TAKES = "on or off"
CONSULTATION_TAKES = "on, advise or off"
MAPPINGS_TAKES = "an object of task type to a model or several in order, or to null to remove one"
MOST_MODELS = 8
"""Models that a task type may be mapped to."""

THRESHOLDS = ("token_warning_threshold", "token_auto_switch_threshold", "session_limit")
WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "input_weight": "input_tokens",
        "output_weight": "output_tokens",
        "cache_creation_weight": "cache_creation_input_tokens",
        "cache_read_weight": "cache_read_input_tokens",
    }
)
MODELS = ("claude_model", "default_local_model")
WINDOW = "session_window_minutes"
WAIT = "delegate_wait_seconds"
PLAN_PERCENTS = ("plan_warning_percent", "plan_auto_switch_percent")
SWITCHES = ("cloud_models", "deny_agent_tool")
TRACK_RECORD = "track_record"
RECORD_RULES: Mapping[str, tuple[str, float, float]] = MappingProxyType(
    {
        "record_gain": ("gain", 0, 1),
        "record_half_life_days": ("half_life_days", 1, 3650),
        "record_local_rate": ("local_rate", 0.01, 0.99),
        "record_claude_rate": ("claude_rate", 0.01, 0.99),
        "record_local_strength": ("local_strength", 0.1, 1000),
        "record_claude_strength": ("claude_strength", 0.1, 1000),
        "record_horizon": ("horizon", 0, 100_000),
        "record_retry_days": ("retry_days", 1, 3650),
    }
)
"""The constants of the track record, each with its field and its bounds."""
MAPPINGS = "task_mappings"
NAMES: tuple[str, ...] = (
    *THRESHOLDS,
    *MODELS,
    *WEIGHTS,
    WINDOW,
    *PLAN_PERCENTS,
    *SWITCHES,
    WAIT,
    TRACK_RECORD,
    *RECORD_RULES,
    MAPPINGS,
)
"""Every setting's name: the key in the ledger, the argument of ``update_config``, the CLI's key."""

PRESETS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "default": ("qwen2.5-coder:7b", "deepseek-r1:14b", "qwen2.5:1.5b"),
        "8gb": ("gemma4:e2b", "gemma4:e2b", "gemma4:e2b"),
        "16gb": ("gemma4:e4b", "gemma4:e4b", "gemma4:e2b"),
        "24gb": ("gemma4:26b", "gemma4:26b", "gemma4:e2b"),
        "32gb": ("gemma4:31b", "gemma4:31b", "gemma4:e2b"),
    }
)
"""Models by memory of the graphics card: for code, for reasoning, for short tasks.

Names as in Ollama's library in 2026; the first is also the default local model.
"""

SHORT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "warning_threshold": "token_warning_threshold",
        "auto_switch_threshold": "token_auto_switch_threshold",
    }
)
"""Shorter spellings that are taken wherever a setting is named."""


def full_name(name: str) -> str:
    """Return a setting's full name.

    Raises:
        InvalidInputError: there is no such setting.
    """
    known = SHORT_NAMES.get(name, name)
    if known not in NAMES:
        raise InvalidInputError(Problem("setting", name, f"one of {', '.join(NAMES)}"))
    return known


def preset(name: str) -> dict[str, SettingChangeValue]:
    """Return the changes that a preset stands for: the default mappings' task types, other models.

    Raises:
        InvalidInputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InvalidInputError(Problem("preset", name, f"one of {', '.join(PRESETS)}"))
    models = dict(zip(PRESETS["default"], PRESETS[name], strict=True))
    mappings = {task_type: models[model] for task_type, model in DEFAULT_TASK_MAPPINGS.items()}
    return {"default_local_model": PRESETS[name][0], MAPPINGS: mappings}


def values(settings: Settings) -> dict[str, SettingValue]:
    """Spell settings out under their names."""
    spelled: dict[str, SettingValue] = {
        name: getattr(settings, name)
        for name in (*THRESHOLDS, *MODELS, WINDOW, *PLAN_PERCENTS, *SWITCHES, WAIT, TRACK_RECORD)
    }
    for name, (field, _, _) in RECORD_RULES.items():
        spelled[name] = getattr(settings.record_rules, field)
    for name, kind in WEIGHTS.items():
        spelled[name] = getattr(settings.weights, kind)
    spelled[MAPPINGS] = dict(settings.task_mappings)
    return {name: spelled[name] for name in NAMES}


def notable_values(settings: Settings) -> dict[str, SettingValue]:
    """Spell settings out as ``values`` does, without constants of the track record nobody changed."""
    default = RecordRules()
    return {
        name: value
        for name, value in values(settings).items()
        if name not in RECORD_RULES or value != getattr(default, RECORD_RULES[name][0])
    }


def differences(before: Settings, after: Settings) -> dict[str, Difference]:
    """Say which settings differ, task mappings one by one as ``task_mappings.code_review``."""
    found: dict[str, Difference] = {}
    old, new = values(before), values(after)
    for name in NAMES:
        if name != MAPPINGS and old[name] != new[name]:
            found[name] = Difference(_plain(old[name]), _plain(new[name]))
    for task_type in sorted({*before.task_mappings, *after.task_mappings}):
        was, now = before.task_mappings.get(task_type), after.task_mappings.get(task_type)
        if was != now:
            found[f"{MAPPINGS}.{task_type}"] = Difference(was, now)
    return found


def _plain(value: SettingValue) -> int | float | str:
    assert isinstance(value, int | float | str)
    return value


def apply(settings: Settings, changes: Mapping[str, SettingChangeValue]) -> Settings:
    """Return settings with changes applied; task mappings merge, and ``None`` removes one.

    Raises:
        InvalidInputError: it names every field that cannot be taken; nothing is applied then.
    """
    problems: list[Problem] = []
    fields: dict[str, SettingValue] = {}
    weights: dict[str, float] = {}
    rules: dict[str, float] = {}
    for name, value in changes.items():
        try:
            checked = _CHECKS[full_name(name)](name, value, settings)
        except InvalidInputError as refused:
            problems.extend(refused.problems)
            continue
        if name in WEIGHTS:
            assert isinstance(checked, int | float)
            weights[WEIGHTS[name]] = checked
        elif name in RECORD_RULES:
            assert isinstance(checked, int | float)
            rules[RECORD_RULES[name][0]] = checked
        else:
            fields[full_name(name)] = checked
    if problems:
        raise InvalidInputError(*problems)
    changed: Settings = replace(
        settings,
        **fields,  # type: ignore[arg-type]  # each was checked under its own name
        weights=replace(settings.weights, **weights),
        record_rules=replace(settings.record_rules, **rules),
    )
    problems.extend(_conflicts(changed))
    if problems:
        raise InvalidInputError(*problems)
    return changed


def _conflicts(settings: Settings) -> list[Problem]:
    problems: list[Problem] = []
    for lower, upper in pairwise(THRESHOLDS):
        bound = getattr(settings, upper)
        if getattr(settings, lower) > bound:
            takes = f"at most {upper}, which is {bound}"
            problems.append(Problem(lower, getattr(settings, lower), takes))
    lower, upper = PLAN_PERCENTS
    bound = settings.plan_auto_switch_percent
    if 0 < bound < settings.plan_warning_percent:
        takes = f"at most {upper}, which is {bound}"
        problems.append(Problem(lower, settings.plan_warning_percent, takes))
    if provider_of(settings.default_local_model, settings) is Provider.CLAUDE:
        takes = "a local model, not one of Claude's"
        problems.append(Problem("default_local_model", settings.default_local_model, takes))
    return problems


def _check_tokens(name: str, value: object, _settings: Settings) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAXIMUM_TOKENS:
        return value
    raise InvalidInputError(Problem(name, value, TOKENS_TAKES))


def is_weight(value: float) -> bool:
    """Tell whether a number can weigh tokens: 0 to 100 in steps of 0.001."""
    return 0 <= value <= MAXIMUM_WEIGHT and math.isclose(
        value * 1000, round(value * 1000), rel_tol=0, abs_tol=1e-6
    )


def _check_weight(name: str, value: object, _settings: Settings) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and is_weight(value):
        # A sum with zero has no sign of its own.
        return round(float(value), 3) + 0.0
    raise InvalidInputError(Problem(name, value, WEIGHT_TAKES))


def _check_model(name: str, value: object, _settings: Settings) -> str:
    if isinstance(value, str):
        return check_model_name(value, name)
    raise InvalidInputError(Problem(name, value, MODEL_TAKES))


def _check_window(name: str, value: object, _settings: Settings) -> int:
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value <= MAXIMUM_WINDOW_MINUTES
    ):
        return value
    raise InvalidInputError(Problem(name, value, WINDOW_TAKES))


def _check_percent(name: str, value: object, _settings: Settings) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100:
        return value
    raise InvalidInputError(Problem(name, value, PERCENT_TAKES))


def _check_wait(name: str, value: object, _settings: Settings) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 3600:
        return value
    raise InvalidInputError(Problem(name, value, WAIT_TAKES))


def _check_switch(name: str, value: object, _settings: Settings) -> Switch:
    if isinstance(value, str) and value in set(Switch):
        return Switch(value)
    raise InvalidInputError(Problem(name, value, SWITCH_TAKES))


def _check_consultation(name: str, value: object, _settings: Settings) -> Consultation:
    if isinstance(value, str) and value in set(Consultation):
        return Consultation(value)
    raise InvalidInputError(Problem(name, value, CONSULTATION_TAKES))


def record_rule_takes(name: str) -> str:
    """Say what a constant of the track record takes."""
    _, lowest, highest = RECORD_RULES[name]
    return f"a number from {lowest} to {highest}"


def _check_record_rule(name: str, value: object, _settings: Settings) -> float:
    _, lowest, highest = RECORD_RULES[name]
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and lowest <= value <= highest
    ):
        return round(float(value), 6)
    raise InvalidInputError(Problem(name, value, record_rule_takes(name)))


def check_mappings(entries: Mapping[str, object]) -> dict[str, str | None]:
    """Return entries of the task mappings, normalised; a model of ``None`` removes one.

    Raises:
        InvalidInputError: it names every entry whose task type or model cannot be taken, or that is
            another spelling of an earlier one and says something else.
    """
    checked: dict[str, str | None] = {}
    problems: list[Problem] = []
    for task_type, model in entries.items():
        is_shown = len(task_type) <= LONGEST_TASK_TYPE and task_type.isprintable()
        field = f"{MAPPINGS}.{task_type if is_shown else '?'}"
        try:
            known, models = normalise_task_type(task_type, field), _check_models(model, field)
        except InvalidInputError as refused:
            problems.extend(refused.problems)
            continue
        if checked.setdefault(known, models) != models:
            takes = f"what was given for {known} before, which is the same task type"
            problems.append(Problem(field, model, takes))
    if problems:
        raise InvalidInputError(*problems)
    return checked


def _check_models(model: object, field: str) -> str | None:
    if model is None:
        return None
    models = [model]
    if isinstance(model, list):
        models = cast("list[object]", model)
    if all(isinstance(each, str) for each in models):
        models = [part for each in models for part in str(each).split(",")]
    if not 1 <= len(models) <= MOST_MODELS or not all(isinstance(each, str) for each in models):
        takes = f"a model name, up to {MOST_MODELS} in order, or null to remove the mapping"
        raise InvalidInputError(Problem(field, cast("object", model), takes))
    return ",".join(check_model_name(str(each).strip(), field) for each in models)


def _check_mappings(name: str, value: object, settings: Settings) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise InvalidInputError(Problem(name, value, MAPPINGS_TAKES))
    merged = dict(settings.task_mappings)
    for task_type, models in check_mappings(cast("dict[str, object]", value)).items():
        if models is None:
            merged.pop(task_type, None)
        else:
            merged[task_type] = models
    if len(merged) > MAXIMUM_TASK_MAPPINGS:
        takes = f"at most {MAXIMUM_TASK_MAPPINGS} mappings"
        raise InvalidInputError(Problem(name, f"{len(merged)} mappings", takes))
    return MappingProxyType(merged)


_CHECKS: dict[str, Callable[[str, object, Settings], SettingValue]] = {
    **dict.fromkeys(THRESHOLDS, _check_tokens),
    **dict.fromkeys(MODELS, _check_model),
    **dict.fromkeys(WEIGHTS, _check_weight),
    WINDOW: _check_window,
    **dict.fromkeys(PLAN_PERCENTS, _check_percent),
    **dict.fromkeys(SWITCHES, _check_switch),
    TRACK_RECORD: _check_consultation,
    **dict.fromkeys(RECORD_RULES, _check_record_rule),
    WAIT: _check_wait,
    MAPPINGS: _check_mappings,
}


def parse(name: str, text: str) -> SettingChangeValue:
    """Read a setting from the text that a command line or the ledger holds.

    Text that is not of the setting's kind is returned as it is, for ``apply`` to refuse by name.
    """
    try:
        if name in THRESHOLDS or name in {WINDOW, WAIT} or name in PLAN_PERCENTS:
            return int(text)
        if name in WEIGHTS or name in RECORD_RULES:
            return float(text)
        if name == MAPPINGS:
            return json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text


def to_text(value: SettingValue) -> str:
    """Spell a setting as the ledger stores it: numbers and names plain, mappings as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    return json.dumps(dict(value), separators=(",", ":"), ensure_ascii=False)


def text_changes(
    name: str, before: str | None, after: str | None
) -> list[tuple[str, str | None, str | None]]:
    """Say what a change of a setting's stored text changed: task mappings entry by entry.

    A mapping that the ledger holds no usable text for counts as the default one.
    """
    if name != MAPPINGS:
        return [(name, before, after)]
    old, new = _stored_mappings(before), _stored_mappings(after)
    return [
        (f"{MAPPINGS}.{task_type}", old.get(task_type), new.get(task_type))
        for task_type in sorted({*old, *new})
        if old.get(task_type) != new.get(task_type)
    ]


def _stored_mappings(text: str | None) -> Mapping[str, str]:
    if text is None:
        return DEFAULT_TASK_MAPPINGS
    try:
        return from_stored({MAPPINGS: text}).task_mappings
    except InvalidStoredSettingsError:
        return DEFAULT_TASK_MAPPINGS


def stored_form(settings: Settings) -> str:
    """Spell all settings as one canonical line of JSON: equal settings, equal lines."""
    return json.dumps(values(settings), sort_keys=True, separators=(",", ":"))


def from_canonical(text: str) -> Settings:
    """Build settings from the line that ``stored_form`` spelled, of this version or an earlier one.

    Raises:
        InvalidStoredSettingsError: it is no such line.
    """
    try:
        return apply(Settings(task_mappings={}), json.loads(text))
    except (ValueError, InvalidInputError) as refused:
        raise InvalidStoredSettingsError(f"settings of a decision: {refused}") from None


def from_stored(rows: Mapping[str, str]) -> Settings:
    """Build the effective settings from what the ledger stores.

    A stored ``task_mappings`` is the whole mapping. A threshold or limit that nobody set gives way
    to those that somebody did, so that a ledger whose one stored threshold lies beyond another's
    default still opens. Rows of unknown keys are ignored.

    Raises:
        InvalidStoredSettingsError: a stored value cannot be used.
    """
    changes = {name: parse(name, rows[name]) for name in NAMES if name in rows}
    start = Settings(task_mappings={}) if MAPPINGS in changes else Settings()
    try:
        return apply(_given_way(start, changes), changes)
    except InvalidInputError as refused:
        remedy = "immunos-mcp config set NAME VALUE, or config unset NAME, mends it"
        raise InvalidStoredSettingsError(f"setting in the ledger: {refused} ({remedy})") from None


def _given_way(settings: Settings, changes: Mapping[str, SettingChangeValue]) -> Settings:
    bounds = {name: getattr(settings, name) for name in THRESHOLDS}
    fixed = {
        name: value
        for name, value in changes.items()
        if name in THRESHOLDS and isinstance(value, int)
    }
    for position, name in enumerate(THRESHOLDS):
        if name not in fixed:
            lower = [fixed[other] for other in THRESHOLDS[:position] if other in fixed]
            upper = [fixed[other] for other in THRESHOLDS[position + 1 :] if other in fixed]
            bounds[name] = min([max([bounds[name], *lower]), *upper])
    return replace(settings, **bounds)
