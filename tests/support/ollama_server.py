"""A scripted engine on loopback that answers as real Ollama code was recorded to, or misbehaves.

A token is a word here. What the script has no part for is answered from the recordings themselves.
"""

from __future__ import annotations

import json
import select
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from llama_engine import LlamaEngine

RECORDINGS = Path(__file__).parent / "golden" / "ollama"
JSON = "application/json; charset=utf-8"
STAMP = "2026-11-23T00:59:33.030540891Z"
DIGEST = "31c8a22584b02f180c3eef3562a7a61ce442f4ac9909597e4f09da741ed77fba"


class Manner(StrEnum):
    """How the engine takes a request."""

    WELL = "well"
    HANGING = "hanging"
    BUSY = "busy"
    DYING = "dying"
    FAILING = "failing"
    ANOTHER_SERVICE = "another service"
    LOCKED = "locked"
    BROKEN = "broken"
    HUGE = "huge"
    OLD = "old"
    MUTE = "mute"
    STALLING = "stalling"


def recordings() -> dict[str, dict[str, Any]]:
    """Return every recorded answer by its name."""
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(RECORDINGS.glob("*.json"))
    }


@dataclass
class Script:
    """What the engine has and how it behaves; a test changes it at any time.

    Attributes:
        models: context length by name.
        loaded: names in memory.
        words: what a chat answers, word by word.
        words_of: what chats of other models answer, by the name they are asked by.
        manner: how requests are taken; chats alone for ``BUSY``, ``DYING``, ``FAILING``, ``OLD``
            (it cuts prompts and says nothing), ``MUTE`` (it never says a word) and ``STALLING`` (it stops
            after the first one).
        gate: where a chat waits after its first word until it is set.
        requests: every chat request that came.
        finished: tokens made by chats that came to their end.
        stopped: chats whose client went away.
        thinking: whether the first word of a chat is thought rather than said.
        contexts: the context that each model is loaded with, after its first chat.
        loads: contexts that models were loaded with, in order.
        reason: why chats end, if not by the words and the limit.
        pace: seconds from one word to the next.
        seconds: how long each chat took from its request to its end.
        llama: a real engine that counts and speaks in the script's place.
    """

    models: dict[str, int] = field(
        default_factory=lambda: {"qwen2.5-coder:7b": 4096, "tiny:latest": 4096}
    )
    loaded: tuple[str, ...] = ("qwen2.5-coder:7b",)
    words: tuple[str, ...] = ("T", " the", "error")
    words_of: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    manner: Manner = Manner.WELL
    gate: threading.Event | None = None
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    finished: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thinking: bool = False
    contexts: dict[str, int] = field(default_factory=dict[str, int])
    loads: list[int] = field(default_factory=list[int])
    reason: str | None = None
    pace: float = 0.0
    seconds: list[float] = field(default_factory=list[float])
    llama: LlamaEngine | None = None


@contextmanager
def scripted_ollama(script: Script) -> Generator[str]:
    """Run the engine in a thread; yield its address."""

    class Handler(_Handler):
        pass

    Handler.script = script
    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        if script.gate is not None:
            script.gate.set()
        script.manner = Manner.WELL
        server.shutdown()
        server.server_close()
        thread.join()


def words_of(text: str) -> int:
    """Return the tokens of a text."""
    return len(text.split())


def canonical(name: str) -> str:
    known = name.lower().removeprefix("registry.ollama.ai/library/")
    return known if ":" in known else f"{known}:latest"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:  # the base's
        """Say nothing: a client that goes away is part of the play."""


