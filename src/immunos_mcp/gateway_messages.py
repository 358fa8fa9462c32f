"""What a developer's own server, the gateway, sends to its team's server, and what it gets back.

Numbers, models, times, ids and the last component of a project's folder: no path, and no text of a
conversation. Whatever is not described here is refused.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # msgspec reads annotations
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import DecodeError, Meta, Struct, ValidationError
from msgspec.json import Decoder
from msgspec.structs import astuple

from immunos_mcp.answers.history import LoggedDecision  # noqa: TC001  # msgspec reads annotations
from immunos_mcp.domain import (
    CLAUDE_CODE,
    EngineState,
    Judge,
    Outcome,
    PlanUsage,
    TokenCounts,
)
from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.logged_usage import (
    ConversationTotal,
    MeasuredUsage,
    ModelTotal,
    PlanReport,
    RequestUsage,
)
from immunos_mcp.rules.names import is_printable

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1
"""The version of these messages; a server refuses another."""

PATH = "/gateway"
"""Where a team's server takes them."""

LARGEST_REQUEST = 2 * 2**20
"""Bytes of a request's body."""

MOST_RESPONSES = 2000
"""Responses in one request, and as many of everything else in it."""

_YEARS = range(2000, 3000)
_LONGEST_NAME = 200
_MOST_MODELS = 500
_LONGEST_WORDS = 300

Tokens = Annotated[int, Meta(ge=0, le=10**9)]
"""Beyond the context of any response, and the sum of all responses still fits 64 bits."""

TotalTokens = Annotated[int, Meta(ge=0, le=10**11)]
Number = Annotated[int, Meta(ge=0, le=10**15)]
DecisionId = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME)]
Label = Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME, pattern=r"^[^/\\]+$")]
Moment = Annotated[datetime, Meta(tz=True)]
Milliseconds = Annotated[int, Meta(ge=0, le=32_503_680_000_000)]
Role = Literal["member", "lead", "admin"]


