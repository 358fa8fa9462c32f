"""The kinds of settings: what each accepts, how it is checked and read from text. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

from msgspec import Struct

from immunos_mcp.errors import InvalidInputError, Problem, any_of, nearest
from immunos_mcp.rules import budgets
from immunos_mcp.rules.names import (
    LONGEST_TASK_TYPE,
    MODEL_NAME,
    check_model_name,
    normalise_task_type,
)

if TYPE_CHECKING:
    from enum import StrEnum

SettingValue: TypeAlias = "int | float | str | Mapping[str, str]"
SettingChangeValue: TypeAlias = "int | float | str | Mapping[str, str | None]"

NO_TOOLS = "none"
"""The names of tools where there are none."""

_TOOL_NAME = r"[A-Za-z0-9_.:-]{1,128}"

MOST_MODELS = 8
"""Models that a task type may be mapped to."""


class WholeNumber(Struct, frozen=True):
    """A whole number in a range.

    Attributes:
        unit: what it counts.
        off: whether zero switches off what the setting is about.
        phrase: what is accepted, where the generated phrase would read badly.
    """

    lowest: int
    highest: int
    unit: str = ""
    off: bool = False
    phrase: str = ""

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        unit, off = f" of {self.unit}" if self.unit else "", " (off)" if self.off else ""
        generated = f"a whole number{unit} from {self.lowest}{off} to {self.highest}"
        return self.phrase or generated

    def check(self, name: str, value: object) -> int:
        """Accept whole numbers in the range, and no booleans."""
        if type(value) is int and self.lowest <= value <= self.highest:
            return value
        raise InvalidInputError(Problem(name, value, self.expected))

    def parse(self, text: str) -> int:
        """Read a whole number."""
        return int(text)


class Number(Struct, frozen=True):
    """A number in a range, with so many decimals.

    Attributes:
        is_stepped: whether a number with more decimals is rejected instead of rounded.
    """

    lowest: float
    highest: float
    decimals: int = 6
    is_stepped: bool = False

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        steps = f" in steps of {10**-self.decimals:g}" if self.is_stepped else ""
        return f"a number from {self.lowest:.15g} to {self.highest:.15g}{steps}"

    def check(self, name: str, value: object) -> float:
        """Accept numbers in the range, whole ones included, and no booleans."""
        if (type(value) is int or type(value) is float) and self._holds(value):
            # Adding zero turns -0.0 into 0.0.
            return round(float(value), self.decimals) + 0.0
        raise InvalidInputError(Problem(name, value, self.expected))

    def _holds(self, value: float) -> bool:
        if not self.lowest <= value <= self.highest:
            return False
        steps = value * 10**self.decimals
        return not self.is_stepped or math.isclose(steps, round(steps), rel_tol=0, abs_tol=1e-6)

    def parse(self, text: str) -> float:
        """Read a number."""
        return float(text)


class Choice(Struct, frozen=True):
    """One of a few words."""

    choices: type[StrEnum]

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return any_of(self.choices)

    def check(self, name: str, value: object) -> str:
        """Accept exactly one of the words."""
        if isinstance(value, str) and value in set(self.choices):
            return self.choices(value)
        close = nearest(value, self.choices)
        raise InvalidInputError(Problem(name, value, self.expected, close))

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


class ModelName(Struct, frozen=True):
    """The name of a model."""

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return MODEL_NAME

    def check(self, name: str, value: object) -> str:
        """Accept names without blanks."""
        if isinstance(value, str):
            return check_model_name(value, name)
        raise InvalidInputError(Problem(name, value, self.expected))

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


class Words(Struct, frozen=True):
    """Some of a few words, with commas between them.

    Attributes:
        always: the word that is always among them.
    """

    choices: type[StrEnum]
    always: StrEnum

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        others = any_of([word for word in self.choices if word is not self.always])
        return f"{self.always}, alone or with {others}, separated by commas"

    def check(self, name: str, value: object) -> str:
        """Return the words in the order of the choices, each once."""
        if isinstance(value, str):
            given = {word.strip() for word in value.split(",")}
            if self.always in given and given <= set(self.choices):
                return ",".join(word for word in self.choices if word in given)
        raise InvalidInputError(Problem(name, value, self.expected))

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


class ToolNames(Struct, frozen=True):
    """Names of a client's tools, separated by commas; the stored form has each once.

    Attributes:
        most: names that may be given.
    """

    most: int

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return f"none, or up to {self.most} names of tools separated by commas, such as WebSearch"

    def check(self, name: str, value: object) -> str:
        """Return the names in the order given, each once."""
        if isinstance(value, str):
            if value.strip() == NO_TOOLS:
                return NO_TOOLS
            words = list(dict.fromkeys(word.strip() for word in value.split(",")))
            if len(words) <= self.most and all(re.fullmatch(_TOOL_NAME, word) for word in words):
                return ",".join(words)
        raise InvalidInputError(Problem(name, value, self.expected))

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


class TaskSynonyms(Struct, frozen=True):
    """Whether words mean other task types: the known synonyms, one's own, or none.

    Attributes:
        most: synonyms of one's own.
    """

    most: int

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return (
            f"off, on, or up to {self.most} entries such as perf_tuning=analysis, with or without on,"
            " separated by commas"
        )

    def check(self, name: str, value: object) -> str:
        """Return the entries normalised, each word once."""
        if not isinstance(value, str):
            raise InvalidInputError(Problem(name, value, self.expected))
        if value.strip() == "off":
            return "off"
        own: dict[str, str] = {}
        is_on = False
        for entry in value.split(","):
            word, separator, task_type = entry.partition("=")
            if separator:
                own[normalise_task_type(word, name)] = normalise_task_type(task_type, name)
            elif word.strip() == "on":
                is_on = True
            else:
                raise InvalidInputError(Problem(name, value, self.expected))
        if len(own) > self.most:
            raise InvalidInputError(Problem(name, value, self.expected))
        entries = [f"{word}={task_type}" for word, task_type in sorted(own.items())]
        return ",".join(["on", *entries] if is_on else entries)

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


class Budgets(Struct, frozen=True):
    """Budgets beside the session's own; a change merges into them."""

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return budgets.EXPECTED

    def check(self, name: str, value: object) -> str:
        """Accept texts that ``budgets.changes`` reads."""
        if not isinstance(value, str):
            raise InvalidInputError(Problem(name, value, self.expected))
        budgets.changes(value, name)
        return value

    def merge(self, name: str, before: str, change: str) -> str:
        """Return budgets with a change."""
        return budgets.merged(before, change, name)

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


