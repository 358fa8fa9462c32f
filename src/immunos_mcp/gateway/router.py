"""The use cases where a team is joined: its server decides, and this ledger where that is away."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec
from msgspec.structs import replace

from immunos_mcp.answers.routing import RouteAnswer, RoutedTask
from immunos_mcp.answers.sessions import ResetAnswer
from immunos_mcp.answers.settings import ConfigAnswer
from immunos_mcp.answers.status import StatusAnswer
from immunos_mcp.answers.usage import RecordAnswer
from immunos_mcp.assistants.looks import Look
from immunos_mcp.domain import (
    UNJOINED,
    Classification,
    EnginesAllowed,
    HandoverChoice,
    Judge,
    Task,
)
from immunos_mcp.errors import ImmunosError, InvalidInputError, LedgerError, MaybeStoredError
from immunos_mcp.gateway import replies
from immunos_mcp.gateway.connection import NotAskedError, TeamAwayError
from immunos_mcp.gateway.requests import given, sent_engine, session_argument
from immunos_mcp.gateway_messages import PassedCall, label_of
from immunos_mcp.handover import Handover
from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.team_decisions import TeamDecision, team_decision_id
from immunos_mcp.outcomes import Outcomes
from immunos_mcp.project_settings import ProjectSettings
from immunos_mcp.router import Router
from immunos_mcp.rules import inputs, names, setting_changes
from immunos_mcp.rules.settings import MAPPINGS, ROWS, Settings, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from immunos_mcp.answers.usage import OutcomeAnswer
    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.domain import Engine, JoinKey, Outcome, TokenCounts
    from immunos_mcp.gateway.team import Team
    from immunos_mcp.gateway_messages import GatewayReply, PassedTool
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.rules.setting_kinds import SettingChangeValue

Answer = TypeVar("Answer", RouteAnswer, StatusAnswer, RecordAnswer, ResetAnswer, ConfigAnswer)

UNSPECIFIC = Look()

CHANGE_SECONDS = 5.0
"""How long a change at the team may take, which this ledger cannot make instead."""

_PERHAPS_CHANGED = "nothing was changed here, but perhaps at the team: look before you try again"


class TeamDecisionError(TeamAwayError):
    """The team's server answered something that this version cannot read."""