class _Message(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of everything that a gateway sends."""


class PushedResponse(_Message, frozen=True):
    """One response; ``MeasuredUsage`` with a label instead of the folder, field by field."""

    message_id: Name
    at: Moment
    model: Name
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_creation_input_tokens: Tokens = 0
    cache_read_input_tokens: Tokens = 0
    label: Label | None = None
    request_id: Name | None = None
    assistant: Name = CLAUDE_CODE
    conversation: Name | None = None
    cache_1h_input_tokens: Tokens | None = None
    speed: Name | None = None
    service_tier: Name | None = None
    region: Annotated[str, Meta(max_length=_LONGEST_NAME)] | None = None
    web_searches: Tokens | None = None
    is_sidechain: bool | None = None
    agent: Name | None = None
    calls: Annotated[tuple[Name, ...], Meta(max_length=1000)] = ()

    @classmethod
    def of(cls, usage: MeasuredUsage) -> PushedResponse:
        """Return what is sent of measured usage."""
        return cls(*usage[:7], label_of(usage.folder), *usage[8:])

    @property
    def usage(self) -> MeasuredUsage:
        """What is stored of it."""
        return MeasuredUsage(*astuple(self))


class PushedRequest(_Message, frozen=True):
    """One API request that only telemetry reported."""

    request_id: Name
    at: Moment
    model: Name
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_creation_input_tokens: Tokens = 0
    cache_read_input_tokens: Tokens = 0
    conversation: Name | None = None

    @classmethod
    def of(cls, request: RequestUsage) -> PushedRequest:
        """Return what is sent of a request."""
        counts = astuple(request.counts)
        return cls(
            request.request_id,
            request.at,
            request.model,
            *counts[:4],
            conversation=request.conversation,
        )

    @property
    def usage(self) -> RequestUsage:
        """What is stored of it."""
        request_id, at, model, *counts, conversation = astuple(self)
        return RequestUsage(request_id, at, model, TokenCounts(*counts), conversation)


class PushedModelTotal(_Message, frozen=True):
    """What a conversation used of one model so far; ``ModelTotal``, field by field."""

    model: Name
    input_tokens: TotalTokens = 0
    output_tokens: TotalTokens = 0
    cache_creation_input_tokens: TotalTokens = 0
    cache_read_input_tokens: TotalTokens = 0
    cache_1h_input_tokens: TotalTokens = 0
    web_searches: TotalTokens = 0


class PushedTotal(_Message, frozen=True):
    """An assistant's own total of a conversation; ``ConversationTotal`` with a label instead of the folder."""

    conversation: Name
    start_ms: Milliseconds
    at: Moment
    models: Annotated[tuple[PushedModelTotal, ...], Meta(max_length=_MOST_MODELS)] = ()
    first_at: Moment | None = None
    label: Label | None = None
    is_partial: bool = False

    @classmethod
    def of(cls, total: ConversationTotal) -> PushedTotal:
        """Return what is sent of a total."""
        models = tuple(PushedModelTotal(*each) for each in total.models)
        return cls(*total[:3], models, total.first_at, label_of(total.folder), total.is_partial)

    @property
    def total(self) -> ConversationTotal:
        """What is stored of it."""
        models = tuple(ModelTotal(*astuple(each)) for each in self.models)
        return ConversationTotal(*astuple(self))._replace(models=models)


class PushedPlanUsage(_Message, frozen=True):
    """How much of a subscription's limit was used, and when the assistant was told."""

    at: Moment
    kind: Name
    used_percent: Annotated[float, Meta(ge=0, le=1000)]
    resets_at: Moment

    @classmethod
    def of(cls, report: PlanReport) -> PushedPlanUsage:
        """Return what is sent of a report."""
        return cls(report.at, *astuple(report.usage))

    @property
    def report(self) -> PlanReport:
        """What is stored of it."""
        return PlanReport(self.at, PlanUsage(self.kind, self.used_percent, self.resets_at))


class PushedUsage(_Message, frozen=True):
    """Usage that was logged since the last push.

    Attributes:
        responses: what assistants logged.
        requests: what telemetry reported.
        totals: the totals of conversations.
        plan: reports of the subscription's limits.
        is_last: whether no more of it follows at once.
    """

    responses: Annotated[tuple[PushedResponse, ...], Meta(max_length=MOST_RESPONSES)] = ()
    requests: Annotated[tuple[PushedRequest, ...], Meta(max_length=MOST_RESPONSES)] = ()
    totals: Annotated[tuple[PushedTotal, ...], Meta(max_length=MOST_RESPONSES)] = ()
    plan: Annotated[tuple[PushedPlanUsage, ...], Meta(max_length=MOST_RESPONSES)] = ()
    is_last: bool = True


class HandedOverTask(_Message, frozen=True):
    """What a local model of the developer used for a task that the team's server had routed to it.

    Attributes:
        request_id: makes repeats harmless.
        decision_id: the team's server's decision.
        outcome: ``None``: the task goes on with another model, or nobody knows.
        seconds: how long the model worked.
        judge: who says how it turned out; ``None``: the model answered, and nobody looked at it.
        in_file: whether the result went into a file.
    """

    request_id: Name
    decision_id: DecisionId
    model: Name
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    outcome: Outcome | None = None
    seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    judge: Judge | None = None
    in_file: bool = False
    session: Name | None = None


class SentEngine(_Message, frozen=True):
    """The state of the developer's engines, as the ledger stores that of a decision."""

    state: EngineState
    models: Annotated[
        dict[Name, tuple[Name, Number, bool]],
        Meta(max_length=_MOST_MODELS),
    ]
    others: Annotated[dict[Name, EngineState], Meta(max_length=_MOST_MODELS)] = {}
    engines: Annotated[dict[Name, Name], Meta(max_length=_MOST_MODELS)] = {}
    elsewhere: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=50)] = []
    passed_on: Annotated[list[Name], Meta(max_length=_MOST_MODELS)] = []
    loaded: Annotated[list[Name], Meta(max_length=_MOST_MODELS)] = []


PassedTool = Literal[
    "route_task", "record_usage", "get_session_status", "reset_session", "update_config"
]


class PassedCall(_Message, frozen=True):
    """A call of a tool that the gateway passes on.

    Attributes:
        tool: the tool's name.
        arguments: the tool's arguments, which are checked as those of any call are.
        client: the assistant's name and version, as it gives them.
        engine: what engines the developer has; ``None``: models are assumed to be available.
        label: the project that the call is from.
        call_id: the assistant's own id of the call, which its logs have.
        thread: the assistant's id of the conversation that calls.
        follows: the decision that this one follows, where a local model failed at the task.
        tried: the models that failed at it.
        wants_settings: whether the answer is to have the settings that hold.
    """

    tool: PassedTool
    arguments: dict[str, Any] = {}
    client: Annotated[str, Meta(max_length=_LONGEST_NAME)] = ""
    engine: SentEngine | None = None
    label: Label | None = None
    call_id: Name | None = None
    thread: Name | None = None
    follows: DecisionId | None = None
    tried: Annotated[tuple[Name, ...], Meta(max_length=20)] = ()
    wants_settings: bool = False


