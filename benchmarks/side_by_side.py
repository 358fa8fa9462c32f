"""Shared by the benchmarks: a client over raw pipes, alternating samples, and the result table.

The client is a few lines of newline-delimited JSON-RPC, so that figures measure the server and not
the client. Requests are encoded before the clock starts and answers decoded after it stops.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

JsonObject = dict[str, Any]

PROTOCOL_VERSION = "2025-11-25"
NO_OP_TOOL = "no_op"


def immunos_command() -> tuple[str, ...]:
    """Return the command installed with the Python that runs the benchmark."""
    script = Path(sys.executable).with_name("immunos-mcp")
    return (str(script),) if script.exists() else (sys.executable, "-m", "immunos_mcp")


def no_op_command() -> tuple[str, ...]:
    """Return the command of the no-op server."""
    return (sys.executable, str(Path(__file__).with_name("noop_server.py")))


def environment(home: Path) -> dict[str, str]:
    """Return this process's environment with a separate home folder and ledger."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("IMMUNOS_")
    }
    own = {"IMMUNOS_DB": str(ledger_path(home)), "IMMUNOS_OLLAMA_CHECK": "off"}
    return {**inherited, "HOME": str(home), **own}


def ledger_path(home: Path) -> Path:
    """Return the ledger of a home folder."""
    return home / "ledger.db"


@contextmanager
def temporary_home() -> Generator[Path]:
    """Create a folder for ledgers and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="immunos-benchmark-") as folder:
        yield Path(folder)


class ServerProcess:
    """One server and its only client, one request at a time."""

    def __init__(self, command: Sequence[str], home: Path) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(home),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to_server = self._process.stdin
        self._from_server = self._process.stdout
        self._last_id = 0

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def descriptor(self) -> int:
        """The file descriptor of the answers, to wait for."""
        return self._from_server.fileno()

    def initialize(self) -> None:
        """Do the handshake."""
        client = {"name": "benchmark", "version": "1"}
        parameters = {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": client,
        }
        self.send("initialize", parameters)
        self.receive()
        initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        self._to_server.write(json.dumps(initialized).encode() + b"\n")
        self._to_server.flush()

    def send(self, method: str, parameters: JsonObject) -> None:
        """Send a request; ``receive`` returns the answer."""
        self._write(self._request(method, parameters))

    def send_call(self, tool: str, arguments: Mapping[str, object]) -> None:
        """Send a tool call; ``receive`` returns the answer."""
        self.send("tools/call", {"name": tool, "arguments": arguments})

    def receive(self) -> JsonObject:
        """Wait for the answer to the last request."""
        return self._answer(self._from_server.readline())

    def timed_call(self, tool: str, arguments: Mapping[str, object]) -> tuple[float, JsonObject]:
        """Call a tool; return the seconds until its answer, and its structured content."""
        request = self._request("tools/call", {"name": tool, "arguments": arguments})
        start = time.perf_counter()
        self._write(request)
        line = self._from_server.readline()
        seconds = time.perf_counter() - start
        return seconds, structured(self._answer(line))

    def kill(self) -> None:
        """End the server as a crash would: nothing more is written."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Close the server's input and wait until it ends."""
        self._to_server.close()
        self._process.wait(timeout=30)
        self._from_server.close()

    def _request(self, method: str, parameters: Mapping[str, object]) -> bytes:
        self._last_id += 1
        message = {
            "jsonrpc": "2.0",
            "id": self._last_id,
            "method": method,
            "params": parameters,
        }
        return json.dumps(message).encode() + b"\n"

    def _write(self, request: bytes) -> None:
        self._to_server.write(request)
        self._to_server.flush()

    def _answer(self, line: bytes) -> JsonObject:
        if not line:
            raise SystemExit(f"server ended: {self._process.args!r}")
        message: JsonObject = json.loads(line)
        if message.get("id") != self._last_id or "result" not in message:
            raise SystemExit(f"not an answer to request {self._last_id}: {line!r}")
        return message["result"]


def structured(result: JsonObject) -> JsonObject:
    """Return the structured content of a successful call."""
    if result.get("isError"):
        raise SystemExit(f"the call failed: {result['content']!r}")
    return result["structuredContent"]


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the sample that ``share`` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def alternate(
    times: int, first: Callable[[], float], second: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Take samples of two things in turn, alternating which goes first, so that conditions are equal.

    The first sample of each is discarded.
    """
    first_samples: list[float] = []
    second_samples: list[float] = []
    for turn in range(times + 1):
        if turn % 2:
            first_samples.append(first())
            second_samples.append(second())
        else:
            second_samples.append(second())
            first_samples.append(first())
    return first_samples[1:], second_samples[1:]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement.

    Attributes:
        what: the thing measured.
        figure: its value.
        unit: the unit of ``figure`` and ``reference``.
        goal: bound of the ratio, or of the figure where there is no reference; ``None``: for
            information only.
        reference: the figure of what it is compared with, in the same run.
        at_least: whether the goal is a lower bound.
    """

    what: str
    figure: float
    unit: str
    goal: float | None = None
    reference: float | None = None
    at_least: bool = False

    @property
    def ratio(self) -> float | None:
        """The figure against its reference."""
        return None if self.reference is None else self.figure / self.reference

    @property
    def verdict(self) -> str | None:
        """Whether the goal is met."""
        if self.goal is None:
            return None
        held = self.figure if self.ratio is None else self.ratio
        met = held >= self.goal if self.at_least else held <= self.goal
        return "met" if met else "missed"


def median_against(
    what: str, samples: Sequence[float], references: Sequence[float], goal: float
) -> Figure:
    """Compare the medians of samples in seconds."""
    return Figure(
        what,
        statistics.median(samples) * 1000,
        "ms",
        goal=goal,
        reference=statistics.median(references) * 1000,
    )


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


def report(figures: Sequence[Figure], as_json: bool, notes: Sequence[str] = ()) -> None:
    """Print the figures as a table, or as one line of JSON."""
    if as_json:
        rows = [
            {**asdict(figure), "ratio": figure.ratio, "verdict": figure.verdict}
            for figure in figures
        ]
        print(json.dumps({"figures": rows, "notes": list(notes)}))
        return
    head = ("what", "figure", "reference", "ratio", "goal", "")
    table = [head, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())
    for note in notes:
        print(note)


def _cells(figure: Figure) -> tuple[str, ...]:
    sign = ">=" if figure.at_least else "<="
    return (
        figure.what,
        _number(figure.figure, figure.unit),
        "" if figure.reference is None else _number(figure.reference, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.goal is None else f"{sign} {figure.goal:g}",
        figure.verdict or "",
    )


def _number(value: float, unit: str) -> str:
    decimals = {"ms": 3, "times": 2}.get(unit, 0)
    return f"{value:.{decimals}f} {unit}"
