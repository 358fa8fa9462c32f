"""The report as a live page for browsers, behind a login with a token."""

from __future__ import annotations

import html
import logging
from collections import defaultdict
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs

import anyio
import anyio.to_thread
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from immunos_mcp.errors import ImmunosError
from immunos_mcp.http.access import COOKIE, person_of
from immunos_mcp.http.guards import refusal
from immunos_mcp.rules.roles import sees_everybody

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request

    from immunos_mcp.http.access import Verifier
    from immunos_mcp.http.options import HttpOptions
    from immunos_mcp.http.teams import Team
    from immunos_mcp.rules.roles import Person

    View = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger(__name__)

REPORT, SCRIPT, EVENTS, LOGIN, LOGOUT = "/report", "/live.js", "/events", "/login", "/logout"
PEOPLE = "/people.csv"

PING_SECONDS = 15.0
"""How often a stream says that it is still there, so that no proxy closes it."""

PAUSE_SECONDS = 2.0
"""How long a stream is silent at least after it told of a change."""

FRESH_SECONDS = 10.0
"""How long a page is shown again, whose windows of budgets end without a change."""

MOST_STREAMS = 200

MOST_KEPT = 50
"""Pages of a team that are kept: one for each reader who may see only some figures, one for all others."""

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


class _Drawn(NamedTuple):
    """A page as it was drawn: of which ledger, and when."""

    since: datetime | None
    mark: tuple[int, ...]
    at: float
    page: str = ""


_NEVER_DRAWN = _Drawn(None, (), float("-inf"))


class _TeamPages:
    """What is shown of one team, and who looks at it."""

    def __init__(self) -> None:
        self.drawing = anyio.Lock()
        self.last_drawn: dict[Person | None, _Drawn] = {}
        self.streams: set[anyio.Event] = set()


