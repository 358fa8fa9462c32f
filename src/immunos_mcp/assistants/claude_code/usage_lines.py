"""The usage in one line of a transcript: a response with its advisors, or a conversation's total."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from immunos_mcp.assistants import nesting
from immunos_mcp.assistants.documents import items, member
from immunos_mcp.assistants.line_readers import Salvaged
from immunos_mcp.assistants.recorded_values import LONGEST_FOLDER, LONGEST_NAME, count, text
from immunos_mcp.domain import CLAUDE_CODE, MAXIMUM_TOKENS
from immunos_mcp.logged_usage import ConversationTotal, MeasuredUsage, ModelTotal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from immunos_mcp.answers.encoding import Json
    from immunos_mcp.assistants.json_objects import Outline

SYNTHETIC_MODEL = "<synthetic>"
"""The model of messages that the client itself inserts, such as API errors."""

UNKNOWN_MODEL = "claude-unknown"
"""Stands for the model of a response that names none; its tokens count towards the budget."""

ROUTING_TOOL = "route_task"
"""The tool whose calls are joined with what is used after them."""

ADVISOR = "advisor_message"
"""The iterations of a response that another model made, and that its own counts lack."""

TOTAL = "cost-state"
"""The type of the lines that have a conversation's total."""

LATEST_MS = 2**53
"""The latest beginning of a conversation that is believed, in milliseconds."""

_Count = Annotated[int, Meta(ge=0, le=MAXIMUM_TOKENS)] | None
_Label = Annotated[str, Meta(max_length=LONGEST_NAME)] | None


class _CacheCreation(Struct):
    ephemeral_5m_input_tokens: _Count = None
    ephemeral_1h_input_tokens: _Count = None


class _ServerToolUse(Struct):
    web_search_requests: _Count = None


class _Iteration(Struct):
    type: str | None = None
    model: str | None = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation: _CacheCreation | None = None


class _Usage(Struct):
    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerToolUse | None = None
    speed: _Label = None
    service_tier: _Label = None
    inference_geo: _Label = None
    iterations: list[_Iteration] | None = None


class _Block(Struct):
    type: str = ""
    id: str = ""
    name: str = ""


class _Message(Struct):
    id: str = ""
    model: str = ""
    usage: _Usage | None = None
    content: list[_Block] | str | None = None


class _Line(Struct):
    type: str = ""
    timestamp: str = ""
    message: _Message | None = None
    cwd: str | None = None
    requestId: str | None = None  # noqa: N815  # the transcript's name
    isSidechain: bool | None = None  # noqa: N815  # likewise
    sessionId: _Label = None  # noqa: N815  # likewise
    agentId: _Label = None  # noqa: N815  # likewise


class _ModelTotal(Struct):
    inputTokens: _Count = None  # noqa: N815  # the transcript's names, here and below
    outputTokens: _Count = None  # noqa: N815
    cacheCreationInputTokens: _Count = None  # noqa: N815
    cacheReadInputTokens: _Count = None  # noqa: N815
    cacheCreationEphemeral1hInputTokens: _Count = None  # noqa: N815
    webSearchRequests: _Count = None  # noqa: N815


class _Total(Struct):
    sessionId: str = ""  # noqa: N815
    startTime: Annotated[int, Meta(ge=0, le=LATEST_MS)] = 0  # noqa: N815
    modelUsage: dict[str, _ModelTotal] = {}  # noqa: N815  # copied for each


_decode = Decoder(_Line).decode
_decode_total = Decoder(_Total).decode