class GatewayRequest(_Message, frozen=True):
    """What a gateway sends; all but the version may be left out.

    Attributes:
        version: the version of these messages.
        assistants: whose logs the gateway reads; once usage was pushed, what they report of themselves for
            this person is kept and not counted.
        usage: is stored first, whatever becomes of the rest.
        handed_over: tasks that local models did.
        call: is answered last.
        leaves: whether the person's gateway pushes no more, so that what the assistants report counts again.
    """

    version: int
    assistants: Annotated[tuple[Name, ...], Meta(max_length=50)] = ()
    usage: PushedUsage | None = None
    handed_over: Annotated[tuple[HandedOverTask, ...], Meta(max_length=100)] = ()
    call: PassedCall | None = None
    leaves: bool = False


class GatewayIdentity(Struct, frozen=True):
    """Whose token a gateway has; ``person`` is ``None`` where the server asks for no tokens."""

    team: str
    person: str | None
    role: Role
    version: int


class GatewayReply(Struct, frozen=True, omit_defaults=True):
    """What the team's server answers.

    Attributes:
        team: whose budget it is.
        person: whose token it was; ``None``: the server asks for none.
        role: what the person may do.
        new: how many responses and requests were new or had grown.
        answer: the tool's structured answer; ``None``: there was no call, or it failed.
        text: the tool's answer as text.
        error: why the call failed, in words for the model.
        logged: the decision as it was logged, where one was made.
        settings: the settings that hold, where they were asked for.
        refused: why a task that was handed over was not recorded, by its ``request_id``.
    """

    team: str
    person: str | None
    role: Role
    new: int = 0
    answer: dict[str, Any] | None = None
    text: str | None = None
    error: str | None = None
    logged: LoggedDecision | None = None
    settings: dict[str, Any] | None = None
    refused: Mapping[str, str] = {}


def label_of(folder: str | None) -> str | None:
    """Return the label that stands for a project folder: its last component, without what is not shown."""
    if folder is None:
        return None
    last = folder.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(each for each in last if is_printable(each))
    return shown[:_LONGEST_NAME] or None


_decoder = Decoder(GatewayRequest)


def read_request(body: bytes) -> GatewayRequest:
    """Read a gateway's request.

    Raises:
        InvalidInputError: it names what is not as described, and where.
    """
    try:
        request = _decoder.decode(body)
    except ValidationError as error:
        # They repeat the name of a field that nobody knows.
        words = ascii(str(error).replace("`", ""))[1:-1][:_LONGEST_WORDS]
        raise InvalidInputError(Problem("request", None, message=f"request: {words}")) from None
    except (DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInputError(Problem("request", None, message="request: no JSON")) from None
    if request.version != VERSION:
        raise InvalidInputError(
            Problem("version", request.version, f"{VERSION}; upgrade the older of the two")
        )
    for place, texts, moments in _checked(request):
        if not is_printable("".join(filter(None, texts))):
            message = f"{place}: must be without invisible characters"
            raise InvalidInputError(Problem(place, None, message=message))
        if any(moment is not None and moment.year not in _YEARS for moment in moments):
            message = f"{place}: must have times of the years {_YEARS.start} to {_YEARS.stop - 1}"
            raise InvalidInputError(Problem(place, None, message=message))
    return request


_Checked = tuple[str, tuple[str | None, ...], tuple[datetime | None, ...]]


def _checked(request: GatewayRequest) -> Iterator[_Checked]:
    """Yield the texts and times of a request that are stored, with their place in it."""
    yield "assistants", request.assistants, ()
    for task in request.handed_over:
        yield "handed_over", (task.request_id, task.model), ()
    call = request.call
    if call is not None:
        names = (call.client, call.label, call.call_id, call.thread, *call.tried)
        yield "call", names, ()
        if call.engine is not None:
            yield "call.engine", tuple(_engine_names(call.engine)), ()
    if request.usage is not None:
        yield from _checked_usage(request.usage)


def _checked_usage(usage: PushedUsage) -> Iterator[_Checked]:
    for number, each in enumerate(usage.responses):
        texts = (each.message_id, each.model, each.label, each.request_id, each.assistant)
        more = (each.conversation, each.speed, each.service_tier, each.region, each.agent)
        yield f"usage.responses[{number}]", (*texts, *more, *each.calls), (each.at,)
    for number, each in enumerate(usage.requests):
        texts = (each.request_id, each.model, each.conversation)
        yield f"usage.requests[{number}]", texts, (each.at,)
    for number, each in enumerate(usage.totals):
        texts = (each.conversation, each.label, *(total.model for total in each.models))
        yield f"usage.totals[{number}]", texts, (each.at, each.first_at)
    for number, each in enumerate(usage.plan):
        yield f"usage.plan[{number}]", (each.kind,), (each.at, each.resets_at)


def _engine_names(engine: SentEngine) -> Iterator[str]:
    for canonical, (name, _, _) in engine.models.items():
        yield from (canonical, name)
    yield from engine.others
    for pair in engine.engines.items():
        yield from pair
    yield from (*engine.elsewhere, *engine.passed_on, *engine.loaded)
