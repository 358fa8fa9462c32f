"""What a tool's function gets with each call: the use cases, and the client that calls."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import anyio
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from immunos_mcp.domain import JoinKey, MeasuredAssistant
from immunos_mcp.rules.names import is_printable
from immunos_mcp.server.project_folders import root_folders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping
    from pathlib import Path

    from mcp.server.session import ServerSession

    from immunos_mcp.delegation.tasks import Delegations
    from immunos_mcp.router import Router
    from immunos_mcp.server.hooks import Hooks

UNKNOWN_CLIENT = "unknown MCP client"

CLAUDE_CODE_CALL = "claudecode/toolUseId"
CODEX_THREAD = "threadId"
CODEX = MeasuredAssistant.CODEX.value
LONGEST_NAME = 200

ROOTS_SECONDS = 2.0
"""How long a client may take to list the folders it works in."""


class HttpRequest(Protocol):
    """The HTTP request that a message came in."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, by name in any case."""
        ...

    @property
    def scope(self) -> MutableMapping[str, Any]:
        """What is known of it besides."""
        ...


RouterOf: TypeAlias = "Callable[[HttpRequest | None], Router]"
"""Returns the use cases for whoever sent a request; ``None``: the user of this process."""


class Services(NamedTuple):
    """What the tools of one server work with.

    Attributes:
        router_of: returns the use cases for whoever calls.
        hooks: answers the hooks of Claude Code; ``None``: none can call.
        delegations: the tasks delegated to local models; ``None``: none can be.
        allowed_paths: folders and files, besides a client's roots, that a delegated task may read.
        sleep: waits for some seconds.
    """

    router_of: RouterOf
    hooks: Hooks | None = None
    delegations: Delegations | None = None
    allowed_paths: tuple[Path, ...] = ()
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


class ToolCall(NamedTuple):
    """One call of a tool, as the tool's function sees it.

    Attributes:
        services: what the tools of this server work with.
        session: the client's side of the connection; ``None``: its own server passes the call on.
        meta: what the client sends with the call beside its arguments.
        request: the HTTP request that the call came in, if it did.
        passed_on_for: the client's name, where its own server passes the call on.
        follows: the decision that this one follows, where that server's models failed at the task.
        tried: the models that failed at it.
    """

    services: Services
    session: ServerSession | None
    meta: Mapping[str, object] = {}
    request: HttpRequest | None = None
    passed_on_for: str = ""
    follows: int | None = None
    tried: tuple[str, ...] = ()

    @property
    def router(self) -> Router:
        """The use cases, for whoever calls."""
        return self.services.router_of(self.request)

    @property
    def client(self) -> str:
        """The client's name and version, as it gives them."""
        name = self._given_name()[:100]
        return name if name.isprintable() and name else UNKNOWN_CLIENT

    def _given_name(self) -> str:
        if self.session is None:
            return self.passed_on_for
        params = self.session.client_params
        if params is not None:
            return f"{params.client_info.name} {params.client_info.version}".strip()
        # A request of the handshake era that stands alone has no handshake.
        agent = "" if self.request is None else self.request.headers.get("user-agent", "")
        return agent.partition(" ")[0].replace("/", " ", 1)

    @property
    def join_key(self) -> JoinKey:
        """What the client's logs will name whoever calls by.

        Claude Code names each of its calls, and writes them down with the conversation and the subagent;
        Codex names the thread.
        """
        call = self.meta.get(CLAUDE_CODE_CALL)
        thread = self.meta.get(CODEX_THREAD) if self.client.startswith(CODEX) else None
        return JoinKey(_name(call), _name(thread))

    async def roots(self) -> tuple[Path, ...]:
        """Return the folders that the client works in, which it is asked for."""
        if self.session is None:
            return ()
        params = self.session.client_params
        if params is None or params.capabilities.roots is None:
            return ()
        try:
            with anyio.fail_after(ROOTS_SECONDS), warnings.catch_warnings():
                warnings.simplefilter("ignore", MCPDeprecationWarning)
                listed = await self.session.list_roots()  # pyright: ignore[reportDeprecated]
        except (MCPError, TimeoutError):
            return ()
        return root_folders(str(root.uri) for root in listed.roots)

    async def report_progress(self, tokens: int, message: str) -> None:
        """Report the progress of the call to the client, if it wants to know."""
        if self.session is not None:
            await self.session.report_progress(float(tokens), None, message)


def _name(given: object) -> str | None:
    """Return a name that a client gave, if it can be one."""
    if not isinstance(given, str) or not 0 < len(given) <= LONGEST_NAME:
        return None
    return given if is_printable(given) else None