def usage_of(
    line: bytes | bytearray, folder: str | None = None
) -> tuple[MeasuredUsage | ConversationTotal, ...]:
    """Return the usage in a line; nothing if it is a line of another kind.

    Only the needed fields are decoded; the conversation itself is skipped.

    Args:
        line: the line.
        folder: the conversation's project folder; ``None``: take the line's.

    Raises:
        ValueError: the line is not exactly as Claude Code writes it; ``salvage`` takes it.
    """
    try:
        entry = _decode(line)
    except (DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if entry.type == TOTAL:
        return (_total_of(line),)
    message = entry.message
    if entry.type != "assistant" or message is None:
        return ()
    usage = message.usage
    if usage is None or message.model == SYNTHETIC_MODEL:
        return ()
    if nesting.is_too_deep(line):
        raise ValueError("nested too deeply")
    written, split = _written(usage), usage.cache_creation
    response = MeasuredUsage(
        _name(message.id),
        moment_in(entry.timestamp),
        _name(message.model),
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        written,
        usage.cache_read_input_tokens or 0,
        folder or entry.cwd,
        entry.requestId,
        CLAUDE_CODE,
        entry.sessionId,
        None if split is None else min(split.ephemeral_1h_input_tokens or 0, written),
        usage.speed,
        usage.service_tier,
        usage.inference_geo,
        None if usage.server_tool_use is None else usage.server_tool_use.web_search_requests,
        entry.isSidechain or False,
        entry.agentId,
        _calls(message.content),
    )
    if not usage.iterations:
        return (response,)
    return (response, *_advisors(response, usage.iterations))


def _written(used: _Usage | _Iteration) -> int:
    """Return the tokens written to the cache; some gateways give only the sum's parts."""
    split = used.cache_creation
    if used.cache_creation_input_tokens or split is None:
        return used.cache_creation_input_tokens or 0
    return (split.ephemeral_5m_input_tokens or 0) + (split.ephemeral_1h_input_tokens or 0)


def _calls(content: list[_Block] | str | None) -> tuple[str, ...]:
    """Return the client's ids of the calls of ``route_task`` in a response."""
    if not content or isinstance(content, str):
        return ()
    return tuple(
        block.id
        for block in content
        if block.type == "tool_use"
        and block.name.endswith(ROUTING_TOOL)
        and 0 < len(block.id) <= LONGEST_NAME
    )


def _advisors(response: MeasuredUsage, iterations: Sequence[_Iteration]) -> Iterator[MeasuredUsage]:
    advisors = [each for each in iterations if each.type == ADVISOR]
    for number, advisor in enumerate(advisors):
        written, split = _written(advisor), advisor.cache_creation
        hour_long = None if split is None else min(split.ephemeral_1h_input_tokens or 0, written)
        counts = (
            advisor.input_tokens or 0,
            advisor.output_tokens or 0,
            written,
            advisor.cache_read_input_tokens or 0,
        )
        yield _advisor(response, number, advisor.model, counts, hour_long)


def _advisor(
    response: MeasuredUsage,
    number: int,
    model: str | None,
    counts: tuple[int, int, int, int],
    hour_long: int | None,
) -> MeasuredUsage:
    """Return what an advisor's model used, as a response of its own."""
    return response._replace(
        message_id=f"{response.message_id}#advisor-{number + 1}",
        model=_text(model) or UNKNOWN_MODEL,
        input_tokens=counts[0],
        output_tokens=counts[1],
        cache_creation_input_tokens=counts[2],
        cache_read_input_tokens=counts[3],
        # The request is the response's, and its telemetry too.
        request_id=None,
        cache_1h_input_tokens=hour_long,
        web_searches=None,
        calls=(),
    )


def _total_of(line: bytes | bytearray) -> ConversationTotal:
    try:
        total = _decode_total(line)
    except (DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    models = tuple(
        ModelTotal(
            _name(model),
            used.inputTokens or 0,
            used.outputTokens or 0,
            used.cacheCreationInputTokens or 0,
            used.cacheReadInputTokens or 0,
            used.cacheCreationEphemeral1hInputTokens or 0,
            used.webSearchRequests or 0,
        )
        for model, used in total.modelUsage.items()
    )
    return _total(_name(total.sessionId), total.startTime, models)


def _total(conversation: str, start_ms: int, models: tuple[ModelTotal, ...]) -> ConversationTotal:
    try:
        at = datetime.fromtimestamp(start_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        raise ValueError("a conversation's beginning is out of range") from None
    return ConversationTotal(conversation, start_ms, at, models)


def salvage(
    line: bytes | bytearray, folder: str | None = None
) -> Salvaged[MeasuredUsage | ConversationTotal]:
    """Return the usage in a line that is damaged, glued to another, or spelled in another way."""
    from immunos_mcp.assistants import json_objects  # few lines are damaged

    found = json_objects.find_objects(json_objects.decoded(line), _is_wanted)
    is_lost = any('"assistant"' in piece or f'"{TOTAL}"' in piece for piece in found.rest)
    is_lost |= any(_is_wanted(outline) for outline in found.too_deep)
    usage: list[MeasuredUsage | ConversationTotal] = []
    for record in found.objects:
        try:
            if record.get("type") == TOTAL:
                usage.append(_salvaged_total(record))
                continue
            response = _response(record)
            if response is not None:
                usage += _with_advisors(response._replace(folder=folder or response.folder), record)
        except ValueError:
            is_lost = True
    return Salvaged(tuple(usage), is_whole=not is_lost)


def _is_wanted(outline: Outline) -> bool:
    if outline.has("type", f'"{TOTAL}"'):
        return "modelUsage" in outline.keys
    return outline.has("type", '"assistant"') and "message" in outline.keys


def _with_advisors(response: MeasuredUsage, record: dict[str, Json]) -> list[MeasuredUsage]:
    iterations = items(member(record, ("message", "usage", "iterations")))
    advisors = [
        each for each in iterations if isinstance(each, dict) and each.get("type") == ADVISOR
    ]
    found = [response]
    for number, advisor in enumerate(advisors):
        counts = (
            count(advisor.get("input_tokens")),
            count(advisor.get("output_tokens")),
            _cache_creation(advisor),
            count(advisor.get("cache_read_input_tokens")),
        )
        hour_long = _hour_long(advisor, counts[2])
        found.append(_advisor(response, number, _text(advisor.get("model")), counts, hour_long))
    return found


def _salvaged_total(record: dict[str, Json]) -> ConversationTotal:
    conversation = _text(record.get("sessionId"))
    models = record.get("modelUsage")
    start_ms = count(record.get("startTime"), LATEST_MS)
    if conversation is None or not isinstance(models, dict):
        raise ValueError("a total has no conversation or no models")
    return _total(
        conversation,
        start_ms,
        tuple(
            ModelTotal(
                _text(model) or UNKNOWN_MODEL,
                count(member(used, ("inputTokens",))),
                count(member(used, ("outputTokens",))),
                count(member(used, ("cacheCreationInputTokens",))),
                count(member(used, ("cacheReadInputTokens",))),
                count(member(used, ("cacheCreationEphemeral1hInputTokens",))),
                count(member(used, ("webSearchRequests",))),
            )
            for model, used in models.items()
        ),
    )


def _response(record: dict[str, Json]) -> MeasuredUsage | None:
    """Return the usage in a record; ``None``: it is a record of another kind.

    Raises:
        ValueError: it is a response with usage, but its time or its counts cannot be read.
    """
    message = record.get("message")
    if record.get("type") != "assistant" or message is None:
        return None
    usage = member(message, ("usage",))
    model = _text(member(message, ("model",)))
    if model == SYNTHETIC_MODEL or (usage is None and isinstance(message, dict)):
        return None
    if not isinstance(usage, dict):
        raise ValueError("usage is not an object")  # noqa: TRY004  # the content, not an argument
    timestamp = record.get("timestamp")
    if not isinstance(timestamp, str):
        raise ValueError("a timestamp is missing")  # noqa: TRY004  # likewise
    counts = (
        count(usage.get("input_tokens")),
        count(usage.get("output_tokens")),
        _cache_creation(usage),
        count(usage.get("cache_read_input_tokens")),
    )
    request_id = _text(record.get("requestId"))
    named = _text(member(message, ("id",))) or request_id or _text(record.get("uuid"))
    return MeasuredUsage(
        # Without any id, nothing else tells a response from its copy.
        named or f"{timestamp} {model} {counts}",
        moment_in(timestamp),
        model or UNKNOWN_MODEL,
        *counts,
        _text(record.get("cwd"), LONGEST_FOLDER),
        request_id,
        CLAUDE_CODE,
        _text(record.get("sessionId")),
        _hour_long(usage, counts[2]),
        _text(usage.get("speed")),
        _text(usage.get("service_tier")),
        _text(usage.get("inference_geo")),
        _known_count(member(usage, ("server_tool_use", "web_search_requests"))),
        record.get("isSidechain") is True,
    )


def _cache_creation(usage: dict[str, Json]) -> int:
    """Return the tokens written to the cache; some gateways give only the sum's parts."""
    written = count(usage.get("cache_creation_input_tokens"))
    parts = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    split = sum(count(member(usage, ("cache_creation", part))) for part in parts)
    return written or count(split)


def _hour_long(usage: dict[str, Json], written: int) -> int | None:
    """Return the tokens written to the cache for an hour; ``None``: that was not written down."""
    if not isinstance(usage.get("cache_creation"), dict):
        return None
    hour_long = _known_count(member(usage, ("cache_creation", "ephemeral_1h_input_tokens")))
    return min(hour_long or 0, written)


def _known_count(value: Json) -> int | None:
    """Return a count that only the price depends on; ``None``: it is missing or no count."""
    try:
        return None if value is None else count(value)
    except ValueError:
        return None


def _text(value: Json, longest: int = LONGEST_NAME) -> str | None:
    """Return text that can be stored; ``None``: there is none. Some gateways number what others name."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return text(str(value) if is_number else value, longest)


def _name(written: str) -> str:
    if 0 < len(written) <= LONGEST_NAME:
        return written
    raise ValueError("a name is missing or too long")


def moment_in(written: str) -> datetime:
    """Parse a time in a transcript.

    Raises:
        ValueError: it is none, or out of range.
    """
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        raise ValueError("a timestamp has no time zone")
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a timestamp is out of range") from None
