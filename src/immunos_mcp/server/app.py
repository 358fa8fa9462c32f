"""The MCP server: everything it serves put together, for both eras of the protocol.

Built on the SDK's low-level ``Server``: it serves both eras, lets this server reject unknown
arguments and write its own errors, and has the subscriptions of the handshake era.
"""

from __future__ import annotations

import base64
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import mcp_types as mcp
from mcp.server.lowlevel import Server

from immunos_mcp import __version__
from immunos_mcp.assistants.claude_code.transcripts import transcript_follower
from immunos_mcp.delegation.tasks import Delegations
from immunos_mcp.engines.several import chosen_engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.faults import end_at_once, keep_running, report_bug
from immunos_mcp.ledger.connections.opening import threaded_ledger
from immunos_mcp.options import team_token_file, working_folders
from immunos_mcp.router import Router
from immunos_mcp.server import prompts
from immunos_mcp.server.hooks import Hooks
from immunos_mcp.server.notifications import StatusNotifier
from immunos_mcp.server.project_folders import project_folders
from immunos_mcp.server.resources import Resources
from immunos_mcp.server.tool_call import Services
from immunos_mcp.server.tools import Tools
from immunos_mcp.server.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from immunos_mcp.assistants.follower import Follower
    from immunos_mcp.gateway.team import Team
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.options import Address, Options
    from immunos_mcp.server.notifications import ChangesOf
    from immunos_mcp.server.standard_streams import StandardInput, StandardOutput
    from immunos_mcp.server.tool_call import HttpRequest, RouterOf

NAME = "immunos"
TITLE = "immunos: token budget router"
DESCRIPTION = "Decides which tasks stay with Claude and which go to local Ollama models."

INSTRUCTIONS = """\
Token budget router. For substantial work on text or files (review, summary, code) call \
delegate_task with the files in paths: one call decides, runs the local model and records. \
Provider "claude" or a failure: do it yourself or as told. Without it, or for other \
substantial work, call route_task and obey; "ollama" is the named local model. Skip both for short \
replies or what one shell command answers. Once you have judged a result, report decision_id and outcome with \
record_usage; your own token counts only if exact and not reported by your client. At \
warning_level critical keep replies short. Call reset_session or update_config only when \
asked."""

_ICON_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="none" stroke="#d97757"'
    ' stroke-width="2" d="M2 8h5l5-5m-5 5l5 5"/></svg>'
)
ICON = mcp.Icon(
    src="data:image/svg+xml;base64," + base64.b64encode(_ICON_SVG.encode()).decode(),
    mime_type="image/svg+xml",
    sizes=["any"],
)


class BuiltServer(NamedTuple):
    """A server, and what has to run beside it.

    Attributes:
        server: the SDK's server, which answers requests.
        run_background: runs until it is cancelled.
    """

    server: Server[dict[str, Any]]
    run_background: Callable[[], Coroutine[Any, Any, None]]


def build_server(
    router: Router,
    default_session: str,
    delegations: Delegations | None = None,
    allowed_paths: tuple[Path, ...] = (),
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    gateway: Router | None = None,
) -> BuiltServer:
    """Build the server around a router.

    Args:
        router: the use cases.
        default_session: the session of calls that name none.
        delegations: the tasks delegated to local models; ``None``: no tool for that.
        allowed_paths: folders and files, besides a client's roots, that delegated tasks may read.
        sleep: waits for some seconds.
        gateway: the use cases that calls are for, where a team is joined; hooks do not wait for its server.
    """
    notifier = StatusNotifier(router.list_revisions, default_session)
    hooks = Hooks(router, notifier.changed_here, sleep)

    def router_of(_request: HttpRequest | None) -> Router:
        return gateway or router

    services = Services(router_of, hooks, delegations, allowed_paths, sleep)

    def changes_of(_request: HttpRequest | None) -> StatusNotifier:
        return notifier

    tools = Tools(services, changes_of)
    resources = Resources(router_of, default_session, changes_of)
    server = _server(
        tools,
        resources,
        on_list_prompts=None if delegations is None else prompts.list_prompts,
        on_get_prompt=None if delegations is None else prompts.get_prompt,
        on_subscribe_resource=resources.subscribe,
        on_unsubscribe_resource=resources.unsubscribe,
    )

    async def run_background() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_running, "changes", notifier.run)
            tasks.start_soon(keep_running, "turns", hooks.catch_up_after_turns)
            tasks.start_soon(keep_running, "texts of hooks", hooks.record_texts)
            if delegations is not None:
                tasks.start_soon(keep_running, "delegated tasks", delegations.run)

    return BuiltServer(server, run_background)


