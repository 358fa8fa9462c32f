"""What developers' own servers send: usage to be stored, and calls that are passed on."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace
from starlette.responses import Response

from immunos_mcp import gateway_messages as messages
from immunos_mcp.answers.encoding import to_object, to_plain
from immunos_mcp.errors import ImmunosError, InvalidInputError, LedgerError
from immunos_mcp.faults import report_bug
from immunos_mcp.http.guards import refusal
from immunos_mcp.http.observing import PASSED_ON, Called
from immunos_mcp.ledger.engines import engine_of
from immunos_mcp.receiving import Receiver, record_handed_over
from immunos_mcp.rules import settings
from immunos_mcp.rules.roles import Role
from immunos_mcp.server.tool_call import CLAUDE_CODE_CALL, CODEX_THREAD, Services, ToolCall
from immunos_mcp.server.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from immunos_mcp.domain import Engine
    from immunos_mcp.gateway_messages import GatewayReply, GatewayRequest, PassedCall
    from immunos_mcp.router import Router
    from immunos_mcp.rules.roles import Person
    from immunos_mcp.server.notifications import ChangesOf
    from immunos_mcp.server.tool_call import HttpRequest

logger = logging.getLogger(__name__)

RETRY_SECONDS = "1"
"""When to send again what could not be stored."""

_TOOLS = {tool.name: tool for tool in TOOLS}


class Desk(NamedTuple):
    """What one person's gateway works with.

    Attributes:
        team: the name of the person's team.
        person: whose gateway it is; ``None``: the server asks for no tokens.
        receiver: stores what is pushed.
        router_at: returns the use cases for calls from a project, with the developer's engines.
    """

    team: str
    person: Person | None
    receiver: Receiver
    router_at: Callable[[Engine | None, str | None], Router]


class Gateway:
    """Answers the gateways of developers."""

    def __init__(self, desk_of: Callable[[Request], Desk], changes_of: ChangesOf) -> None:
        """Answer gateways.

        Args:
            desk_of: returns what the gateway of whoever sent a request works with.
            changes_of: returns what tells of changes, for whoever may have made some.
        """
        self._desk_of = desk_of
        self._changes_of = changes_of

    async def identify(self, request: Request) -> Response:
        """Say whose token it is."""
        desk = self._desk_of(request)
        person, role = _shown(desk)
        return _json(messages.GatewayIdentity(desk.team, person, role, messages.VERSION))

    async def receive(self, request: Request) -> Response:
        """Store usage, and answer a call."""
        try:
            message = messages.read_request(await request.body())
        except InvalidInputError as error:
            return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        try:
            reply = await self._answer(self._desk_of(request), message)
        except LedgerError as error:
            return unavailable(error)
        self._changes_of(request).changed_here()
        if message.call is not None:
            called = Called(PASSED_ON, message.call.tool, failed=reply.error is not None)
            request.scope["state"]["called"] = called
        return _json(reply)

    async def _answer(self, desk: Desk, message: GatewayRequest) -> GatewayReply:
        reply = messages.GatewayReply(desk.team, *_shown(desk))
        if message.leaves:
            await desk.receiver.end()
        if message.usage is not None:
            new = await desk.receiver.store(message.usage, message.assistants)
            reply = replace(reply, new=new)
        if message.handed_over:
            handover = desk.router_at(None, None).handover
            refused = await record_handed_over(handover, message.handed_over)
            reply = replace(reply, refused=refused)
        return reply if message.call is None else await _called(desk, message.call, reply)


def unavailable(error: LedgerError) -> Response:
    """Return the answer to what cannot be stored now."""
    # Its text names the ledger's place, which is nothing for everybody.
    logger.error("usage cannot be stored: %s", error)
    words = "the ledger cannot be used; the log and `immunos-mcp doctor` say why"
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, words, retry_after=RETRY_SECONDS)


async def _called(desk: Desk, passed: PassedCall, reply: GatewayReply) -> GatewayReply:
    """Call a tool as a client would; errors are the answer: the caller's in their own words, all others as bugs."""
    router = desk.router_at(_engine(passed), passed.label)

    def router_of(_request: HttpRequest | None) -> Router:
        return router

    call = ToolCall(
        Services(router_of),
        None,
        {CLAUDE_CODE_CALL: passed.call_id, CODEX_THREAD: passed.thread},
        passed_on_for=passed.client,
        follows=passed.follows,
        tried=passed.tried,
    )
    try:
        answered = await _TOOLS[passed.tool].reply(call, passed.arguments)
        in_force = settings.values(await router.get_config()) if passed.wants_settings else None
    except LedgerError:
        raise
    except ImmunosError as error:
        return replace(reply, error=str(error))
    except Exception as error:  # noqa: BLE001  # the boundary of tool calls
        return replace(reply, error=report_bug(passed.tool, error))
    return replace(
        reply,
        answer=None if answered.answer is None else to_object(answered.answer),
        text=answered.text,
        logged=answered.logged,
        settings=None if in_force is None else to_plain(in_force),
    )


def _engine(passed: PassedCall) -> Engine | None:
    return (
        None if passed.engine is None else engine_of(json.dumps(msgspec.to_builtins(passed.engine)))
    )


def _shown(desk: Desk) -> tuple[str | None, Any]:
    if desk.person is None:
        return None, Role.ADMIN.value
    return desk.person.name, desk.person.role.value


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
