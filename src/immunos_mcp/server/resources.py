"""The resources: their listing, their content, and notifications of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mcp_types as mcp
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.errors import ImmunosError
from immunos_mcp.rules import settings
from immunos_mcp.server.uris import CONFIG_URI, SESSION_STATUS_TEMPLATE, STATUS_URI, session_of

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from immunos_mcp.router import Router
    from immunos_mcp.server.notifications import ChangesOf, StatusNotifier
    from immunos_mcp.server.tool_call import RouterOf

    Context = ServerRequestContext[Any, Any]

JSON = "application/json"
RESOURCES = [
    mcp.Resource(
        uri=STATUS_URI,
        name="status",
        title="Budget status",
        description="Status of the budget session.",
        mime_type=JSON,
    ),
    mcp.Resource(
        uri=CONFIG_URI,
        name="config",
        title="Settings",
        description="The current settings.",
        mime_type=JSON,
    ),
]
TEMPLATES = [
    mcp.ResourceTemplate(
        uri_template=SESSION_STATUS_TEMPLATE,
        name="session_status",
        title="Status of a named session",
        description="Status of a named budget session.",
        mime_type=JSON,
    )
]


class Resources:
    """The requests about resources, answered from the use cases of whoever asks."""

    def __init__(self, router_of: RouterOf, default_session: str, changes_of: ChangesOf) -> None:
        self._router_of = router_of
        self._default_session = default_session
        self._changes_of = changes_of
        self._streams: dict[StatusNotifier, ListenHandler] = {}

    async def list_resources(
        self, _context: Context, _params: mcp.PaginatedRequestParams | None
    ) -> mcp.ListResourcesResult:
        """List the two fixed resources."""
        return mcp.ListResourcesResult(resources=RESOURCES)

    async def list_templates(
        self, _context: Context, _params: mcp.PaginatedRequestParams | None
    ) -> mcp.ListResourceTemplatesResult:
        """List the template of a named session's status."""
        return mcp.ListResourceTemplatesResult(resource_templates=TEMPLATES)

    async def read(
        self, context: Context, params: mcp.ReadResourceRequestParams
    ) -> mcp.ReadResourceResult:
        """Read a resource as one line of JSON."""
        uri = str(params.uri)
        try:
            line = await self._read(self._router_of(context.request), uri)
        except ImmunosError as error:
            raise MCPError(mcp.INTERNAL_ERROR, str(error), {"uri": uri}) from None
        return mcp.ReadResourceResult(
            contents=[mcp.TextResourceContents(uri=uri, mime_type=JSON, text=line)]
        )

    async def _read(self, router: Router, uri: str) -> str:
        if uri == CONFIG_URI:
            return to_json(settings.values(await router.get_config()))
        name = session_of(uri, self._default_session)
        if name is None:
            raise _unknown(uri)
        return to_json(await router.get_session_status(name))

    async def subscribe(
        self, context: Context, params: mcp.SubscribeRequestParams
    ) -> mcp.EmptyResult:
        """Start notifying a client of the handshake era when a resource changes."""
        uri = str(params.uri)
        if uri != CONFIG_URI and session_of(uri, self._default_session) is None:
            raise _unknown(uri)
        await self._changes_of(context.request).subscribe_client(context.session, uri)
        return mcp.EmptyResult()

    async def unsubscribe(
        self, context: Context, params: mcp.UnsubscribeRequestParams
    ) -> mcp.EmptyResult:
        """Stop notifying a client of the handshake era."""
        self._changes_of(context.request).unsubscribe_client(context.session, str(params.uri))
        return mcp.EmptyResult()

    async def listen(
        self, context: Context, params: mcp.SubscriptionsListenRequestParams
    ) -> mcp.SubscriptionsListenResult:
        """Serve a stream of changes to a client of the newer era until it leaves."""
        changes = self._changes_of(context.request)
        serve_stream = self._streams.setdefault(changes, ListenHandler(changes))
        if not params.notifications.resource_subscriptions:
            # Lists never change here, and most clients listen for nothing else.
            return await serve_stream(context, params)
        async with changes.listening():
            return await serve_stream(context, params)

    def end_streams(self) -> None:
        """End all streams of changes, so that their clients know that this was meant."""
        for each in self._streams.values():
            each.close()


def _unknown(uri: str) -> MCPError:
    return MCPError(mcp.INVALID_PARAMS, f"Unknown resource: {uri[:200]!a}", {"uri": uri})
