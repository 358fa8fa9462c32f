"""The use cases as one person may use them, where several people share a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from immunos_mcp.ledger.moments import utc_now
from immunos_mcp.ledger.people import Deed, audited
from immunos_mcp.ledger.pushing import Reporter
from immunos_mcp.router import Router
from immunos_mcp.rules import roles
from immunos_mcp.rules.budgets import assistant_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from immunos_mcp.answers.sessions import ResetAnswer
    from immunos_mcp.answers.settings import ConfigAnswer
    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.domain import Engine
    from immunos_mcp.ledger.connections.ledger import Ledger, Writing
    from immunos_mcp.ledger.dialect import Connection
    from immunos_mcp.rules.roles import Person
    from immunos_mcp.rules.setting_kinds import SettingChangeValue

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LONGEST_DETAIL = 500
"""Of what the audit tells, in characters."""


class PersonsRouter(Router):
    """The use cases of a ledger, for one person.

    Raises ``NotAllowedError`` for what the person's role does not allow. What changes others' budgets goes
    into the audit, in the transaction that does it.
    """

    def __init__(
        self,
        person: Person,
        ledger: Ledger,
        default_session: str,
        clock: Callable[[], datetime] = utc_now,
        follower: Follower | None = None,
        engine: Callable[[], Engine] | None = None,
        folder: str | None = None,
    ) -> None:
        """Create the use cases of a ledger for a person; the rest is as for ``Router``."""
        places = () if folder is None else (folder,)
        super().__init__(
            ledger, default_session, clock, follower, engine, folder=folder, places=places
        )
        self._person = person

    async def reset_session(
        self, reason: str | None = None, session: str | None = None
    ) -> ResetAnswer:
        """Close the open session, if the person may, and open the next one."""
        name = self._session_name(session)
        roles.require_reset(self._person, name, self._default_session)
        return await super().reset_session(reason, session)

    async def update_config(
        self,
        changes: Mapping[str, SettingChangeValue],
        client: str,
        dry_run: bool = False,
        session: str | None = None,
    ) -> ConfigAnswer:
        """Change settings, if the person may; everybody may ask what a change would do."""
        if not dry_run and changes:
            roles.require_settings_change(self._person)
        who = f"{client} ({self._person.name})"
        return await super().update_config(changes, who, dry_run, session)

    def _reporter(self, client: str) -> Reporter | None:
        assistant = assistant_named(client)
        return None if assistant is None else Reporter(self._person.person_id, assistant)

    def _writing(self, action: str, detail: str) -> Writing:
        """Return what runs an operation and notes it in the audit."""
        deed = Deed(self._clock(), action, detail[:LONGEST_DETAIL], self._person.person_id)

        async def write(
            operation: Callable[Concatenate[Connection, Parameters], Result],
            /,
            *arguments: Parameters.args,
            **named: Parameters.kwargs,
        ) -> Result:
            return await self._ledger.write(audited, deed, operation, *arguments, **named)

        return write
