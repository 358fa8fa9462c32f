"""How settings change and what they are stored as. Pure.

The ledger stores only what somebody set, one text per key; everything else is a default.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from immunos_mcp.domain import Provider
from immunos_mcp.errors import (
    InvalidInputError,
    InvalidStoredSettingsError,
    Problem,
    unknown,
)
from immunos_mcp.rules.models import provider_of
from immunos_mcp.rules.setting_kinds import Budgets, TaskMappings
from immunos_mcp.rules.settings import (
    DEFAULT_TASK_MAPPINGS,
    MAPPINGS,
    ROWS,
    SHORT_NAMES,
    Settings,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from immunos_mcp.answers.settings import ConfigAnswer, Difference
    from immunos_mcp.rules.setting_kinds import SettingChangeValue, SettingValue

THRESHOLDS = ("token_warning_threshold", "token_auto_switch_threshold", "session_limit")
"""The bounds of a session, ascending: each gives way to what somebody set of the others."""


def full_name(name: str) -> str:
    """Return a setting's full name.

    Raises:
        InvalidInputError: the setting does not exist.
    """
    known = SHORT_NAMES.get(name, name)
    if known not in ROWS:
        raise InvalidInputError(unknown("setting", "setting", name, ROWS))
    return known


def notable_values(settings: Settings) -> dict[str, SettingValue]:
    """Return the values of settings, without advanced ones that have their defaults, and empty ones."""
    defaults = values(Settings())
    return {
        name: value
        for name, value in values(settings).items()
        if value != "" and (not ROWS[name].is_advanced or value != defaults[name])
    }


def differences(before: Settings, after: Settings) -> dict[str, Difference]:
    """Return which settings differ, task mappings one by one as ``task_mappings.code_review``."""
    from immunos_mcp.answers.settings import Difference

    old, new = values(before), values(after)
    found = {
        name: Difference(_plain(old[name]), _plain(new[name]))
        for name in ROWS
        if name != MAPPINGS and old[name] != new[name]
    }
    for task_type in sorted({*before.task_mappings, *after.task_mappings}):
        was, now = before.task_mappings.get(task_type), after.task_mappings.get(task_type)
        if was != now:
            found[f"{MAPPINGS}.{task_type}"] = Difference(was, now)
    return found


def config_answer(before: Settings, after: Settings) -> ConfigAnswer:
    """Return what changed settings, and the settings that now hold."""
    from immunos_mcp.answers.settings import ConfigAnswer

    return ConfigAnswer(changes=differences(before, after), settings=notable_values(after))


def _plain(value: SettingValue) -> int | float | str:
    assert isinstance(value, int | float | str)
    return value


def apply(settings: Settings, changes: Mapping[str, SettingChangeValue]) -> Settings:
    """Return settings with changes applied; task mappings merge, and ``None`` removes one.

    Raises:
        InvalidInputError: it names every invalid field; nothing is applied then.
    """
    problems: list[Problem] = []
    checked: dict[str, SettingValue] = {}
    for name, value in changes.items():
        try:
            checked[full_name(name)] = _checked(settings, name, value)
        except InvalidInputError as error:
            problems.extend(error.problems)
    if not problems:
        changed = replace(settings, **checked)
        problems.extend(_conflicts(changed))
        if not problems:
            return changed
    raise InvalidInputError(*problems)


def _checked(settings: Settings, name: str, value: object) -> SettingValue:
    kind = ROWS[full_name(name)].kind
    if isinstance(kind, TaskMappings):
        merged = kind.merge(name, settings.task_mappings, kind.check(name, value))
        return MappingProxyType(merged)
    if isinstance(kind, Budgets):
        return kind.merge(name, settings.budgets, kind.check(name, value))
    return kind.check(name, value)


def _conflicts(settings: Settings) -> list[Problem]:
    problems: list[Problem] = []
    for name, row in ROWS.items():
        if row.at_most is None:
            continue
        value, bound = getattr(settings, name), getattr(settings, row.at_most)
        if 0 < bound < value:
            problems.append(Problem(name, value, f"at most {row.at_most}, which is {bound}"))
    if provider_of(settings.default_local_model, settings) is Provider.CLAUDE:
        expected = "a local model, not one of Claude's"
        problems.append(Problem("default_local_model", settings.default_local_model, expected))
    return problems


def parse(name: str, text: str) -> SettingChangeValue:
    """Read a setting from the text that a command line or the ledger holds.

    Text that is not of the setting's kind is returned as it is, for ``apply`` to reject by name.
    """
    try:
        return ROWS[name].kind.parse(text)
    except (ValueError, RecursionError):
        return text


def to_text(value: SettingValue) -> str:
    """Format a setting as the ledger stores it: numbers and names plain, mappings as JSON."""
    import json

    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    return json.dumps(dict(value), separators=(",", ":"), ensure_ascii=False)


def text_changes(
    name: str, before: str | None, after: str | None
) -> list[tuple[str, str | None, str | None]]:
    """Return what a change of a setting's stored text changed: task mappings entry by entry.

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
    """Encode all settings as one canonical line of JSON: equal settings, equal lines."""
    import json

    return json.dumps(values(settings), sort_keys=True, separators=(",", ":"))


def from_canonical(text: str) -> Settings:
    """Build settings from a line of ``stored_form``, of this version or an earlier one.

    Raises:
        InvalidStoredSettingsError: it is no such line.
    """
    import json

    try:
        return apply(Settings(task_mappings={}), json.loads(text))
    except (ValueError, InvalidInputError) as error:
        raise InvalidStoredSettingsError(
            f"invalid settings stored with a decision: {error}"
        ) from None


def from_stored(rows: Mapping[str, str]) -> Settings:
    """Build the effective settings from what the ledger stores.

    A stored ``task_mappings`` is the whole mapping. A threshold or limit that nobody set gives way
    to those that somebody did, so that a ledger whose one stored threshold lies beyond another's
    default still opens. Rows of unknown keys are ignored.

    Raises:
        InvalidStoredSettingsError: a stored value cannot be used.
    """
    changes = {name: parse(name, rows[name]) for name in ROWS if name in rows}
    start = Settings(task_mappings={}) if MAPPINGS in changes else Settings()
    try:
        return apply(_given_way(start, changes), changes)
    except InvalidInputError as error:
        remedy = (
            "fix it with `immunos-mcp config set NAME=VALUE` or `immunos-mcp config unset NAME`"
        )
        raise InvalidStoredSettingsError(
            f"invalid setting in the ledger: {error}; {remedy}"
        ) from None


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