class _Handler(BaseHTTPRequestHandler):
    script: Script
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's names
        pass

    def do_GET(self) -> None:
        self._take(None)

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            request: Any = json.loads(body) if body else ""
        except ValueError:
            request = body.decode()
        self._take(request)

    def _take(self, given: Any) -> None:
        script = self.script
        request = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        if script.manner is Manner.HANGING:
            self._wait_for_the_client()
            return
        if script.manner is Manner.ANOTHER_SERVICE:
            self._answer(200, "<html>hello</html>", "text/html")
        elif script.manner is Manner.LOCKED:
            self._answer(401, '{"error":"unauthorized"}')
        elif script.manner is Manner.BROKEN:
            self._answer(200, '{"models": [')
        elif script.manner is Manner.HUGE:
            self._answer(200, '{"version": "' + "x" * 9 * 2**20 + '"}')
        elif (self.command, self.path) == ("GET", "/api/tags"):
            self._answer_with({"models": [self._listed(name) for name in script.models]})
        elif (self.command, self.path) == ("GET", "/api/ps"):
            loaded = [self._listed(name) for name in script.loaded]
            self._answer_with(
                {"models": [{**each, "expires_at": STAMP, "size_vram": 0} for each in loaded]}
            )
        elif self.path == "/api/show" and request:
            self._show(str(request.get("model", "")), request)
        elif self.path == "/api/chat" and request.get("messages"):
            self._chat(request)
        else:
            self._answer_as_recorded(given)

    def _listed(self, name: str) -> dict[str, Any]:
        details = {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "168K",
            "quantization_level": "F32",
        }
        listed: dict[str, Any] = {"name": name, "model": name, "size": 689785, "digest": DIGEST}
        if self.path == "/api/ps":
            return {
                **listed,
                "details": details,
                "context_length": self.script.contexts.get(
                    canonical(name), self.script.models.get(name, 4096)
                ),
            }
        return {
            **listed,
            "modified_at": STAMP,
            "details": {
                **details,
                "context_length": self.script.models[name],
                "embedding_length": 64,
            },
            "capabilities": ["completion"],
        }

    def _show(self, model: str, request: dict[str, Any]) -> None:
        known = {canonical(name): length for name, length in self.script.models.items()}
        if canonical(model) not in known:
            self._answer_as_recorded(request)
            return
        shown = json.loads(recordings()["show"]["body"])
        shown["model_info"]["llama.context_length"] = known[canonical(model)]
        self._answer_with(shown)

    def _chat(self, request: dict[str, Any]) -> None:
        script, asked_at = self.script, time.perf_counter()
        options: dict[str, Any] = request.get("options") or {}
        script.requests.append(request)
        model = str(request.get("model", ""))
        if model.endswith("cloud") or not model or "!" in model or request.get("tools"):
            self._answer_as_recorded(request)
        elif canonical(model) not in {canonical(name) for name in script.models}:
            self._answer_with({"error": f"model '{canonical(model)}' not found"}, 404)
        elif (
            not isinstance(options.get("num_ctx", 1), int)
            or request.get("format") == "xml"
            or request.get("think") not in {None, True, False}
        ):
            self._answer_as_recorded(request)
        elif request.get("think") is not None and not script.thinking:
            self._answer_with({"error": f'"{model}" does not support thinking'}, 400)
        elif script.manner is Manner.MUTE:
            self._wait_for_the_client()
        elif script.manner is Manner.BUSY:
            self._answer_with({"error": "server busy, please try again."}, 503)
        else:
            self._speak(model, request, options)
            script.seconds.append(time.perf_counter() - asked_at)

    def _speak(self, model: str, request: dict[str, Any], options: dict[str, Any]) -> None:
        script = self.script
        prompt = "\n".join(message["content"] for message in request["messages"])
        asked = words_of(prompt) if script.llama is None else script.llama.count(prompt)
        context = options.get("num_ctx", 4096)
        self._load(model, context)
        if asked > context and request.get("truncate") is False and script.manner is not Manner.OLD:
            words = f"request ({asked} tokens) exceeds the available context size ({context} tokens), try increasing it"
            inner = {
                "code": 400,
                "message": words,
                "type": "exceed_context_size_error",
                "n_prompt_tokens": asked,
                "n_ctx": context,
            }
            self._answer_with({"error": json.dumps({"error": inner}, separators=(",", ":"))}, 400)
            return
        limit = options.get("num_predict", -1)
        words = script.words_of.get(model, script.words)
        said = words if limit < 0 else words[:limit]
        if asked > context:
            asked = context // 2 + 2
        final = {
            "model": model,
            "created_at": STAMP,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": script.reason or "stop"
            if len(said) == len(words) and limit != len(said)
            else "length",
            "total_duration": 17636041,
            "load_duration": 2307015,
            "prompt_eval_count": asked,
            "prompt_eval_duration": 6035000,
            "eval_count": len(said),
            "eval_duration": 2102000,
        }
        if request.get("stream") is False:
            message = {"role": "assistant", "content": "".join(said)}
            script.finished.append((asked, len(said)))
            self._answer_with({**final, "message": message})
            return
        if script.llama is None:
            self._stream(model, said, final)
        else:
            self._stream(model, script.llama.words(prompt, limit), final)

    def _load(self, model: str, context: int) -> None:
        script, name = self.script, canonical(model)
        if script.contexts.get(name) != context:
            script.contexts[name] = context
            script.loads.append(context)
            script.loaded = (*dict.fromkeys((*script.loaded, model)),)

    def _stream(self, model: str, said: Iterable[str], final: dict[str, Any]) -> None:
        script = self.script
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        number = -1
        try:
            for number, word in enumerate(said):  # counted below
                message = {"role": "assistant", "content": word}
                if script.thinking and number == 0:
                    message = {"role": "assistant", "content": "", "thinking": word}
                self._chunk(
                    {"model": model, "created_at": STAMP, "message": message, "done": False}
                )
                if script.pace:
                    time.sleep(script.pace)
                if script.manner is Manner.DYING:
                    self.close_connection = True
                    self.connection.close()
                    return
                if script.manner is Manner.STALLING:
                    self._wait_for_the_client()
                    return
                if script.manner is Manner.FAILING:
                    self._chunk({"error": "the runner has crashed"})
                    self.wfile.write(b"0\r\n\r\n")
                    return
                if number == 0 and script.gate is not None and self._is_left_alone(script.gate):
                    script.stopped.release()
                    self.close_connection = True
                    return
            if script.llama is not None:
                final = {**final, "eval_count": number + 1, "done_reason": "length"}
            # Before it is said: who hears it looks here at once.
            script.finished.append((final["prompt_eval_count"], final["eval_count"]))
            self._chunk(final)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            script.stopped.release()
            self.close_connection = True

    def _is_left_alone(self, gate: threading.Event) -> bool:
        while not gate.wait(0.005):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1):
                return True
        return False

    def _wait_for_the_client(self) -> None:
        manner = self.script.manner
        while self.script.manner is manner:
            readable, _, _ = select.select([self.connection], [], [], 0.01)
            if readable and not self.connection.recv(1):
                break
        self.close_connection = True

    def _chunk(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _answer_as_recorded(self, request: Any) -> None:
        if (self.path, self.script.manner) == ("/api/version", Manner.OLD):
            self._answer_with({"version": "0.9.3"})
            return
        for recorded in recordings().values():
            if (recorded["method"], recorded["path"], recorded["request"]) == (
                self.command,
                self.path,
                request,
            ):
                self._answer(recorded["status"], recorded["body"], recorded["content_type"])
                return
        if self.path == "/api/show":
            model = canonical(str(request["model"]))
            self._answer_with({"error": f"model '{model}' not found"}, 404)
            return
        self._answer(404, "404 page not found", "text/plain")

    def _answer_with(self, entry: dict[str, Any], status: int = 200) -> None:
        self._answer(status, json.dumps(entry, separators=(",", ":")))

    def _answer(self, status: int, body: str, content_type: str = JSON) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