class GatewayRouter(Router):
    """The use cases of a ledger that has joined a team.

    What is routed, recorded and asked for is the team's; this ledger has all of it as well. Where the
    server is away, this ledger's own figures and settings decide, and answers say so. Sessions and
    settings of the team can then not be changed.
    """

    def __init__(
        self,
        team: Team,
        ledger: Ledger,
        default_session: str,
        clock: Callable[[], datetime] = utc_now,
        follower: Follower | None = None,
        engine: Callable[[], Engine] | None = None,
        opened_by_looks: str | None = None,
        folder: str | None = None,
        places: tuple[str, ...] = (),
    ) -> None:
        """Create the use cases; all but ``team`` is as for ``Router``."""
        super().__init__(
            ledger, default_session, clock, follower, engine, opened_by_looks, folder, places
        )
        self._team = team

    @cached_property
    def handover(self) -> Handover:
        """The use cases of tasks that a local model does."""
        return _TeamHandover(self._team, self._ledger, self._default_session, self._clock)

    @cached_property
    def outcomes(self) -> Outcomes:
        """The use cases of how routed tasks turned out."""
        return _TeamOutcomes(self._team, self._ledger, self._clock)

    @cached_property
    def project_settings(self) -> ProjectSettings:
        """The use cases of settings that hold in one project folder and below."""
        return _TeamProjectSettings(
            self._team, self._ledger, self._default_session, self._clock, self._places
        )

    async def decide_task(
        self,
        task_type: str,
        classification: str,
        estimated_tokens: int | None = None,
        session: str | None = None,
        *,
        explain: bool = False,
        client: str = "",
        key: JoinKey = UNJOINED,
        follows: int | None = None,
        tried: tuple[str, ...] = (),
        places: tuple[str, ...] = (),
    ) -> RoutedTask:
        """Let the team's server decide, and log its decision; where it is away, decide here."""
        name = self._session_name(session)
        asked = Task(
            names.normalise_task_type(task_type),
            inputs.member(Classification, "classification", classification),
            inputs.tokens("estimated_tokens", estimated_tokens),
            follows=follows,
            tried=tried,
        )
        await self._begin(name)
        followed = None
        if follows is not None:
            followed = await self._ledger.read(team_decision_id, follows)
        arguments: dict[str, object] = {
            "task_type": task_type,
            "classification": str(classification),
            "estimated_tokens": estimated_tokens,
            "explain": explain or None,
        }
        call = self._call("route_task", arguments, name, client)
        joined = {"call_id": key.call, "thread": key.thread, "follows": followed, "tried": tried}
        call = replace(call, **joined, wants_settings=True)

        is_offline = None
        # What follows a decision that was made here is decided here.
        if follows is None or followed is not None:
            try:
                by_team = await self._decided_by_team(call, asked, name, key)
            except TeamAwayError:
                is_offline = True
            else:
                if by_team is not None:
                    return by_team
        routed = await super().decide_task(
            task_type, classification, estimated_tokens, session, explain=explain, client=client,
            key=key, follows=follows, tried=tried, places=places,
        )  # fmt: skip
        return replace(routed, answer=replace(routed.answer, offline=is_offline))

    async def _decided_by_team(
        self, call: PassedCall, asked: Task, name: str, key: JoinKey
    ) -> RoutedTask | None:
        """Let the team's server decide a task, and log that; ``None``: it makes no decision."""

        def decided(reply: GatewayReply) -> TeamDecision | None:
            logged = reply.logged
            if logged is None:
                return None
            # What cannot be answered is not logged either.
            answer = _read(reply, RouteAnswer)
            try:
                task = replies.meant_task(asked, logged, answer)
            except InvalidInputError as error:
                raise _unreadable(error) from None
            return TeamDecision(name, task, logged.decision, logged.decision_id, key, self._folder)

        answered = await self._team.ask(call, decided)
        if answered is None or answered.logged is None:
            return None
        answer = _read(answered.reply, RouteAnswer)
        own = replace(answer, decision_id=answered.logged.decision_id)
        return RoutedTask(own, answered.logged, is_by_team=True)

    async def record_usage(
        self,
        model: str | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_creation_input_tokens: int | None = None,
        cache_read_input_tokens: int | None = None,
        decision_id: int | None = None,
        outcome: str | None = None,
        request_id: str | None = None,
        session: str | None = None,
        client: str = "",
        seconds: float | None = None,
        judge: Judge = Judge.ASSISTANT,
    ) -> RecordAnswer:
        """Record usage here and at the team, which is told later if its server is away."""
        own = await super().record_usage(
            model, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
            decision_id, outcome, request_id, session, client, seconds, judge,
        )  # fmt: skip
        try:
            told = await self._team.tell_reports(client)
            if told is not None and told.answer is not None:
                return replace(
                    _read(told, RecordAnswer), repeated=own.repeated, counted=own.counted
                )
            status = await self._team_status(session)
        except TeamAwayError:
            return replace(own, offline=True)
        if status is None:
            return own
        return replace(
            own,
            session_tokens=status.session_tokens,
            kept_local_tokens=status.kept_local_tokens,
            warning_level=status.warning_level,
        )

    async def get_session_status(
        self, session: str | None = None, look: Look = UNSPECIFIC
    ) -> StatusAnswer:
        """Return the status of the team's session, or this ledger's where its server is away."""
        own = await super().get_session_status(session, look)
        try:
            team = await self._team_status(session)
        except TeamAwayError:
            return replace(own, offline=True)
        if team is None:
            return own
        return replace(
            team,
            ollama=own.ollama,
            gates=own.gates,
            project_settings=own.project_settings,
            unread_lines=own.unread_lines,
            unread_files=own.unread_files,
            not_counting=own.not_counting,
        )

    async def reset_session(
        self, reason: str | None = None, session: str | None = None
    ) -> ResetAnswer:
        """Close the team's open session, if the person may, and this ledger's with it."""
        name = self._session_name(session)
        checked_reason = None if reason is None else names.check_reason(reason)
        await self.catch_up()
        call = self._call("reset_session", {"reason": checked_reason}, name)
        theirs = await self._changed(call, ResetAnswer)
        try:
            own = await super().reset_session(reason, session)
        except LedgerError as error:
            if theirs is None:
                raise
            raise MaybeStoredError(
                f"{error}; the team's session was reset, yours was not"
            ) from None
        return own if theirs is None else theirs

    async def update_config(
        self,
        changes: Mapping[str, SettingChangeValue],
        client: str,
        dry_run: bool = False,
        session: str | None = None,
    ) -> ConfigAnswer:
        """Change the team's settings, if the person may."""
        arguments: dict[str, object] = {**changes, "dry_run": dry_run or None}
        call = self._call("update_config", arguments, self._session_name(session), client)
        theirs = await self._changed(call, ConfigAnswer)
        if theirs is None:
            return await super().update_config(changes, client, dry_run, session)
        return theirs

    async def get_config(self) -> Settings:
        """Return the team's settings, or this ledger's where its server is away."""
        own = await super().get_config()
        call = replace(self._call("update_config", {}, "default"), wants_settings=True)
        try:
            answered = await self._team.ask(call)
            if answered is None or answered.reply.settings is None:
                return own
            theirs = team_settings(answered.reply.settings)
        except ImmunosError as error:
            self.whose_settings = f"the settings of your own ledger, since {error}"
            return own
        self.whose_settings = _settings_of(answered.reply)
        return theirs

    async def unset_config(self, settings: tuple[str, ...], client: str) -> ConfigAnswer:
        """Return settings of the team to their defaults, if the person may."""
        prefix = f"{MAPPINGS}."
        unmapped = {name.removeprefix(prefix): None for name in settings if name.startswith(prefix)}
        wanted = [
            setting_changes.full_name(name) for name in settings if not name.startswith(prefix)
        ]
        changes: dict[str, SettingChangeValue] = {name: values(Settings())[name] for name in wanted}
        if unmapped:
            changes[MAPPINGS] = unmapped
        return await self.update_config(changes, client)

    async def _team_status(self, session: str | None) -> StatusAnswer | None:
        """Return the status of the team's session; ``None``: no team is joined any more."""
        call = self._call("get_session_status", {}, self._session_name(session))
        answered = await self._team.ask(call)
        return None if answered is None else _read(answered.reply, StatusAnswer)

    async def _changed(self, call: PassedCall, kind: type[Answer]) -> Answer | None:
        """Let the team's server change something; return its answer, ``None``: no team is joined any more.

        Raises:
            TeamAwayError: there is no answer, and nothing may be changed, or only there.
            MaybeStoredError: it has answered, but this ledger cannot be used.
        """
        try:
            answered = await self._team.ask(call, seconds=CHANGE_SECONDS)
            if answered is None:
                return None
            self.whose_settings = _settings_of(answered.reply)
            return _read(answered.reply, kind)
        except NotAskedError:
            raise
        except TeamAwayError as error:
            raise TeamAwayError(f"{error}; {_PERHAPS_CHANGED}") from None
        except LedgerError as error:
            raise MaybeStoredError(f"{error}; {_PERHAPS_CHANGED}") from None

    def _call(
        self, tool: PassedTool, arguments: dict[str, object], name: str, client: str = ""
    ) -> PassedCall:
        engine = None if self._engine is None else self._engine()
        named = given({**arguments, "session": session_argument(name)})
        label = label_of(self._folder or next(iter(self._places), None))
        return PassedCall(tool, named, client, sent_engine(engine), label)


