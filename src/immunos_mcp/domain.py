"""The frozen values that flow between the entry points, the policy and the ledger.

Token counts are whole numbers of tokens; times are aware and in UTC. They are structs, which take next
to no time to define.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from msgspec import Struct

MAXIMUM_TOKENS = 1_000_000_000_000
"""Largest count accepted anywhere: beyond any real usage, while totals still fit 64 bits."""


class Classification(StrEnum):
    """How much a task asks of the model that does it."""

    ROUTINE = "routine"
    CREATIVE = "creative"
    CRITICAL = "critical"


CLAUDE_TIERS = ("haiku", "sonnet", "opus")
"""Families of Claude's models, from cheap to strong; Claude Code calls its subagents' models so."""


class Provider(StrEnum):
    """Who runs a model. Only Claude's tokens count towards the budget.

    ``HOSTED`` is anybody else who is not this machine: such tokens are neither Claude's nor kept local.
    Nothing is ever routed there, so only usage has it.
    """

    CLAUDE = "claude"
    OLLAMA = "ollama"
    HOSTED = "hosted"


class Reason(StrEnum):
    """The row of the routing policy that decided. The words are a contract with users' logs."""

    HANDOVER_FORBIDDEN = "handover_forbidden"
    TOKEN_BUDGET_EXCEEDED = "token_budget_exceeded"
    PLAN_LIMIT_EXCEEDED = "plan_limit_exceeded"
    SPEND_LIMIT_EXCEEDED = "spend_limit_exceeded"
    TOKEN_BUDGET_WARNING = "token_budget_warning"
    PLAN_LIMIT_WARNING = "plan_limit_warning"
    SPEND_LIMIT_WARNING = "spend_limit_warning"
    TASK_CRITICAL = "task_critical"
    TASK_RESERVED = "task_reserved"
    TASK_OPTIMIZED = "task_optimized"
    DEFAULT_COMPLEX = "default_complex"


