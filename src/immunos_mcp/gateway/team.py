"""The joined team as the use cases see it: each request takes along what the team does not have yet."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import anyio
from msgspec.structs import replace

from immunos_mcp.errors import ImmunosError, LedgerError, NotAllowedError
from immunos_mcp.gateway import requests
from immunos_mcp.gateway.connection import NotAskedError, NotUnderstoodError, TeamAwayError
from immunos_mcp.gateway.membership import read_token
from immunos_mcp.gateway_messages import MOST_RESPONSES, VERSION, GatewayRequest
from immunos_mcp.ledger.joined_team import joined_team, note_contact, waiting_for_team
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.team_decisions import store_team_answer
from immunos_mcp.ledger.unpushed import unpushed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from immunos_mcp.answers.history import LoggedDecision
    from immunos_mcp.gateway.connection import TeamServer
    from immunos_mcp.gateway_messages import GatewayReply, PassedCall
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.ledger.joined_team import JoinedTeam
    from immunos_mcp.ledger.team_decisions import TeamDecision
    from immunos_mcp.ledger.unpushed import Change, Unpushed

    Connect = Callable[[str, str], TeamServer]

logger = logging.getLogger(__name__)

CALL_SECONDS = 0.5
"""How long a decision may take; then this ledger decides."""

PUSH_SECONDS = 30.0
"""How long a request may take that nobody waits for."""

RETRY = timedelta(seconds=30)
"""How long a server that did not answer is not asked again."""

MOST_WITH_A_CALL = 500
"""Responses that a call takes along; more of them would take too much of its time."""

PUSH_EVERY_SECONDS = 60.0
"""How often usage is pushed while nobody calls."""


class CallRefusedError(ImmunosError):
    """The team's server refused a call; the text is its."""


class Answered(NamedTuple):
    """What the team's server answered.

    Attributes:
        reply: the answer.
        logged: the decision as it is logged here, if one was made.
        is_last: whether the server has all usage now.
    """

    reply: GatewayReply
    logged: LoggedDecision | None
    is_last: bool


def _none(_reply: GatewayReply) -> TeamDecision | None:
    return None


