"""What ``report`` answers; money is in US dollars."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from immunos_mcp.answers.status import BudgetStatus
from immunos_mcp.domain import Provider, TokenCounts, WarningLevel, Weights


class DecisionSum(Struct, frozen=True):
    """How many decisions were made for one reason and one provider, and their outcomes.

    Attributes:
        changed_by: the step that changed the table's choice; absent where none did, and of decisions
            whose detail was pruned.
    """

    reason: str
    provider: str
    decisions: int
    successes: int
    failures: int
    changed_by: str | None = None


class PriceTable(Struct, frozen=True):
    """Where prices come from.

    Attributes:
        source: the package that carries them.
        version: of that package.
        newest_price: the day of the newest dated price in it (ISO 8601); the table is no older.
    """

    source: str
    version: str
    newest_price: str | None = None


class UsagePeriod(Struct, frozen=True):
    """The tokens of an hour or a day (UTC).

    Attributes:
        cost_usd: what those of hosted models, Claude's included, cost at list price, to a millionth.
        cost_is_at_least: true where something they cost is not known; so everywhere below.
    """

    start: datetime
    budget_tokens: int
    claude_tokens: TokenCounts
    kept_local_tokens: int
    ollama_tokens: TokenCounts
    cost_usd: float = 0.0
    cost_is_at_least: bool | None = None


class SpendWindow(Struct, frozen=True):
    """What a day, a week (from Monday) or a month (UTC) has cost so far.

    Attributes:
        window: ``day``, ``week`` or ``month``.
    """

    window: str
    start: datetime
    cost_usd: float
    cost_is_at_least: bool | None = None


class ProjectUsage(Struct, frozen=True):
    """The tokens of hosted models in one project folder.

    Attributes:
        project: the folder; absent where it is not known.
    """

    tokens: TokenCounts
    usage_records: int
    cost_usd: float
    project: str | None = None
    cost_is_at_least: bool | None = None


class AssistantUsage(Struct, frozen=True):
    """The tokens of hosted models by the assistant that used them.

    Attributes:
        assistant: its name; absent for what was reported, or pruned.
    """

    tokens: TokenCounts
    usage_records: int
    cost_usd: float
    assistant: str | None = None
    cost_is_at_least: bool | None = None


class PersonUsage(Struct, frozen=True):
    """The tokens of hosted models by the person who used them.

    Attributes:
        person: their name; absent where that is not known, or was pruned.
    """

    tokens: TokenCounts
    usage_records: int
    cost_usd: float
    person: str | None = None
    cost_is_at_least: bool | None = None


class SourceUsage(Struct, frozen=True):
    """Tokens by source: measured, telemetry, reported or delegated."""

    provider: Provider
    source: str
    tokens: TokenCounts
    usage_records: int


class ModelUsage(Struct, frozen=True):
    """The tokens of one model.

    Attributes:
        priced_as: what the price table calls it; absent for local models and where it is unknown.
        cost_usd: what the tokens cost at list price, to a millionth; absent likewise.
    """

    provider: Provider
    model: str
    tokens: TokenCounts
    usage_records: int
    priced_as: str | None = None
    cost_usd: float | None = None
    cost_is_at_least: bool | None = None


class PricesAnswer(Struct, frozen=True):
    """What tokens cost at list price, and would have cost.

    Attributes:
        table: where the prices come from.
        model: the model set as ``claude_model``, by which local tokens are priced.
        priced_as: what the price table calls it; absent where it has no price.
        input_usd: its price of a million tokens, likewise, and so for the other kinds.
        kept_local_cost_usd: what the tokens kept local would have cost there.
        claude_cost_usd: what Claude's tokens cost, of the models that have a price.
        models_without_price: Claude's other models.
        claude_cost_is_at_least: true where something that Claude's tokens cost is not known.
        hosted_cost_usd: what the tokens of other hosted models cost, where there are any.
        hosted_cost_is_at_least: likewise.
        responses_without_lifetimes: how many wrote to a cache for a time that is not known; they are
            priced as if that was five minutes.
    """

    table: PriceTable
    model: str
    priced_as: str | None = None
    input_usd: float | None = None
    output_usd: float | None = None
    cache_creation_usd: float | None = None
    cache_read_usd: float | None = None
    kept_local_cost_usd: float | None = None
    claude_cost_usd: float | None = None
    models_without_price: tuple[str, ...] = ()
    claude_cost_is_at_least: bool | None = None
    hosted_cost_usd: float | None = None
    hosted_cost_is_at_least: bool | None = None
    responses_without_lifetimes: int | None = None


class RecordLine(Struct, frozen=True):
    """The outcomes of one model at one task type.

    Attributes:
        model: ``claude`` stands for any model of Claude.
        tokens: of all kinds.
        seconds: of work, where measured.
        expected_success_rate: by the track record, earlier outcomes counting less.
        rate_at_least: the lower end of the interval that holds the true rate with 90 percent.
        rate_at_most: the upper end.
    """

    task_type: str
    model: str
    successes: int
    failures: int
    tokens: int
    seconds: float
    expected_success_rate: float
    rate_at_least: float
    rate_at_most: float


class ReportedSession(Struct, frozen=True):
    """A budget session with its totals, as a status would show them, and what it cost."""

    session_id: int
    session: str
    started_at: datetime
    session_tokens: int
    percent_used: float
    warning_level: WarningLevel
    kept_local_tokens: int
    decisions: int
    usage_records: int
    ended_at: datetime | None = None
    end_reason: str | None = None
    cost_usd: float = 0.0
    cost_is_at_least: bool | None = None


class Savings(Struct, frozen=True):
    """What handing tasks over saved Claude, in tokens at the price of an input token.

    Attributes:
        hand_overs: tasks that were handed over, as far as their detail is not pruned.
        undone: those that failed and so saved nothing.
        verified: those whose results the assistant judged.
        only_routed: decisions with which no local model did anything.
        gross_tokens: what Claude would have paid for the tasks that did not fail.
        hand_over_tokens: what it paid to hand them over and to pass results on.
        verification_tokens: to verify them.
        routing_tokens: for calls that moved no work.
        tools_tokens: to know the server's instructions and tools.
        advice_tokens: to read what hooks said.
        net_tokens: the gross without these.
        gross_usd: the gross at list price; absent where the model has none, and so the next.
        net_usd: the net at list price.
    """

    hand_overs: int
    undone: int
    verified: int
    only_routed: int
    gross_tokens: int
    hand_over_tokens: int
    verification_tokens: int
    routing_tokens: int
    tools_tokens: int
    advice_tokens: int
    net_tokens: int
    gross_usd: float | None = None
    net_usd: float | None = None


class ReportAnswer(Struct, frozen=True):
    """What ``report`` answers.

    Attributes:
        report_at: when it was made.
        since: the moment from which on usage and decisions are in it; absent: all are.
        period: ``hour`` or ``day``, UTC.
        budget_tokens: Claude's tokens, each kind by its weight.
        claude_tokens: the same by kind, unweighted.
        kept_local_tokens: the sum of ``ollama_tokens``.
        ollama_tokens: tokens of local models by kind.
        weights: what a token of each kind adds to the budget.
        usage: periods that have any, in order.
        sources: tokens by provider and source.
        models: tokens by model, the most first.
        spend: of the current day, week and month, where the report goes back so far.
        projects: by project folder, the dearest first.
        projects_left_out: how many more there are.
        assistants: by assistant, the dearest first.
        people: by person, the dearest first, where people share the ledger.
        budgets: the budgets of calendar and plan windows now, where any are set.
        hook_texts: how many texts hooks gave to models, if any.
        hook_tokens: what these cost, estimated; they are in the tokens of the model that read them.
        savings: what handing over saved, net and gross, where anything was routed.
        decisions: by reason, provider and the step that changed the choice, the most first.
        records: outcomes of models by task type, of all time whatever ``since`` is.
        records_left_out: how many more of these there are.
        sessions: the newest, newest first.
    """

    report_at: datetime
    since: datetime | None
    period: str
    token_warning_threshold: int
    token_auto_switch_threshold: int
    session_limit: int
    budget_tokens: int
    claude_tokens: TokenCounts
    kept_local_tokens: int
    ollama_tokens: TokenCounts
    weights: Weights
    prices: PricesAnswer
    usage: tuple[UsagePeriod, ...]
    sources: tuple[SourceUsage, ...]
    models: tuple[ModelUsage, ...]
    decisions: tuple[DecisionSum, ...]
    records: tuple[RecordLine, ...]
    sessions: tuple[ReportedSession, ...]
    records_left_out: int | None = None
    spend: tuple[SpendWindow, ...] = ()
    projects: tuple[ProjectUsage, ...] = ()
    projects_left_out: int | None = None
    assistants: tuple[AssistantUsage, ...] = ()
    people: tuple[PersonUsage, ...] | None = None
    budgets: tuple[BudgetStatus, ...] | None = None
    hook_texts: int | None = None
    hook_tokens: int | None = None
    savings: Savings | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to report."""
        return not (self.usage or self.decisions or self.records or self.sessions)