class _TeamHandover(Handover):
    """Decisions whose task a local model does, which the team is told of."""

    def __init__(
        self, team: Team, ledger: Ledger, default_session: str, clock: Callable[[], datetime]
    ) -> None:
        super().__init__(ledger, default_session, clock)
        self._team = team

    async def record(
        self,
        model: str,
        counts: TokenCounts,
        decision_id: int,
        outcome: Outcome | None,
        session: str | None = None,
        seconds: float | None = None,
        judge: Judge | None = None,
        *,
        in_file: bool = False,
        request_id: str | None = None,
    ) -> int:
        """Record the usage and outcome of a task here and at the team."""
        kept_local = await super().record(
            model, counts, decision_id, outcome, session, seconds, judge,
            in_file=in_file, request_id=request_id,
        )  # fmt: skip
        await _tell(self._team)
        return kept_local


class _TeamOutcomes(Outcomes):
    """How routed tasks turned out, which the team is told."""

    def __init__(self, team: Team, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        super().__init__(ledger, clock)
        self._team = team

    async def close(
        self,
        decision_id: int,
        outcome: str,
        seconds: float | None = None,
        judge: Judge = Judge.USER,
    ) -> OutcomeAnswer:
        """Record here and at the team whether a routed task succeeded."""
        answer = await super().close(decision_id, outcome, seconds, judge)
        with suppress(TeamAwayError):
            await self._team.tell_reports()
        return answer


class _TeamProjectSettings(ProjectSettings):
    """Settings of project folders, which may be stricter than the team's but not laxer."""

    def __init__(
        self,
        team: Team,
        ledger: Ledger,
        default_session: str,
        clock: Callable[[], datetime],
        places: tuple[str, ...],
    ) -> None:
        super().__init__(ledger, default_session, clock, places)
        self._team = team

    async def here(self, session: str | None = None, *places: str) -> Settings:
        """Return the settings that hold for a call, with the stricter of what may be handed over where."""
        return with_team_settings(await super().here(session, *places), self._team.settings)


_TEAMS = (
    "claude_model",
    "default_local_model",
    "ladder",
    "session_limit",
    "task_mappings",
    "task_synonyms",
    "token_auto_switch_threshold",
    "token_warning_threshold",
)
"""Settings that the team's decisions follow, so that what follows a decision agrees with it."""


def team_settings(sent: Mapping[str, object]) -> Settings:
    """Return the settings that a server sent, as far as this version knows them.

    Raises:
        InvalidInputError: one has a value that this version does not know.
    """
    known = {name: value for name, value in sent.items() if name in ROWS}
    # Mappings are added to those that there are.
    bare = replace(Settings(), task_mappings=MappingProxyType({}))
    return setting_changes.apply(bare, cast("dict[str, SettingChangeValue]", known))


def with_team_settings(own: Settings, team: Mapping[str, object]) -> Settings:
    """Return settings with the team's, and the stricter of both on what may be handed over where.

    ``team`` has the values that its server sent; it is empty where it sent none.
    """
    # They hold even if there is something else that this version does not know.
    if team.get("handover") == HandoverChoice.NEVER:
        own = replace(own, handover=HandoverChoice.NEVER)
    if team.get("engines_allowed") == EnginesAllowed.THIS_MACHINE:
        own = replace(own, engines_allowed=EnginesAllowed.THIS_MACHINE)
    if not team:
        return own
    try:
        theirs = team_settings(team)
    except InvalidInputError:
        return own
    return replace(own, **{name: getattr(theirs, name) for name in _TEAMS})


async def _tell(team: Team) -> None:
    """Tell the team what waits; if that fails, it is told later."""
    try:
        await team.ask()
    except ImmunosError:
        return


def _read(reply: GatewayReply, kind: type[Answer]) -> Answer:
    try:
        return msgspec.convert(reply.answer, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _unreadable(error) from None


def _settings_of(reply: GatewayReply) -> str:
    return f"the settings of team {reply.team}"


def _unreadable(error: Exception) -> TeamDecisionError:
    return TeamDecisionError(
        f"the team's server answers what this version cannot read ({error}); upgrade the older of the"
        " two"
    )