class Pages:
    """What browsers ask for."""

    def __init__(
        self, options: HttpOptions, team_of: Callable[[Request], Team], verifier: Verifier
    ) -> None:
        """Serve pages.

        Args:
            options: what the run was told.
            team_of: returns the team of whoever asks.
            verifier: finds out who holds a token.
        """
        self._options = options
        self._team_of = team_of
        self._verifier = verifier
        self._is_ending = False
        self._pages: defaultdict[str, _TeamPages] = defaultdict(_TeamPages)

    def for_people(self, view: View) -> View:
        """Return a view that asks those to log in who hold no token."""

        async def guarded(request: Request) -> Response:
            if self._options.needs_tokens and not isinstance(
                request.scope.get("user"), AuthenticatedUser
            ):
                return _login_page(HTTPStatus.UNAUTHORIZED)
            return await view(request)

        return guarded

    async def home(self, _request: Request) -> Response:
        """Lead to the report."""
        return RedirectResponse(REPORT, HTTPStatus.SEE_OTHER, _HEADERS)

    async def report(self, request: Request) -> Response:
        """Return the report as a page, of all time or since a date."""
        return await _since(request, self._page)

    async def people(self, request: Request) -> Response:
        """Return who used what on which day as CSV, of all time or since a date."""
        return await _since(request, self._table)

    async def _page(self, request: Request, since: datetime | None) -> Response:
        shown = await self._shown(self._team_of(request), _reader(request), since)
        return HTMLResponse(shown, headers=_HEADERS)

    async def _table(self, request: Request, since: datetime | None) -> Response:
        from immunos_mcp.reports import prices

        known = await anyio.to_thread.run_sync(prices.list_prices, datetime.now(UTC))
        archive = self._team_of(request).archive.as_read_by(_reader(request))
        table = await archive.usage_of_people(since, known)
        headers = {**_HEADERS, "content-disposition": 'attachment; filename="people.csv"'}
        return Response(table, media_type="text/csv", headers=headers)

    async def _shown(self, team: Team, reader: Person | None, since: datetime | None) -> str:
        """Return the page, drawn once for all of a team who may see the same, while the ledger stays as it is."""
        pages = self._pages[team.name]
        async with pages.drawing:
            drawn = _Drawn(since, await team.archive.change_mark(), anyio.current_time())
            last = pages.last_drawn.get(reader, _NEVER_DRAWN)
            if (drawn.since, drawn.mark) != (last.since, last.mark) or (
                drawn.at - last.at >= FRESH_SECONDS
            ):
                last = drawn._replace(page=await self._drawn(team, reader, since))
                if len(pages.last_drawn) >= MOST_KEPT:
                    pages.last_drawn.clear()
                pages.last_drawn[reader] = last
            return last.page

    async def _drawn(self, team: Team, reader: Person | None, since: datetime | None) -> str:
        from immunos_mcp.reports import prices
        from immunos_mcp.reports.page.document import Live, page

        status = await team.router_for(reader).get_session_status()
        known = await anyio.to_thread.run_sync(prices.list_prices, datetime.now(UTC))
        answer = await team.archive.as_read_by(reader).report(since, known)
        # In a thread, since drawing takes as long as many calls of tools.
        return await anyio.to_thread.run_sync(
            page, answer, Live(status, self._options.needs_tokens)
        )

    async def script(self, _request: Request) -> Response:
        """Return the script that keeps the page up to date."""
        text = (files("immunos_mcp.http") / "live.js").read_text(encoding="utf-8")
        headers = {**_HEADERS, "cache-control": "no-cache"}
        return Response(text, media_type="text/javascript", headers=headers)

    async def events(self, request: Request) -> Response:
        """Tell of changes for as long as the page is open."""
        team = self._team_of(request)
        if len(self._pages[team.name].streams) >= MOST_STREAMS or self._is_ending:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open")
        headers = {**_HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(self._told(team), media_type="text/event-stream", headers=headers)

    async def _told(self, team: Team) -> AsyncGenerator[str]:
        streams = self._pages[team.name].streams
        something = anyio.Event()

        def wake(_event: object) -> None:
            something.set()

        streams.add(something)
        unsubscribe = team.changes.subscribe(wake)
        try:
            async with team.changes.listening():
                yield ": listening\n\n"
                while not self._is_ending:
                    with anyio.move_on_after(PING_SECONDS):
                        await something.wait()
                    if not something.is_set():
                        yield ": still here\n\n"
                        continue
                    streams.discard(something)
                    something = anyio.Event()
                    streams.add(something)
                    yield "event: change\ndata:\n\n"
                    await anyio.sleep(PAUSE_SECONDS)
        finally:
            unsubscribe()
            streams.discard(something)

    def end_streams(self) -> None:
        """End all streams, so that nobody waits for them when the server ends."""
        self._is_ending = True
        for pages in self._pages.values():
            for each in pages.streams:
                each.set()

    async def login_form(self, _request: Request) -> Response:
        """Return the form that asks for a token."""
        return _login_page(HTTPStatus.OK)

    async def login(self, request: Request) -> Response:
        """Keep a token in a cookie, which scripts cannot read, and show the report."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        token = form.get("token", [""])[0].strip()
        if await self._verifier.verify_token(token) is None:
            return _login_page(HTTPStatus.UNAUTHORIZED, "This token is not good, or not any more.")
        answer = RedirectResponse(REPORT, HTTPStatus.SEE_OTHER, _HEADERS)
        is_secure = request.url.scheme == "https" or self._options.is_behind_proxy
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=is_secure)
        return answer

    async def logout(self, _request: Request) -> Response:
        """Forget the token."""
        answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER, _HEADERS)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


def _reader(request: Request) -> Person | None:
    """Return who asks, if that is somebody who may not see everybody's figures."""
    person = person_of(request)
    return None if sees_everybody(person) else person


async def _since(
    request: Request, answer: Callable[[Request, datetime | None], Awaitable[Response]]
) -> Response:
    """Return an answer of all time, or since the date that a request names."""
    try:
        since = _moment(request.query_params.get("since"))
    except (ValueError, OverflowError):
        words = "since: must be a date or time, such as 2026-11-01 or 2026-11-01T09:00+01:00"
        return refusal(HTTPStatus.BAD_REQUEST, words)
    try:
        return await answer(request, since)
    except ImmunosError as error:
        # Its text may name the ledger's place.
        logger.error("no report: %s", error)  # noqa: TRY400  # no bug
        words = "the ledger cannot be used; the log and `immunos-mcp doctor` say why"
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, words)


def _moment(text: str | None) -> datetime | None:
    return None if not text else datetime.fromisoformat(text).astimezone(UTC)


def _login_page(status: HTTPStatus, words: str = "") -> Response:
    from immunos_mcp.reports.page.document import hash_of_style, style_sheet

    said = f'<p id="said" class="level critical" role="alert">{html.escape(words)}</p>'
    shown = _LOGIN.format(
        hashed=hash_of_style(),
        style=style_sheet(),
        said=said if words else "",
        described=' aria-describedby="said" aria-invalid="true"' if words else "",
    )
    return HTMLResponse(shown, status, _HEADERS)


_LOGIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{hashed}'; \
base-uri 'none'; form-action 'self'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="referrer" content="same-origin">
<title>immunos-mcp: log in</title><style>{style}</style></head>
<body><main class="card"><h1>Token report</h1>{said}
<form method="post" action="login">
<p><label for="token">Your token, as <code>immunos-mcp token create</code> printed it</label></p>
<p><input id="token" name="token" type="password" autocomplete="current-password" required autofocus\
{described}></p>
<p><button type="submit">Log in</button></p>
</form></main></body></html>
"""
