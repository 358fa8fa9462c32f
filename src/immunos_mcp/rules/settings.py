"""The settings, one row each: type, kind, description and default. Pure.

To add a setting, add a row and use it. From the row come the parsing of text, the check and its error, the
argument of ``update_config``, the stored form and the table in ``docs/reference/settings.md``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, cast, get_args

from msgspec import Struct

from immunos_mcp.domain import (
    MAXIMUM_TOKENS,
    Classification,
    Consultation,
    EnginesAllowed,
    GateChoice,
    HandoverChoice,
    MeasuredAssistant,
    Switch,
)
from immunos_mcp.rules.setting_kinds import (
    Budgets,
    Choice,
    Kind,
    ModelName,
    Number,
    SettingValue,
    TaskMappings,
    TaskSynonyms,
    TimeZone,
    ToolNames,
    WholeNumber,
    Words,
)

DEFAULT_TASK_MAPPINGS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("code_scan", "vulnerability_detection", "code_review", "code_generation", "debug"),
            "qwen2.5-coder:7b",
        ),
        **dict.fromkeys(
            ("reasoning", "planning", "analysis", "problem_solving"), "deepseek-r1:14b"
        ),
        **dict.fromkeys(("file_analysis", "summarize", "simple_question"), "qwen2.5:1.5b"),
    }
)


class Row(Struct, frozen=True):
    """What belongs to a setting besides its name, type and default.

    Attributes:
        kind: what it accepts.
        description: what it does.
        short_name: another name it is known by.
        at_most: the setting that it may not exceed, unless that is 0, which is off.
        is_advanced: whether ``config set`` alone changes it and answers leave it out at its default:
            hardly anybody changes it, and every reader of a schema would pay for it.
        is_shared: whether it is the same in every project folder, because it decides what is counted,
            held back or learned.
        argument_description: its description in the schema of ``update_config``.
    """

    kind: Kind
    description: str
    short_name: str | None = None
    at_most: str | None = None
    is_advanced: bool = False
    is_shared: bool = False
    argument_description: str | None = None


_TOKENS = WholeNumber(1, MAXIMUM_TOKENS)
_WEIGHT = Number(0, 100, decimals=3, is_stepped=True)
_PERCENT = WholeNumber(0, 100, phrase="a whole percentage from 1 to 100, or 0 for off")
_RATE = Number(0.01, 0.99)
_STRENGTH = Number(0.1, 1000)
_DAYS = Number(1, 3650)
_GATE = Choice(GateChoice)
_MINUTES_OF_A_YEAR = 525_600


class Settings(Struct, frozen=True, kw_only=True):
    """The parameters of the routing policy, valid when made by ``setting_changes``."""

    token_warning_threshold: Annotated[
        int,
        Row(
            _TOKENS,
            "budget tokens from which routine tasks stay local",
            short_name="warning_threshold",
            at_most="token_auto_switch_threshold",
        ),
    ] = 150_000
    token_auto_switch_threshold: Annotated[
        int,
        Row(
            _TOKENS,
            "budget tokens from which every task stays local",
            short_name="auto_switch_threshold",
            at_most="session_limit",
        ),
    ] = 180_000
    session_limit: Annotated[
        int, Row(_TOKENS, "budget tokens that count as 100 percent of a session")
    ] = 200_000
    claude_model: Annotated[
        str, Row(ModelName(), "model name that answers give for Claude", is_shared=True)
    ] = "claude-sonnet-4.5"
    default_local_model: Annotated[
        str, Row(ModelName(), "local model for task types without a mapping")
    ] = "qwen2.5-coder:7b"
    input_weight: Annotated[
        float, Row(_WEIGHT, "what an input token adds to the budget", is_shared=True)
    ] = 1.0
    output_weight: Annotated[
        float, Row(_WEIGHT, "what an output token adds to the budget", is_shared=True)
    ] = 1.0
    cache_creation_weight: Annotated[
        float, Row(_WEIGHT, "what a token written to the cache adds to the budget", is_shared=True)
    ] = 1.0
    # Cache reads are some nine tenths of all tokens: a budget of them measures time, not work.
    cache_read_weight: Annotated[
        float, Row(_WEIGHT, "what a token read from the cache adds to the budget", is_shared=True)
    ] = 0.0
    session_window_minutes: Annotated[
        int,
        Row(
            WholeNumber(0, _MINUTES_OF_A_YEAR, "minutes", off=True),
            "age at which a session is closed and the next one opened",
            argument_description="0: off",
            is_shared=True,
        ),
    ] = 0
    plan_warning_percent: Annotated[
        int,
        Row(
            _PERCENT,
            "use of the subscription's own limit from which routine tasks stay local",
            at_most="plan_auto_switch_percent",
            argument_description="Of the plan's limit; 0: off",
        ),
    ] = 0
    plan_auto_switch_percent: Annotated[
        int, Row(_PERCENT, "use of the subscription's own limit from which every task stays local")
    ] = 0
    budgets: Annotated[
        str,
        Row(
            Budgets(),
            "budgets beside the session's own, such as `daily=20 usd/day; app=2M tokens/week in /home/me/app`;"
            " where people share the ledger, `ada=9 usd/day of ada` or `own=5 usd/day each`; changes merge",
            argument_description="daily=20 usd/day; merged, daily=off removes",
            is_shared=True,
        ),
    ] = ""
    reservations: Annotated[
        Switch,
        Row(
            Choice(Switch),
            "whether a decision for Claude with `estimated_tokens` holds them back from budgets until its outcome,"
            " so that parallel tasks keep a limit together",
            is_advanced=True,
            is_shared=True,
        ),
    ] = Switch.OFF
    reservation_minutes: Annotated[
        int,
        Row(
            WholeNumber(1, 1440, "minutes"),
            "how long a reservation holds where no outcome or usage releases it",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 30
    time_zone: Annotated[
        str,
        Row(
            TimeZone(),
            "time zone whose days, weeks and months budgets are for; `system` is the machine's own",
            is_advanced=True,
            is_shared=True,
        ),
    ] = "system"
    claude_classifications: Annotated[
        str,
        Row(
            Words(Classification, always=Classification.CRITICAL),
            "which classifications stay with Claude below the thresholds, such as `critical,creative`",
            is_advanced=True,
        ),
    ] = Classification.CRITICAL.value
    counted_assistants: Annotated[
        str,
        Row(
            Words(MeasuredAssistant, always=MeasuredAssistant.CLAUDE_CODE),
            "which assistants' measured tokens count towards the budget, from when they are read on, such as"
            " `claude-code,codex`",
            is_advanced=True,
            is_shared=True,
        ),
    ] = MeasuredAssistant.CLAUDE_CODE.value
    task_synonyms: Annotated[
        str,
        Row(
            TaskSynonyms(most=100),
            "whether words such as `bug_fix` mean one of the task types; `on,perf_tuning=analysis` adds one",
            is_advanced=True,
        ),
    ] = "off"
    handover: Annotated[
        HandoverChoice,
        Row(
            Choice(HandoverChoice),
            "whether tasks may be handed over to local models; `never` sends every task to Claude",
            is_advanced=True,
        ),
    ] = HandoverChoice.ON
    engines_allowed: Annotated[
        EnginesAllowed,
        Row(
            Choice(EnginesAllowed),
            "whether tasks may go to engines on other machines, or with `this_machine` only to engines on"
            " loopback addresses",
            is_advanced=True,
        ),
    ] = EnginesAllowed.ANY
    cloud_models: Annotated[
        Switch,
        Row(Choice(Switch), "whether models that Ollama runs elsewhere (`x:cloud`) may be chosen"),
    ] = Switch.OFF
    remote_engine: Annotated[
        Switch,
        Row(
            Choice(Switch),
            "whether tasks may be sent to Ollama on another machine over plain HTTP",
            is_advanced=True,
        ),
    ] = Switch.OFF
    deny_agent_tool: Annotated[
        Switch,
        Row(Choice(Switch), "refuse Claude Code's subagents once every task stays local"),
    ] = Switch.OFF
    subagents_at_warning: Annotated[
        GateChoice,
        Row(
            _GATE,
            "what Claude Code's hooks do when a subagent is started from the warning threshold on",
            is_advanced=True,
        ),
    ] = GateChoice.TELL
    subagents_at_critical: Annotated[
        GateChoice,
        Row(_GATE, "the same from the auto-switch threshold on", is_advanced=True),
    ] = GateChoice.TELL
    expensive_tools_at_warning: Annotated[
        GateChoice,
        Row(
            _GATE,
            "what they do when a tool of `expensive_tools` is called from the warning threshold on",
            is_advanced=True,
        ),
    ] = GateChoice.TELL
    expensive_tools_at_critical: Annotated[
        GateChoice,
        Row(_GATE, "the same from the auto-switch threshold on", is_advanced=True),
    ] = GateChoice.TELL
    model_switches_at_warning: Annotated[
        GateChoice,
        Row(
            _GATE,
            "what they do when the user switches to a dearer model from the warning threshold on",
            is_advanced=True,
        ),
    ] = GateChoice.TELL
    model_switches_at_critical: Annotated[
        GateChoice,
        Row(_GATE, "the same from the auto-switch threshold on", is_advanced=True),
    ] = GateChoice.TELL
    expensive_tools: Annotated[
        str,
        Row(ToolNames(most=50), "tools of Claude Code that count as expensive", is_advanced=True),
    ] = "WebFetch,WebSearch,Workflow"
    subagent_token_ceiling: Annotated[
        int,
        Row(
            WholeNumber(0, MAXIMUM_TOKENS, "budget tokens", off=True),
            "budget tokens after which Claude Code's hooks stop a subagent",
            is_advanced=True,
        ),
    ] = 0
    advice: Annotated[
        Switch,
        Row(
            Choice(Switch),
            "whether Claude Code's hooks tell the model of a new level, a budget that will not last, or a"
            " large file that a loaded local model could read",
            is_advanced=True,
        ),
    ] = Switch.ON
    delegate_wait_seconds: Annotated[
        int,
        Row(
            WholeNumber(1, 3600, "seconds"),
            "how long a call waits for a delegated task before it returns a handle",
        ),
    ] = 45
    largest_context: Annotated[
        int,
        Row(
            WholeNumber(4096, 4_194_304, "tokens"),
            "largest context that a delegated task makes the local engine allocate; memory use grows with it",
            is_advanced=True,
        ),
    ] = 32_768
    mains_power_required: Annotated[
        Switch,
        Row(
            Choice(Switch),
            "whether tasks are only delegated while this machine is not on battery",
            is_advanced=True,
        ),
    ] = Switch.OFF
    free_memory_required: Annotated[
        int,
        Row(
            WholeNumber(0, 4_194_304, "megabytes", off=True),
            "free memory without which no model is loaded for a delegated task",
            is_advanced=True,
        ),
    ] = 0
    ladder: Annotated[
        Switch,
        Row(
            Choice(Switch),
            "whether a delegated task whose answer fails a check goes to the next local model of its mapping",
            is_advanced=True,
        ),
    ] = Switch.ON
    track_record: Annotated[
        Consultation,
        Row(
            Choice(Consultation),
            "whether local models that fail at a task type are passed over, or only advised against",
        ),
    ] = Consultation.ON
    record_gain: Annotated[
        float,
        Row(
            Number(0, 1),
            "how much higher Claude's expected success rate must be for a local model to be passed over",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 0.3
    record_half_life_days: Annotated[
        float,
        Row(_DAYS, "age in days at which an outcome counts half", is_advanced=True, is_shared=True),
    ] = 180.0
    record_local_rate: Annotated[
        float,
        Row(
            _RATE,
            "success rate assumed for a local model without outcomes",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 0.75
    record_claude_rate: Annotated[
        float, Row(_RATE, "success rate assumed for Claude", is_advanced=True, is_shared=True)
    ] = 0.9
    record_local_strength: Annotated[
        float,
        Row(
            _STRENGTH,
            "outcomes at a task type that weigh as much as a local model's record at all others",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 5.0
    record_claude_strength: Annotated[
        float,
        Row(
            _STRENGTH,
            "outcomes at a task type that weigh as much as Claude's record at all others",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 15.0
    record_horizon: Annotated[
        float,
        Row(
            Number(0, 100_000),
            "number of later tasks that a trial's finding is assumed to help; at 0 only overdue trials are made",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 100.0
    record_retry_days: Annotated[
        float,
        Row(
            _DAYS,
            "days without an outcome or a trial after which a passed-over model gets a trial",
            is_advanced=True,
            is_shared=True,
        ),
    ] = 30.0
    task_mappings: Annotated[
        Mapping[str, str],
        Row(
            TaskMappings(most=200),
            "up to 8 models in order, as a list or with commas, for up to 200 task types; changes merge",
            argument_description="Task type to models in order; merged, null removes",
        ),
    ] = DEFAULT_TASK_MAPPINGS


def _rows() -> dict[str, Row]:
    return {
        name: cast("Row", get_args(annotation)[1])
        for name, annotation in Settings.__annotations__.items()
    }


ROWS: Mapping[str, Row] = MappingProxyType(_rows())
"""The rows by name: the key in the ledger, the argument of ``update_config``, the CLI's key."""

MAPPINGS = "task_mappings"

SHORT_NAMES: Mapping[str, str] = MappingProxyType(
    {row.short_name: name for name, row in ROWS.items() if row.short_name is not None}
)
"""Short names that are accepted wherever a setting is named."""


def values(settings: Settings) -> dict[str, SettingValue]:
    """Return the values of all settings by name."""
    found: dict[str, SettingValue] = {name: getattr(settings, name) for name in ROWS}
    found[MAPPINGS] = dict(settings.task_mappings)
    return found