class Team:
    """The team that a ledger has joined, if it has."""

    def __init__(
        self,
        ledger: Ledger,
        token_file: Path,
        connect: Connect,
        assistants: Callable[[], tuple[str, ...]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Ask the team's server for this ledger.

        Args:
            ledger: this ledger.
            token_file: has the token.
            connect: returns the server at an address, for a token.
            assistants: returns the assistants whose logs are read.
            clock: the time, aware.
        """
        self._ledger = ledger
        self._token_file = token_file
        self._connect = connect
        self._assistants = assistants
        self._clock = clock
        self._server: tuple[tuple[str, str], TeamServer] | None = None
        self.settings: dict[str, object] = {}

    async def ask(
        self,
        call: PassedCall | None = None,
        decided: Callable[[GatewayReply], TeamDecision | None] = _none,
        *,
        seconds: float = CALL_SECONDS,
        most: int = MOST_WITH_A_CALL,
    ) -> Answered | None:
        """Send a call with usage that the team does not have; return the answer, ``None``: none is joined.

        Reports that wait are told first, so that the answer has them.

        Args:
            call: the call; ``None``: only usage is sent.
            decided: returns the decision in a reply, which is logged.
            seconds: how long it may take.
            most: how much usage is sent at most.

        Raises:
            TeamAwayError: there is no answer in time, or was none a moment ago.
            CallRefusedError: the server refuses the call; the usage has arrived.
            NotAllowedError: the token is not good.
        """
        part = await self._ledger.read(unpushed, most)
        if part is not None and part.report is not None and call is not None:
            await self._tell_waiting()
            part = await self._ledger.read(unpushed, most)
        if part is None:
            return None
        try:
            return await self._exchange(part, call, decided, (), seconds)
        except NotUnderstoodError as error:
            if not error.is_too_large or len(part.changes) < 2:
                raise
        fewer = min(most, len(part.changes)) // 2
        return await self.ask(call, decided, seconds=seconds, most=fewer)

    async def _tell_waiting(self) -> None:
        """Tell the team some of what clients reported while its server was away, if it answers now."""
        try:
            await self.tell_reports(seconds=CALL_SECONDS)
        except (TeamAwayError, LedgerError):
            # Whoever called asks for something else, and learns whether the server is away.
            return
        except CallRefusedError as error:
            _log_refusal(error)

    async def tell_reports(
        self, client: str = "", *, seconds: float = CALL_SECONDS
    ) -> GatewayReply | None:
        """Tell the team what clients reported, oldest first; return its answer to the newest.

        What the server refuses is only kept here. ``None``: there was nothing to tell. Each report may take
        so many seconds, and after them no more is begun.

        Raises:
            TeamAwayError: not all could be told in time.
            CallRefusedError: the server refused some of it.
            NotAllowedError: the token is not good.
        """
        newest: GatewayReply | None = None
        refusal: CallRefusedError | None = None
        end = time.monotonic() + seconds
        while (part := await self._ledger.read(unpushed, MOST_WITH_A_CALL)) is not None:
            if part.report is None:
                break
            if time.monotonic() >= end:
                raise TeamAwayError(f"{part.team.url} has not been told everything yet")
            call, changes = requests.report_call(part.report, client), part.report.changes
            try:
                newest = (await self._exchange(part, call, _none, changes, seconds)).reply
            except CallRefusedError as error:
                refusal = CallRefusedError(f"{error}; it is recorded in your own ledger only")
        if refusal is not None:
            raise refusal
        return newest

    async def push_all(self) -> int | None:
        """Send all that the team does not have; return how much was new there, ``None``: none is joined.

        Raises as ``ask``.
        """
        new = 0
        while True:
            answered = await self.ask(seconds=PUSH_SECONDS, most=MOST_RESPONSES)
            if answered is None:
                return None
            new += answered.reply.new
            if answered.is_last:
                break
        try:
            await self.tell_reports(seconds=PUSH_SECONDS)
        except CallRefusedError as error:
            _log_refusal(error)
        return new

    async def end(self) -> None:
        """Tell the team's server that this ledger sends no more; raises as ``ask``."""
        team = await self._ledger.read(joined_team)
        if team is not None:
            await self._reply(team, GatewayRequest(VERSION, leaves=True), CALL_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        if self._server is not None:
            await self._server[1].close()

    async def push_regularly(self) -> None:
        """Push what nobody's call takes along, until cancelled."""
        while True:
            await anyio.sleep(PUSH_EVERY_SECONDS)
            try:
                waiting = await self._ledger.read(waiting_for_team)
                if waiting is not None and waiting.rows:
                    await self.push_all()
            except ImmunosError as error:
                logger.warning("usage waits for the team's server: %s", error)

    async def _exchange(
        self,
        part: Unpushed,
        call: PassedCall | None,
        decided: Callable[[GatewayReply], TeamDecision | None],
        reported: Sequence[Change],
        seconds: float,
    ) -> Answered:
        self._check_rest(part.team)
        usage = requests.pushed_usage(
            part.usage, sends_labels=part.team.sends_labels, is_last=part.is_last
        )
        if call is not None and not part.team.sends_labels:
            call = replace(call, label=None)
        request = GatewayRequest(
            VERSION,
            assistants=self._assistants(),
            usage=usage,
            handed_over=tuple(map(requests.handed_over, part.handed_over)),
            call=call,
        )
        try:
            reply = await self._reply(part.team, request, seconds)
        except NotUnderstoodError as error:
            if not error.is_too_large:
                # Waiting does not help.
                logger.warning("%s", error)
                await self._note_failure()
            raise
        except TeamAwayError:
            await self._note_failure()
            raise
        made, now, told = decided(reply), self._clock(), (*part.changes, *reported)
        if made is None and call is not None and not reported:
            logged = None
            await self._note_answer(now, told)
        else:
            logged = await self._ledger.write(store_team_answer, now, told, made)
        for request_id, words in reply.refused.items():
            logger.warning("the team's server refused task %s: %s", request_id, words)
        if reply.settings is not None:
            self.settings = reply.settings
        if reply.error is not None:
            raise CallRefusedError(reply.error)
        return Answered(reply, logged, part.is_last)

    def _check_rest(self, team: JoinedTeam) -> None:
        if team.failed_at is None:
            return
        passed = self._clock() - team.failed_at
        if timedelta(0) <= passed < RETRY:
            at = f"{team.failed_at.astimezone():%H:%M:%S}"
            raise NotAskedError(f"{team.url} did not answer at {at}; it is asked again soon")

    async def _reply(
        self, team: JoinedTeam, request: GatewayRequest, seconds: float
    ) -> GatewayReply:
        server = self._server_of(team)
        try:
            return await server.ask(requests.encoded(request), seconds)
        except NotUnderstoodError as error:
            taken = requests.understood(request)
            if error.is_too_large or taken == request:
                raise
            logger.warning("some usage is not sent: %s", error)
            return await server.ask(requests.encoded(taken), seconds)

    def _server_of(self, team: JoinedTeam) -> TeamServer:
        token = read_token(self._token_file)
        if token is None:
            raise NotAllowedError(
                f"the token for {team.url} is missing; run `immunos-mcp join {team.url}` again"
            )
        known = (team.url, token)
        if self._server is None or self._server[0] != known:
            self._server = (known, self._connect(*known))
        return self._server[1]

    async def _note_answer(self, now: datetime, told: Sequence[Change]) -> None:
        """Store what the team has now, which a look at its figures does not depend on: else it is sent again."""
        try:
            await self._ledger.write_soon(store_team_answer, now, told)
        except LedgerError as error:
            logger.warning("what was sent to the team's server is sent again: %s", error)

    async def _note_failure(self) -> None:
        try:
            await self._ledger.write_soon(note_contact, self._clock(), is_reached=False)
        except LedgerError as error:
            logger.warning("cannot note that the team's server is away: %s", error)


def _log_refusal(error: CallRefusedError) -> None:
    logger.warning("the team's server refused a report: %s", error)