class WarningLevel(StrEnum):
    """A session's level by its two thresholds."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


class Switch(StrEnum):
    """A setting that is on or off."""

    ON = "on"
    OFF = "off"


class HandoverChoice(StrEnum):
    """Whether tasks may be handed over to local models."""

    ON = "on"
    NEVER = "never"


class EnginesAllowed(StrEnum):
    """Where the engine of a task that is handed over may be."""

    ANY = "any"
    THIS_MACHINE = "this_machine"


class GateChoice(StrEnum):
    """What happens when something expensive is begun while the budget is low."""

    TELL = "tell"
    ASK = "ask"
    DENY = "deny"


class Consultation(StrEnum):
    """What the track record may do: change decisions, only advise, or nothing."""

    ON = "on"
    ADVISE = "advise"
    OFF = "off"


class Outcome(StrEnum):
    """Whether a routed task succeeded."""

    SUCCESS = "success"
    FAILURE = "failure"


class Judge(StrEnum):
    """Who says how a task turned out; a later one in this order overrules an earlier one."""

    CHECK = "check"
    ASSISTANT = "assistant"
    USER = "user"


class TokenCounts(Struct, frozen=True):
    """The four kinds of tokens of a response, under Anthropic's names."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0

    @property
    def total(self) -> int:
        """All four kinds, unweighted."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_creation_input_tokens
            + self.cache_read_input_tokens
        )

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
        )

    def __sub__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cache_creation_input_tokens - other.cache_creation_input_tokens,
            self.cache_read_input_tokens - other.cache_read_input_tokens,
        )


class Weights(Struct, frozen=True):
    """What one token of each kind adds to the budget, from 0 to 100 in steps of 0.001.

    Cache reads weigh nothing by default: they are some nine tenths of all tokens, and a budget that
    counts them measures time rather than work.
    """

    input_tokens: float = 1.0
    output_tokens: float = 1.0
    cache_creation_input_tokens: float = 1.0
    cache_read_input_tokens: float = 0.0


class Task(Struct, frozen=True, omit_defaults=True):
    """A piece of work to be routed.

    Attributes:
        task_type: normalised to lower snake case.
        classification: how much it asks of the model.
        estimated_tokens: budget tokens it would cost on Claude, where somebody knows.
        given_task_type: the word that was given, where that means another task type.
        follows: the decision whose local model failed at it, where it is tried again.
        tried: the models that failed at it, in order.
    """

    task_type: str
    classification: Classification
    estimated_tokens: int | None = None
    given_task_type: str | None = None
    follows: int | None = None
    tried: tuple[str, ...] = ()


class Pace(Struct, frozen=True):
    """A decaying sum of budget tokens; ``pace.py`` reads it.

    Attributes:
        tokens: budget tokens, each weighed down by its age at ``at``.
        at: the moment the sum was taken; ``None`` before the first token.
    """

    tokens: float = 0.0
    at: datetime | None = None


class Session(Struct, frozen=True):
    """A budget session as the ledger holds it.

    Attributes:
        session_id: the ledger's number for it; ``None`` when none is open under the name.
        name: what clients call it.
        started_at: when counting began; ``None`` when none is open.
        claude: tokens that count towards the budget, by kind.
        local: tokens kept local, by kind.
        pace: how fast budget tokens have been arriving.
        usage_records: how many usage records the counts are the sum of.
        measured: the part of ``claude`` that a client wrote down itself.
        folder: the project folder whose measured usage it counts alone; ``None`` counts all.
    """

    session_id: int | None
    name: str
    started_at: datetime | None = None
    claude: TokenCounts = TokenCounts()
    local: TokenCounts = TokenCounts()
    pace: Pace = Pace()
    usage_records: int = 0
    measured: TokenCounts = TokenCounts()
    folder: str | None = None


class Usage(Struct, frozen=True):
    """What one model response cost.

    Attributes:
        model: the model that answered.
        counts: the tokens by kind.
        request_id: the response's own id; a second record with it is a repeat.
        decision_id: the routing decision the response belongs to.
        outcome: whether that task succeeded, when the record closes the decision.
        seconds: how long the model worked, where somebody measured it.
        judge: who says that it succeeded; ``None``: nobody looked at the work, and any judge's outcome
            replaces this one.
        in_file: whether the result of a delegated task went into a file.
    """

    model: str
    counts: TokenCounts
    request_id: str | None = None
    decision_id: int | None = None
    outcome: Outcome | None = None
    seconds: float | None = None
    judge: Judge | None = Judge.ASSISTANT
    in_file: bool = False


class MeasuredAssistant(StrEnum):
    """The assistants whose logs are read."""

    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    GEMINI = "gemini"
    OPENCODE = "opencode"
    QWEN = "qwen"
    COPILOT = "copilot"
    CLINE = "cline"
    PI = "pi"


CLAUDE_CODE = "claude-code"
"""The assistant whose usage is Claude's own; the only one that earlier ledgers have usage of."""


class JoinKey(Struct, frozen=True):
    """What joins a decision with the usage of the work that it is for.

    Attributes:
        call: the client's id of the call that asked for the decision, which its logs have.
        thread: the assistant's id of the conversation or subagent that asked.
    """

    call: str | None = None
    thread: str | None = None

    @property
    def text(self) -> str | None:
        """The key as it is stored."""
        if self.thread is not None:
            return f"thread:{self.thread}"
        return None if self.call is None else f"call:{self.call}"


UNJOINED = JoinKey()


class PlanUsage(Struct, frozen=True):
    """How much of the subscription's own limit is used, as the API reported it to the client.

    Attributes:
        window: ``five_hour`` or ``seven_day``; another assistant's begins with its name, as in
            ``codex_five_hour``.
        used_percentage: of the plan's limit.
        resets_at: when the window ends.
    """

    window: str
    used_percentage: float
    resets_at: datetime

    def is_of(self, assistant: str) -> bool:
        """Return whether it is the limit of this assistant's subscription."""
        return self.window.startswith(f"{assistant}_")