class BuiltHttpServer(NamedTuple):
    """A server whose clients are elsewhere.

    Attributes:
        server: the SDK's server, which answers requests.
        end_streams: tells those who listen for changes that the server ends.
    """

    server: Server[dict[str, Any]]
    end_streams: Callable[[], None]


def build_http_server(
    router_of: RouterOf,
    changes_of: ChangesOf,
    default_session: str,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> BuiltHttpServer:
    """Build a server for clients that may be elsewhere, each of whose requests stands alone.

    It has nothing that needs a client's files, and clients of the handshake era cannot subscribe,
    since nothing could be delivered to them.

    Args:
        router_of: returns the use cases for whoever calls.
        changes_of: returns what tells of the changes that concern whoever calls; it runs elsewhere.
        default_session: the session of calls that name none.
        sleep: waits for some seconds.
    """
    tools = Tools(Services(router_of, sleep=sleep), changes_of)
    resources = Resources(router_of, default_session, changes_of)
    server = _server(tools, resources, get_tool_input_schema=_no_repeated_arguments)
    return BuiltHttpServer(server, resources.end_streams)


def _no_repeated_arguments(_tool: str) -> None:
    """Say that no argument is to be repeated in a header; else the SDK would list the tools at each call."""


def _server(tools: Tools, resources: Resources, **more: Any) -> Server[dict[str, Any]]:
    server: Server[dict[str, Any]] = Server(
        NAME,
        version=__version__,
        title=TITLE,
        description=DESCRIPTION,
        instructions=INSTRUCTIONS,
        icons=[ICON],
        on_list_tools=tools.list_tools,
        on_call_tool=tools.call_tool,
        on_list_resources=resources.list_resources,
        on_list_resource_templates=resources.list_templates,
        on_read_resource=resources.read,
        on_subscriptions_listen=resources.listen,
        **more,
    )
    # The SDK traces every message by default, which costs more than a decision does.
    server.middleware.clear()
    return server


async def serve_stdio(
    options: Options, source: StandardInput, output: StandardOutput, *, is_recorded: bool
) -> None:
    """Serve one client over standard input and output until it closes the input.

    Args:
        options: what the run was told.
        source: the client's messages, which are being read already.
        output: where answers go.
        is_recorded: whether the answers to an opening are known without the SDK.
    """
    async with threaded_ledger(options.database) as ledger, chosen_engines(options) as engines:
        watch = EngineWatch(engines)
        follower = transcript_follower(ledger, options)

        def routes(kind: Callable[..., Router]) -> Router:
            return kind(
                ledger,
                options.session,
                follower=follower,
                engine=watch.current if options.ollama_check else None,
                folder=next(map(str, project_folders(os.environ)), None),
                places=working_folders(os.environ),
            )

        router = gateway = routes(Router)
        team = _joined_team(options, ledger, follower)
        if team is not None:
            from immunos_mcp.gateway.router import GatewayRouter

            gateway = routes(partial(GatewayRouter, team))
        delegations = Delegations(gateway, engines, watch) if options.delegate else None
        server, run_background = build_server(
            router,
            options.session,
            delegations,
            (*project_folders(os.environ), *options.allowed_paths),
            gateway=gateway,
        )
        wire = Wire(source, output)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_background)
            if team is not None:
                tasks.start_soon(keep_running, "usage for the team", team.push_regularly)
            if options.ollama_check:
                probing = partial(watch.run, wire.has_sent)
                tasks.start_soon(keep_running, "probe of Ollama", probing)
            if options.telemetry is not None:
                receiving = partial(_receive_telemetry, options.telemetry, router)
                tasks.start_soon(keep_running, "telemetry", receiving)
            if not is_recorded:
                recording = partial(_record_opening, wire.has_sent)
                tasks.start_soon(keep_running, "recording", recording)
            try:
                await wire.serve(server)
            except Exception as error:  # noqa: BLE001  # nobody is left to answer requests
                end_at_once(report_bug("server", error))
            tasks.cancel_scope.cancel()
        if team is not None:
            await team.close()


def _joined_team(options: Options, ledger: Ledger, follower: Follower | None) -> Team | None:
    token_file = team_token_file(options.database)
    if token_file is None:
        return None
    # Few have joined a team.
    from immunos_mcp.gateway.opening import lasting_team

    return lasting_team(ledger, token_file, follower)


async def _receive_telemetry(address: Address, router: Router) -> None:
    from immunos_mcp.assistants.claude_code import telemetry

    await telemetry.serve(address, router.record_requests)


async def _record_opening(begin: anyio.Event) -> None:
    await begin.wait()
    from immunos_mcp.server import recording

    await recording.record_for_next_start()
