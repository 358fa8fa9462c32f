"""Clients hear when a status or the settings changed, whoever changed them, in both eras.

That nothing is heard is shown by what is heard next: notifications come in order.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
import anyio.to_thread
import mcp_types as types
import pytest
import wire
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.subscriptions import ResourceUpdated

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.router import Router
from immunos_mcp.server import notifications
from immunos_mcp.server.app import build_server
from immunos_mcp.server.uris import session_status_uri

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp.client import Transport
    from mcp.client.session import IncomingMessage
    from mcp.server import Server

    Era = Literal["handshake", "2026-07-28"]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

STATUS, CONFIG = "immunos://status", "immunos://config"
DEFAULT, OTHER = session_status_uri("default"), session_status_uri("another")
TASK = {"task_type": "debug", "classification": "routine"}
HEARD_WITHIN_SECONDS = 10
USAGE = {"model": "claude-x", "input_tokens": 5, "output_tokens": 0}
ROUTE = ("route", "--task-type", "debug", "--classification", "routine")
RECORD = ("record", "--model", "claude-x", "--input", "5", "--output", "0")


class Ear(Protocol):
    """A client that is subscribed to some resources."""

    client: Client

    async def hear(self) -> str:
        """Return the URI of the next notification."""
        ...


class HandshakeEar:
    def __init__(self) -> None:
        self.client: Client
        self._send, self._receive = anyio.create_memory_object_stream[str](1000)

    async def take(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            self._send.send_nowait(str(message.params.uri))

    async def hear(self) -> str:
        with anyio.fail_after(HEARD_WITHIN_SECONDS):
            return await self._receive.receive()

    def close(self) -> None:
        self._send.close()
        self._receive.close()


class ListeningEar:
    def __init__(self, client: Client, subscription: Any) -> None:
        self.client = client
        self._subscription = subscription

    async def hear(self) -> str:
        with anyio.fail_after(HEARD_WITHIN_SECONDS):
            event = await anext(self._subscription)
        assert isinstance(event, ResourceUpdated)
        return event.uri


@asynccontextmanager
async def real_server(home: Path) -> AsyncGenerator[Transport]:
    """Start a server as a process, which must write nothing to its stderr."""
    program, *arguments = wire.PROGRAM
    server = StdioServerParameters(command=program, args=arguments, env=wire.environment(home))
    errors = home.parent / "stderr"
    with errors.open("a", encoding="utf-8") as log:
        yield stdio_client(server, log)
    assert errors.read_text(encoding="utf-8") == ""


@asynccontextmanager
async def server_here(home: Path) -> AsyncGenerator[Server[Any]]:
    """Run a server in this process."""
    async with (
        ThreadedSqliteLedger(wire.ledger_path(home)) as ledger,
        anyio.create_task_group() as tasks,
    ):
        server, background = build_server(Router(ledger, "default"), "default")
        tasks.start_soon(background)
        yield server
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def subscribed(
    home: Path,
    era: Era,
    *uris: str,
    start: Callable[[Path], AbstractAsyncContextManager[Transport | Server[Any]]] = server_here,
) -> AsyncGenerator[Ear]:
    """Connect a client to a server of its own and subscribe it."""
    options: dict[str, Any] = {"cache": None, "read_timeout_seconds": wire.TIMEOUT_SECONDS}
    async with start(home) as server:
        if era == "2026-07-28":
            async with (
                Client(server, mode=era, **options) as client,
                client.listen(resource_subscriptions=uris) as subscription,
            ):
                yield ListeningEar(client, subscription)
        else:
            ear = HandshakeEar()
            async with Client(server, mode="legacy", message_handler=ear.take, **options) as client:
                ear.client = client
                for uri in uris:
                    await client.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]
                yield ear
            ear.close()


@pytest.fixture(autouse=True)
def short_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "POLL_SECONDS", 0.05)


@pytest.fixture(params=["handshake", "2026-07-28"])
def era(request: pytest.FixtureRequest) -> Era:
    return request.param


async def call(client: Client, tool: str, **arguments: object) -> None:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content


async def run(home: Path, *arguments: str) -> None:
    done = await anyio.to_thread.run_sync(partial(wire.run, home, *arguments))
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_client_of_the_real_server_hears_of_its_own_and_of_others_changes(
    home: Path, era: Era
) -> None:
    async with subscribed(home, era, STATUS, start=real_server) as ear:
        await call(ear.client, "record_usage", **USAGE)
        assert await ear.hear() == STATUS
        await run(home, *RECORD)
        assert await ear.hear() == STATUS
        await call(ear.client, "update_config", session_limit=300_000)
        assert await ear.hear() == STATUS


async def test_a_client_hears_of_each_change_that_its_own_call_made(home: Path, era: Era) -> None:
    async with subscribed(home, era, STATUS) as ear:
        for tool, arguments in (
            ("route_task", TASK),
            ("record_usage", USAGE),
            ("record_usage", {**USAGE, "model": "m:1"}),
            ("reset_session", {}),
            ("update_config", {"session_limit": 300_000}),
            ("route_task", TASK),
        ):
            await call(ear.client, tool, **arguments)
            assert await ear.hear() == STATUS


async def test_a_client_hears_of_each_change_that_another_process_made(
    home: Path, era: Era
) -> None:
    async with subscribed(home, era, STATUS) as ear:
        for command in (ROUTE, RECORD, ("reset",), ("config", "set", "session_limit=300000")):
            await run(home, *command)
            assert await ear.hear() == STATUS


async def test_a_client_hears_of_changed_settings_from_wherever_and_not_of_the_rest(
    home: Path, era: Era
) -> None:
    async with subscribed(home, era, CONFIG, OTHER) as ear:
        await call(ear.client, "update_config", session_limit=300_000)
        assert await ear.hear() == CONFIG
        await run(home, *RECORD)
        await call(ear.client, "route_task", **TASK)
        await run(home, "config", "set", "session_limit=400000")
        assert await ear.hear() == CONFIG
        await call(ear.client, "record_usage", **USAGE, session="another")
        assert await ear.hear() == OTHER


async def test_a_client_does_not_hear_of_other_sessions(home: Path, era: Era) -> None:
    async with subscribed(home, era, STATUS) as ear:
        await call(ear.client, "record_usage", **USAGE, session="another")
        await run(home, *RECORD, "--session", "aardvark")
        await call(ear.client, "record_usage", **USAGE)
        assert await ear.hear() == STATUS
    async with subscribed(home, era, OTHER) as ear:
        await call(ear.client, "record_usage", **USAGE)
        await run(home, *RECORD)
        await run(home, *RECORD, "--session", "another")
        assert await ear.hear() == OTHER


async def test_a_session_is_heard_of_under_each_of_its_names(home: Path, era: Era) -> None:
    odd = session_status_uri("a/b größe")
    async with subscribed(home, era, STATUS, DEFAULT, odd) as ear:
        await call(ear.client, "record_usage", **USAGE)
        assert {await ear.hear(), await ear.hear()} == {STATUS, DEFAULT}
        await call(ear.client, "record_usage", **USAGE, session="a/b größe")
        assert await ear.hear() == odd


async def test_a_call_that_changes_nothing_is_not_heard(home: Path, era: Era) -> None:
    repeat = {**USAGE, "request_id": "r1"}
    async with subscribed(home, era, STATUS, CONFIG) as ear:
        await call(ear.client, "record_usage", **repeat)
        assert await ear.hear() == STATUS
        await call(ear.client, "record_usage", **repeat)
        await call(ear.client, "get_session_status")
        await call(ear.client, "update_config", session_limit=300_000, dry_run=True)
        await call(ear.client, "update_config", session_limit=200_000)
        assert (await ear.client.call_tool("route_task", {"task_type": ""})).is_error
        await run(home, "status")
        await call(ear.client, "update_config", session_limit=300_000)
        assert await ear.hear() == CONFIG
        assert await ear.hear() == STATUS


async def test_what_is_heard_of_can_be_read_at_once(home: Path, era: Era) -> None:
    async with subscribed(home, era, STATUS) as ear:
        for tokens in (5, 10, 15):
            await run(home, *RECORD)
            assert await ear.hear() == STATUS
            (content,) = (await ear.client.read_resource(STATUS)).contents
            assert isinstance(content, types.TextResourceContents)
            assert f'"session_tokens":{tokens},' in content.text


async def test_a_change_made_right_after_the_subscription_was_acknowledged_is_heard(
    home: Path, era: Era
) -> None:
    with InlineSqliteLedger(wire.ledger_path(home)) as ledger:
        router = Router(ledger, "default")
        run_sync(router.get_session_status())
        async with subscribed(home, era, STATUS) as ear:
            run_sync(router.record_usage("claude-x", 1, 0))
            assert await ear.hear() == STATUS


async def test_unsubscribing_stops_the_notifications_of_that_resource_alone(home: Path) -> None:
    async with subscribed(home, "handshake", STATUS, DEFAULT, CONFIG) as ear:
        await ear.client.unsubscribe_resource(STATUS)  # pyright: ignore[reportDeprecated]
        await call(ear.client, "record_usage", **USAGE)
        assert await ear.hear() == DEFAULT
        await ear.client.unsubscribe_resource(DEFAULT)  # pyright: ignore[reportDeprecated]
        await call(ear.client, "record_usage", **USAGE)
        await call(ear.client, "update_config", session_limit=300_000)
        assert await ear.hear() == CONFIG
        await ear.client.unsubscribe_resource(CONFIG)  # pyright: ignore[reportDeprecated]
        await call(ear.client, "update_config", session_limit=400_000)
        await ear.client.subscribe_resource(STATUS)  # pyright: ignore[reportDeprecated]
        await call(ear.client, "record_usage", **USAGE)
        assert await ear.hear() == STATUS


async def test_subscribing_twice_is_heard_once(home: Path) -> None:
    async with subscribed(home, "handshake", STATUS, STATUS, CONFIG) as ear:
        await call(ear.client, "record_usage", **USAGE)
        await call(ear.client, "update_config", session_limit=300_000)
        assert [await ear.hear() for _ in range(3)] == [STATUS, CONFIG, STATUS]


async def test_a_listening_client_that_stopped_listening_can_listen_again(home: Path) -> None:
    async with subscribed(home, "2026-07-28", STATUS) as ear:
        await call(ear.client, "record_usage", **USAGE)
        assert await ear.hear() == STATUS
        async with ear.client.listen(resource_subscriptions=[CONFIG]) as second:
            again = ListeningEar(ear.client, second)
            await call(ear.client, "update_config", session_limit=300_000)
            assert (await again.hear(), await ear.hear()) == (CONFIG, STATUS)
        await call(ear.client, "update_config", session_limit=400_000)
        assert await ear.hear() == STATUS
        async with ear.client.listen(resource_subscriptions=[STATUS]) as third:
            again = ListeningEar(ear.client, third)
            await run(home, *RECORD)
            assert (await again.hear(), await ear.hear()) == (STATUS, STATUS)


async def test_two_servers_tell_their_clients_of_each_other_s_changes(home: Path) -> None:
    async with (
        subscribed(home, "handshake", STATUS) as first,
        subscribed(home, "2026-07-28", STATUS) as second,
    ):
        await call(second.client, "get_session_status")
        for ear in (first, second, first):
            await call(ear.client, "record_usage", **USAGE)
            assert (await first.hear(), await second.hear()) == (STATUS, STATUS)


REFUSED = ("immunos://nothing", "immunos://sessions//status", "file:///etc/passwd")


@pytest.mark.parametrize("uri", REFUSED)
def test_an_unknown_resource_cannot_be_subscribed_to(
    subscribed_wire: Callable[[], wire.ServerProcess], uri: str
) -> None:
    server = subscribed_wire()
    error = server.request("resources/subscribe", {"uri": uri})["error"]
    assert error["code"] == -32602
    assert error["message"] == f"Unknown resource: '{uri}'"
    assert server.request("resources/unsubscribe", {"uri": uri})["result"] == {}


@pytest.fixture
def subscribed_wire(home: Path, request: pytest.FixtureRequest) -> Callable[[], wire.ServerProcess]:
    def start() -> wire.ServerProcess:
        server = wire.ServerProcess(home)
        request.addfinalizer(server.close)
        server.initialize()
        return server

    return start


def test_a_watching_server_lives_through_a_broken_ledger_and_tells_again_once_it_is_mended(
    home: Path, subscribed_wire: Callable[[], wire.ServerProcess]
) -> None:
    file = wire.ledger_path(home)
    file.mkdir(parents=True)
    server = subscribed_wire()
    error = server.request("resources/subscribe", {"uri": STATUS})["error"]
    assert error["message"].startswith(f"ledger {file} is a folder; choose a file with --db")
    file.rmdir()
    assert server.request("resources/subscribe", {"uri": STATUS})["result"] == {}
    wire.execute(file, "INSERT INTO settings VALUES ('session_limit', 'plenty', 'now')")
    deadline = time.monotonic() + wire.TIMEOUT_SECONDS
    while "cannot watch for changes" not in server.stderr():
        text = server.refusal("route_task", **TASK)
        assert text.startswith("invalid setting in the ledger: session_limit")
        assert time.monotonic() < deadline
    wire.execute(file, "DELETE FROM settings")
    server.answer("record_usage", **USAGE)
    while not server.heard:
        server.heard.append(server.receive())
    assert [message["params"]["uri"] for message in server.heard] == [STATUS]
    assert server.finish() == 0


def test_a_client_that_subscribed_to_nothing_hears_nothing(
    subscribed_wire: Callable[[], wire.ServerProcess],
) -> None:
    server = subscribed_wire()
    server.answer("route_task", **TASK)
    server.answer("update_config", session_limit=300_000)
    server.answer("reset_session")
    assert server.heard == []
    assert server.finish() == 0
    with pytest.raises(wire.ServerGoneError):
        server.receive()


async def test_nothing_is_read_for_a_client_that_listens_to_lists_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    original = Router.list_revisions

    async def counted(router: Router) -> object:
        asked.append(router)
        return await original(router)

    monkeypatch.setattr(Router, "list_revisions", counted)
    async with server_here(home) as server, Client(server, mode="2026-07-28", cache=None) as client:
        async with client.listen(tools_list_changed=True):
            await call(client, "record_usage", **USAGE)
        assert asked == []
        async with client.listen(resource_subscriptions=[STATUS]) as changes:
            await call(client, "record_usage", **USAGE)
            assert await ListeningEar(client, changes).hear() == STATUS
        assert asked
