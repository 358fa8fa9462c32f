"""Throughput of four clients that all write to one ledger, in calls per second.

Compared with four independent no-op servers of the same SDK, in alternating rounds. A router's client
calls ``route_task`` and reports that decision's usage with ``record_usage``, in turn. At the end the
ledger must have every answered call exactly once.
"""

from __future__ import annotations

import selectors
import sqlite3
import statistics
import time
import uuid
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from side_by_side import (
    NO_OP_TOOL,
    Figure,
    ServerProcess,
    argument_parser,
    immunos_command,
    ledger_path,
    no_op_command,
    report,
    structured,
    temporary_home,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TASK = {"task_type": "code_review", "classification": "routine", "estimated_tokens": 3000}
TOKENS_A_RECORD = 15
CLIENTS = 4


class IdleClient:
    """Calls the no-op tool repeatedly."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.answered = 0

    def ask(self) -> None:
        """Send the next call."""
        self.server.send_call(NO_OP_TOOL, TASK)

    def hear(self) -> None:
        """Process the answer."""
        structured(self.server.receive())
        self.answered += 1


class WritingClient(IdleClient):
    """Asks for a decision and reports its usage, in turn."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(server)
        self.decisions = 0
        self.records = 0
        self._decision_id: int | None = None

    def ask(self) -> None:
        """Send the next call."""
        if self._decision_id is None:
            self.server.send_call("route_task", TASK)
            return
        usage = {
            "model": "claude-sonnet-4.5",
            "input_tokens": 10,
            "output_tokens": 5,
            "decision_id": self._decision_id,
            "outcome": "success",
            "request_id": f"msg_{uuid.uuid4().hex}",
        }
        self.server.send_call("record_usage", usage)

    def hear(self) -> None:
        """Process the answer."""
        answer = structured(self.server.receive())
        self.answered += 1
        if self._decision_id is None:
            self.decisions += 1
            self._decision_id = answer["decision_id"]
        else:
            self.records += 1
            self._decision_id = None


def calls_per_second(clients: Sequence[IdleClient], seconds: float) -> float:
    """Let all clients call as fast as they get answers."""
    before = sum(client.answered for client in clients)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.server.descriptor, selectors.EVENT_READ, client)
        start = time.perf_counter()
        for client in clients:
            client.ask()
        waiting = len(clients)
        while waiting:
            asking = time.perf_counter() - start < seconds
            for key, _events in selector.select():
                key.data.hear()
                if asking:
                    key.data.ask()
                else:
                    waiting -= 1
        taken = time.perf_counter() - start
    return (sum(client.answered for client in clients) - before) / taken


def check(ledger_file: Path, clients: Sequence[WritingClient]) -> str:
    """Compare the ledger with the answers that the clients got."""
    decisions = sum(client.decisions for client in clients)
    records = sum(client.records for client in clients)
    expected = (decisions, records, TOKENS_A_RECORD * records, TOKENS_A_RECORD * records)
    with closing(sqlite3.connect(ledger_file)) as ledger:
        found = ledger.execute(
            "SELECT (SELECT count(*) FROM immunos_mcp_decision), count(*),"
            " sum(input_tokens + output_tokens),"
            " (SELECT sum(claude_input_tokens + claude_output_tokens) FROM immunos_mcp_session)"
            " FROM immunos_mcp_usage"
        ).fetchone()
    if found != expected:
        raise SystemExit(f"answered {expected}, in the ledger {found}")
    return f"the ledger holds all {decisions} decisions and {records} usage records once"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="rounds of each kind")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    given = parser.parse_args()
    writing_rates: list[float] = []
    idle_rates: list[float] = []
    with temporary_home() as home:
        with ExitStack() as servers:
            writers = [
                WritingClient(servers.enter_context(ServerProcess(immunos_command(), home)))
                for _ in range(CLIENTS)
            ]
            idlers = [
                IdleClient(servers.enter_context(ServerProcess(no_op_command(), home)))
                for _ in range(CLIENTS)
            ]
            calls_per_second(writers, 0.5)
            calls_per_second(idlers, 0.5)
            for _ in range(given.rounds):
                idle_rates.append(calls_per_second(idlers, given.seconds))
                writing_rates.append(calls_per_second(writers, given.seconds))
        checked = check(ledger_path(home), writers)
    figures = [
        Figure(
            f"{CLIENTS} clients writing to one ledger",
            statistics.median(writing_rates),
            "calls/s",
            goal=0.5,
            reference=statistics.median(idle_rates),
            at_least=True,
        )
    ]
    notes = [f"reference: {CLIENTS} no-op servers of the same SDK", checked]
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
