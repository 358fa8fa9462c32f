"""Claude's API on loopback with a scripted model, and the real Claude Code client in front of it.

The script is a generator: it yields calls of tools, and gets their results as the model sees them.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

JsonObject: TypeAlias = "dict[str, Any]"
CLIENT_SECONDS = 3_600
USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 1_000,
    "cache_read_input_tokens": 20_000,
    "output_tokens": 60,
}


class Call(NamedTuple):
    """A call of one of the server's tools."""

    tool: str
    arguments: JsonObject


Play: TypeAlias = "Generator[list[Call], list[JsonObject], None]"


@contextmanager
def scripted_claude(play: Play) -> Generator[str]:
    """Serve the API in a thread; yield its address."""

    class Handler(_Handler):
        pass

    Handler.play = play
    Handler.lock = threading.Lock()
    Handler.has_begun = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_client(
    program: str, home: Path, project: Path, api: str, server: JsonObject
) -> subprocess.CompletedProcess[str]:
    """Run Claude Code once, without a screen, with one MCP server and in a clean environment."""
    variables: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": api,
        "ANTHROPIC_API_KEY": "none",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    servers = json.dumps({"mcpServers": {"immunos": server}})
    return subprocess.run(
        (program, "-p", "Go.", "--mcp-config", servers, "--allowedTools", "mcp__immunos"),
        cwd=project,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=CLIENT_SECONDS,
        check=False,
    )


class _Handler(BaseHTTPRequestHandler):
    play: Play
    lock: threading.Lock
    has_begun: bool
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's names
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.partition("?")[0].endswith("/v1/messages"):
            self._answer({"input_tokens": 1})
            return
        blocks = self._blocks(request)
        message = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": blocks,
            "stop_reason": "tool_use" if blocks[0]["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
        if request.get("stream"):
            self._stream(message)
        else:
            self._answer(message)

    def _blocks(self, request: JsonObject) -> list[JsonObject]:
        calls: list[Call] = []
        if request.get("tools"):
            with self.lock:
                calls = self._next(list(_results(request)))
        uses = [
            {
                "type": "tool_use",
                "id": f"toolu_{uuid4().hex}",
                "name": f"mcp__immunos__{call.tool}",
                "input": call.arguments,
            }
            for call in calls
        ]
        return uses or [{"type": "text", "text": "Done."}]

    def _next(self, results: list[JsonObject]) -> list[Call]:
        kind = type(self)
        try:
            if kind.has_begun:
                return self.play.send(results)
            kind.has_begun = True
            return next(self.play)
        except StopIteration:
            return []

    def _stream(self, message: JsonObject) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._event("message_start", message={**message, "content": [], "stop_reason": None})
        for index, block in enumerate(message["content"]):
            empty, delta = _in_pieces(block)
            self._event("content_block_start", index=index, content_block=empty)
            self._event("content_block_delta", index=index, delta=delta)
            self._event("content_block_stop", index=index)
        stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        self._event("message_delta", delta=stop, usage=USAGE)
        self._event("message_stop")

    def _event(self, kind: str, **content: object) -> None:
        line = json.dumps({"type": kind, **content})
        self.wfile.write(f"event: {kind}\ndata: {line}\n\n".encode())

    def _answer(self, answer: JsonObject) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _in_pieces(block: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Return a block as it begins, and what comes after that."""
    if block["type"] == "text":
        return {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
    said = json.dumps(block["input"])
    return {**block, "input": {}}, {"type": "input_json_delta", "partial_json": said}


def _results(request: JsonObject) -> Iterator[JsonObject]:
    """Yield what the last message says of the calls of tools, each as JSON."""
    messages: list[JsonObject] = request["messages"]
    content: Any = next(each["content"] for each in reversed(messages) if each["role"] == "user")
    if isinstance(content, str):
        return
    blocks: list[JsonObject] = content
    for block in blocks:
        if block.get("type") == "tool_result":
            text = _text(block["content"])
            yield json.loads(text) if text.startswith("{") else {"error": text}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts: list[JsonObject] = content
    return "".join(part.get("text", "") for part in parts)
