"""How soon a client's server is ready, against how long the client waits for it."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

from immunos_mcp.assistants.findings import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_SECONDS = 20.0

_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "immunos-mcp doctor", "version": "1"},
    },
}


def readiness(
    name: str, command: Sequence[str], environment: Mapping[str, str], patience: float | None
) -> Finding:
    """Start a server as its client does, and compare the time of its first answer with the client's.

    Args:
        name: the client's name.
        command: the program and its arguments.
        environment: all variables that the server gets.
        patience: how many seconds the client waits; ``None``: unknown.
    """
    seconds = seconds_until_ready(command, environment)
    seen = f"its entry starts {command[0]}"
    if seconds is None:
        remedy = "run the command of its entry yourself, and see what it prints"
        return Finding(name, Verdict.FAIL, f"{seen}, which does not answer", remedy)
    seen += f", ready after {seconds:.1f} s"
    if patience is None:
        return Finding(name, Verdict.OK, seen)
    seen += f" (it waits {patience:g} s)"
    if seconds <= patience:
        return Finding(name, Verdict.OK, seen)
    remedy = "the first start after an upgrade is slower; run doctor again"
    return Finding(name, Verdict.WARN, seen, remedy)


def seconds_until_ready(command: Sequence[str], environment: Mapping[str, str]) -> float | None:
    """Return how long a server takes to answer and to end; ``None``: it does not answer."""
    start = time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603  # it starts this program, as the client does
            command,
            input=json.dumps(_INITIALIZE).encode() + b"\n",
            env=dict(environment),
            capture_output=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return time.perf_counter() - start if b'"serverInfo"' in done.stdout else None
