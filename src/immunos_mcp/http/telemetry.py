"""Claude Code's telemetry, sent to the team's server: requests that are in no log.

The exporter takes the header with the token as it is written, so a space is a space and not ``%20``.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from immunos_mcp.assistants.claude_code.telemetry import (
    UNREADABLE,
    acknowledged,
    is_readable,
    read_export,
)
from immunos_mcp.errors import LedgerError
from immunos_mcp.http.gateway import unavailable

if TYPE_CHECKING:
    from starlette.requests import Request

    from immunos_mcp.http.teams import Teams

LOGS, METRICS, TRACES = "/v1/logs", "/v1/metrics", "/v1/traces"


class Telemetry:
    """Answers exporters of OpenTelemetry."""

    def __init__(self, teams: Teams) -> None:
        """Store what is exported for whoever sends it."""
        self._teams = teams

    async def receive(self, request: Request) -> Response:
        """Store the requests of an export."""
        headers = request.headers
        if not is_readable(headers.get("content-type", ""), headers.get("content-encoding", "")):
            return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, UNREADABLE)
        try:
            export = read_export(await request.body())
        except ValueError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, f"not OTLP logs in JSON: {error}")
        if export.requests:
            try:
                await self._teams.desk_of(request).receiver.store_requests(export.requests)
            except LedgerError as error:
                return unavailable(error)
            self._teams.changes_of(request).changed_here()
        return JSONResponse(acknowledged(export))

    async def ignore(self, _request: Request) -> Response:
        """Acknowledge what the same setting of a client sends besides."""
        return JSONResponse({})


def _refusal(status: HTTPStatus, words: str) -> Response:
    # The form in which OTLP has errors.
    return JSONResponse({"message": words}, status)