class EngineState(StrEnum):
    """The state of the local engine when it was last checked."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    SLOW = "slow"
    REFUSED = "refused"
    NOT_OLLAMA = "not_ollama"
    NOT_COMPATIBLE = "not_compatible"


class LocalModel(Struct, frozen=True):
    """A model that the local engine has.

    Attributes:
        name: as the engine writes it.
        digest: identity of its content.
        size_bytes: on disk.
        parameter_size: as the engine reports it, such as ``7.6B``.
        context_length: most tokens it accepts; ``None``: the listing does not say.
        capabilities: such as ``completion``; ``None``: the engine is too old to say.
        is_loaded: whether it is in memory.
        is_passed_on: whether the engine sends its tasks on to another machine.
        engine: the name of the engine that has it; empty: Ollama.
        served_as: what that engine calls it, where that is not ``name``.
    """

    name: str
    digest: str = ""
    size_bytes: int = 0
    parameter_size: str = ""
    context_length: int | None = None
    capabilities: frozenset[str] | None = None
    is_loaded: bool = False
    is_passed_on: bool = False
    engine: str = ""
    served_as: str = ""


class Engine(Struct, frozen=True):
    """The local engine at some moment, with what other engines have beside it.

    Attributes:
        state: whether it answers; nothing is known of its own models unless it is up.
        address: where it is.
        version: as it reports it.
        words: the error, if there was one.
        models: what is installed, by canonical name; of the other engines too, where nothing else has
            the name.
        seen_at: when it was last checked; ``None``: never.
        name: what the user calls it; empty: Ollama.
        others: the other engines, each with its own models.
        is_elsewhere: whether its address is not known to be one of this machine's own.
    """

    state: EngineState
    address: str = ""
    version: str = ""
    words: str = ""
    models: Mapping[str, LocalModel] = MappingProxyType({})
    seen_at: datetime | None = None
    name: str = ""
    others: tuple[Engine, ...] = ()
    is_elsewhere: bool = False


class TaskState(StrEnum):
    """How a delegated task stands; ``lost``: the process that ran it ended before the task did."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class DelegatedTask(Struct, frozen=True):
    """A delegated task as the process that runs it last described it.

    Attributes:
        decision_id: the decision that it is done for.
        model: the model that does it.
        state: how it stood.
        process: the process that runs it.
        begun_at: when it was delegated.
        seen_at: when that was last said.
        tokens: tokens generated until then.
    """

    decision_id: int
    model: str
    state: TaskState
    process: str
    begun_at: datetime
    seen_at: datetime
    tokens: int = 0


class ChangedBy(StrEnum):
    """The step after the table that changed its choice."""

    AVAILABILITY = "availability"
    TRACK_RECORD = "track_record"
    LADDER = "ladder"


class Decision(Struct, frozen=True):
    """The policy's answer.

    Attributes:
        model: the model to use.
        provider: who runs it.
        reason: the row of the policy that decided.
        warning_level: the session's level.
        session_tokens: the session's budget tokens that the decision was made at.
        decision_id: the number it is logged under; ``None`` before, and in what has that number itself.
        projected_tokens: budget tokens after the task, when an estimate was given.
        projected_level: the level at ``projected_tokens``.
        plan_used_percent: how much of the subscription's fullest limit was used, where the settings
            look at it and it was reported.
        available: whether the local model that was chosen can run; ``None``: not known, or Claude.
        changed_by: the step that changed the table's choice.
        table_model: what the table chose, where a later step changed it.
        remedy: the command that lets the table's choice run, where it cannot.
        trial: true where the task is given to the model to learn more of it, against its record.
        advised_model: where the track record would send the task, when it only advises and differs.
        budget: the tightest of the budgets beside the session's own.
        budget_used_percent: how much of what that budget allows was used.
        held_tokens: tokens that open reservations of the session held back, where reservations are on.
        reserved_tokens: tokens that this decision holds back until its outcome or expiry.
    """

    model: str
    provider: Provider
    reason: Reason
    warning_level: WarningLevel
    session_tokens: int
    decision_id: int | None = None
    projected_tokens: int | None = None
    projected_level: WarningLevel | None = None
    plan_used_percent: float | None = None
    available: bool | None = None
    changed_by: ChangedBy | None = None
    table_model: str | None = None
    remedy: str | None = None
    trial: bool | None = None
    advised_model: str | None = None
    budget: str | None = None
    budget_used_percent: float | None = None
    held_tokens: int | None = None
    reserved_tokens: int | None = None


class SessionRecord(Struct, frozen=True):
    """A session in the history: its figures, and how and when it ended if it did."""

    session: Session
    decisions: int
    ended_at: datetime | None
    end_reason: str | None