class TimeZone(Struct, frozen=True):
    """A time zone, or the machine's own."""

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return "system, or a time zone such as Europe/Berlin"

    def check(self, name: str, value: object) -> str:
        """Accept time zones that this machine knows."""
        if isinstance(value, str) and _is_zone(value):
            return value
        raise InvalidInputError(Problem(name, value, self.expected))

    def parse(self, text: str) -> str:
        """Return the text as it is."""
        return text


def _is_zone(name: str) -> bool:
    from immunos_mcp.rules.budget_windows import zone_named  # few people name a zone

    try:
        zone_named(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


class TaskMappings(Struct, frozen=True):
    """Models by task type; a change merges into them, and ``None`` removes an entry.

    Attributes:
        most: task types that may be mapped.
    """

    most: int

    @property
    def expected(self) -> str:
        """What is accepted, as the end of "must be ..."."""
        return (
            "an object that maps each task type to a model, to several in order, "
            "or to null to remove the mapping"
        )

    def check(self, name: str, value: object) -> Mapping[str, str | None]:
        """Return the entries of a change, normalised.

        Raises:
            InvalidInputError: it names every entry whose task type or model is not accepted, or that
                is the same as an earlier one with another value.
        """
        if not isinstance(value, Mapping):
            raise InvalidInputError(Problem(name, value, self.expected))
        checked: dict[str, str | None] = {}
        problems: list[Problem] = []
        for task_type, model in cast("Mapping[str, object]", value).items():
            is_shown = len(task_type) <= LONGEST_TASK_TYPE and task_type.isprintable()
            field = f"{name}.{task_type if is_shown else '?'}"
            try:
                known, models = normalise_task_type(task_type, field), _check_models(model, field)
            except InvalidInputError as error:
                problems.extend(error.problems)
                continue
            if checked.setdefault(known, models) != models:
                message = f"{field}: conflicts with another entry for the task type {known}"
                problems.append(Problem(field, model, message=message))
        if problems:
            raise InvalidInputError(*problems)
        return checked

    def merge(
        self, name: str, mappings: Mapping[str, str], changes: Mapping[str, str | None]
    ) -> dict[str, str]:
        """Return mappings with checked changes.

        Raises:
            InvalidInputError: there would be too many.
        """
        merged = {**mappings, **changes}
        remaining = {
            task_type: models for task_type, models in merged.items() if models is not None
        }
        if len(remaining) > self.most:
            message = f"{name}: at most {self.most} task types can be mapped, not {len(remaining)}"
            raise InvalidInputError(Problem(name, len(remaining), message=message))
        return remaining

    def parse(self, text: str) -> Mapping[str, str | None]:
        """Read a JSON object."""
        import json

        return json.loads(text)


def _check_models(model: object, field: str) -> str | None:
    if model is None:
        return None
    models = [model]
    if isinstance(model, list):
        models = cast("list[object]", model)
    if all(isinstance(each, str) for each in models):
        models = [part for each in models for part in str(each).split(",")]
    if not 1 <= len(models) <= MOST_MODELS or not all(isinstance(each, str) for each in models):
        expected = f"a model name, up to {MOST_MODELS} in order, or null to remove the mapping"
        raise InvalidInputError(Problem(field, cast("object", model), expected))
    return ",".join(check_model_name(str(each).strip(), field) for each in models)


Kind: TypeAlias = (
    WholeNumber
    | Number
    | Choice
    | Words
    | ModelName
    | ToolNames
    | TaskMappings
    | TaskSynonyms
    | Budgets
    | TimeZone
)
"""What the values of a setting have in common.

Each kind describes what is ``expected``; its ``check`` raises ``InvalidInputError``, under the name it
is given, and its ``parse`` raises ``ValueError`` where a text is not of the kind.
"""
