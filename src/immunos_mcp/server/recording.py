"""Records what the SDK answers to a client's opening.

``python -m immunos_mcp.server.recording`` writes the answers that this package brings along; where
another version of the SDK is installed, a server records that one's answers once.
"""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp_types as mcp
from mcp.shared.message import SessionMessage
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from immunos_mcp.delegation.tasks import Delegations
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.several import Engines
from immunos_mcp.engines.watch import EngineWatch
from immunos_mcp.ledger.connections.threaded import ThreadedSqliteLedger
from immunos_mcp.router import Router
from immunos_mcp.server.app import build_server
from immunos_mcp.server.opening import (
    LISTEN,
    LISTS,
    RECORDED_FILE,
    STATELESS_VERSION,
    cache_file,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from mcp.server.lowlevel import Server

    from immunos_mcp.server.opening import JsonObject, RecordedAnswers

LISTENED_TO = ("toolsListChanged", "promptsListChanged", "resourcesListChanged")
CLIENT = {"name": "recording", "version": "1"}
ENVELOPE: JsonObject = {
    "io.modelcontextprotocol/protocolVersion": STATELESS_VERSION,
    "io.modelcontextprotocol/clientInfo": {**CLIENT},
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def record() -> JsonObject:
    """Return the answers of the installed SDK, in the form that ``opening`` reads."""
    recorded: dict[str, Any] = {"sdk": version("mcp")}
    results: list[JsonObject] = []
    for name, delegate in (("delegate", True), ("no delegate", False)):
        async with listing_server(delegate=delegate) as server:
            answers = await answers_of(server)
        recorded[name] = {
            protocol: {method: _place(result, results) for method, result in methods.items()}
            for protocol, methods in answers.items()
        }
    return {**recorded, "results": [*results]}


def _place(result: JsonObject, results: list[JsonObject]) -> int:
    """Return where a result stands in a list, which it joins unless it is there."""
    if result not in results:
        results.append(result)
    return results.index(result)


async def record_for_next_start() -> None:
    """Keep the answers of an SDK that this package brings none of, in the user's cache folder."""
    file = anyio.Path(cache_file(version("mcp"), os.environ))
    text = _encoded(await record())
    try:
        await file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        await draft.write_text(text, encoding="utf-8")
        await draft.replace(file)
    except OSError:
        # Without them the next start is as slow as this one was.
        return


@asynccontextmanager
async def listing_server(*, delegate: bool) -> AsyncGenerator[Server[dict[str, Any]]]:
    """Build a server to be asked what there is, on a ledger that goes with it."""
    with TemporaryDirectory() as folder:
        async with ThreadedSqliteLedger(Path(folder, "ledger.db")) as ledger:
            router = Router(ledger, "default")
            engines = Engines(Ollama(address("")))
            delegations = Delegations(router, engines, EngineWatch(engines)) if delegate else None
            yield build_server(router, "default", delegations).server


async def answers_of(server: Server[dict[str, Any]]) -> RecordedAnswers:
    """Return what a server answers to each opening; what it answers with an error is left out."""
    openings: dict[str, dict[str, Mapping[str, object]]] = {
        protocol: {
            "initialize": {"protocolVersion": protocol, "capabilities": {}, "clientInfo": CLIENT},
            **{method: {} for method in LISTS},
        }
        for protocol in HANDSHAKE_PROTOCOL_VERSIONS
    }
    openings[STATELESS_VERSION] = {
        method: {"_meta": ENVELOPE} for method in ("server/discover", *LISTS)
    }
    answers: dict[str, dict[str, JsonObject]] = {}
    for protocol, requests in openings.items():
        answered = await results_of(server, [*requests.items()])
        answers[protocol] = {
            method: result
            for method, result in zip(requests, answered, strict=True)
            if result is not None
        }
    everything = {"_meta": ENVELOPE, "notifications": dict.fromkeys(LISTENED_TO, True)}
    (acknowledged,) = await results_of(server, [(LISTEN, everything)])
    assert acknowledged is not None
    answers[STATELESS_VERSION][LISTEN] = cast("JsonObject", acknowledged["notifications"])
    return answers


async def results_of(
    server: Server[dict[str, Any]], requests: Sequence[tuple[str, Mapping[str, object]]]
) -> list[JsonObject | None]:
    """Put requests to a server, one after the other, on a connection of their own.

    Returns:
        The result of each as it is on the wire; ``None`` for one that was answered with an error;
        the parameters of the acknowledgement for one that begins to listen.
    """
    to_server, server_reads = anyio.create_memory_object_stream[SessionMessage | Exception](1)
    server_writes, from_server = anyio.create_memory_object_stream[SessionMessage](1)
    answered: list[JsonObject | None] = []
    async with anyio.create_task_group() as tasks:
        options = server.create_initialization_options()
        tasks.start_soon(server.run, server_reads, server_writes, options)
        async with to_server, from_server:
            for number, (method, params) in enumerate(requests):
                request = mcp.JSONRPCRequest(
                    jsonrpc="2.0", id=number, method=method, params=cast("Any", params)
                )
                await to_server.send(SessionMessage(request))
                answer = (await from_server.receive()).message
                dumped = json.loads(answer.model_dump_json(by_alias=True, exclude_unset=True))
                answered.append(dumped.get("result", dumped.get("params")))
            to_server.close()
            # Whatever ends with the connection, such as listening, is still answered.
            async for _ in from_server:
                pass
    return answered


def _encoded(recorded: JsonObject) -> str:
    """Encode a recording with a line for each result, so that changes can be reviewed."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in recorded.items()
        if name != "results"
    ]
    results = ",\n".join(
        json.dumps(result, ensure_ascii=False)
        for result in cast("list[JsonObject]", recorded["results"])
    )
    return '{{\n{},\n"results": [\n{}\n]\n}}\n'.format(",\n".join(lines), results)


if __name__ == "__main__":
    RECORDED_FILE.write_text(_encoded(anyio.run(record)), encoding="utf-8")
