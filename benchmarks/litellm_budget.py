"""The same work sent through LiteLLM's proxy with a budget, for ``reservations.py``.

As its documentation has it for one proxy: the budget of a provider, kept by the proxy itself. Behind it is an
upstream on this machine that answers each call at once after a moment and counts what it was asked for.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

START_SECONDS = 300.0
UPSTREAM_SECONDS = 0.2
KEY = f"sk-{secrets.token_hex(32)}"
"""Without one the proxy does not start."""
CONFIGURATION = """
model_list:
  - model_name: measured
    litellm_params:
      model: openai/measured
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
      input_cost_per_token: 0
      output_cost_per_token: {usd_per_token}
router_settings:
  num_retries: 0
  provider_budget_config:
    openai:
      budget_limit: {limit_usd}
      time_period: 1d
"""
WORKER = """
import sys, urllib.request
url, tasks, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
body = b'{"model": "measured", "messages": [{"role": "user", "content": "x"}]}'
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key}
print("ready", flush=True)
sys.stdin.readline()
for _ in range(tasks):
    try:
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=120).read()
    except OSError:
        pass
"""


class Upstream(ThreadingHTTPServer):
    """A model that answers each call with so many tokens, and counts the calls."""

    request_queue_size = 256

    def __init__(self, tokens: int) -> None:
        """Answer on a free port of this machine."""
        super().__init__(("127.0.0.1", 0), _Answer)
        self.tokens = tokens
        self.calls = 0
        self.lock = Lock()


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Upstream)
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.calls += 1
        time.sleep(UPSTREAM_SECONDS)
        usage = {"prompt_tokens": 0, "completion_tokens": self.server.tokens}
        usage["total_tokens"] = self.server.tokens
        message = {"role": "assistant", "content": "x"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "measured"}
        body = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Log nothing."""


@contextmanager
def upstream(tokens: int) -> Generator[Upstream]:
    """Run an upstream."""
    with Upstream(tokens) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def proxy(program: str, folder: Path, configuration: str) -> Generator[str]:
    """Run a proxy; yield the address of its calls."""
    file, port = folder / "litellm.yaml", _free_port()
    file.write_text(configuration)
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        (program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY},
    )
    try:
        _wait_for(f"{address}/health/liveliness", process)
        yield f"{address}/v1/chat/completions"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # this machine's own
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("LiteLLM's proxy did not start")


def worker(url: str, tasks: int) -> tuple[str, ...]:
    """Return the command of a process that says that it is ready, waits for a line and asks."""
    return (sys.executable, "-c", WORKER, url, str(tasks), KEY)
