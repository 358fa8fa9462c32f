"""Speed of reading Claude Code's transcripts, and cost of a status line refresh.

Generates a realistic history of conversations in a temporary folder (a gigabyte by default), imports
it with ``immunos-mcp sync --all``, and checks the ledger against its own count. With ``--ccusage
PROGRAM``, ccusage reads the same folder in turn, and both say what it cost; it is in the npm registry.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from side_by_side import (
    Figure,
    alternate,
    argument_parser,
    environment,
    immunos_command,
    ledger_path,
    median_against,
    report,
    temporary_home,
)

if TYPE_CHECKING:
    from pathlib import Path

NOTHING = (sys.executable, "-c", "pass")
TURNS = 150
MODELS = ("claude-opus-4-8", "claude-sonnet-4-5", "claude-haiku-4-5")
NO_USAGE = (*(("attachment", 4500),) * 10, *(("api-request-shape", 6700),) * 3)
"""What version 2.1.332 writes beside each turn, and how many bytes on average: of a transcript, 57 and 25 %."""

STATUS_INPUT = {
    "session_id": "5e55",
    "transcript_path": "",
    "cwd": "/home/dev/shop",
    "model": {"id": "claude-opus-4-8", "display_name": "Opus 4.8"},
    "workspace": {"current_dir": "/home/dev/shop", "project_dir": "/home/dev/shop"},
    "version": "2.1.197",
    "cost": {"total_cost_usd": 0.5, "total_duration_ms": 45_000},
    "rate_limits": {
        "five_hour": {"used_percentage": 23.5, "resets_at": 4_000_000_000},
        "seven_day": {"used_percentage": 41.2, "resets_at": 4_000_000_000},
    },
}
LOOK = """
import sys, time
from pathlib import Path
from immunos_mcp.assistants.claude_code.transcripts import FORMAT
from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.transcripts import TranscriptFolders
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

with InlineSqliteLedger(Path(sys.argv[1])) as ledger:
    folders = TranscriptFolders((Path(sys.argv[2]),), FORMAT)
    router = Router(ledger, "default", follower=Follower(ledger, folders))
    run_sync(router.get_config())
    for _ in range(2):
        start = time.perf_counter()
        run_sync(router.catch_up())
        print(time.perf_counter() - start)
"""


class History:
    """Conversations on disk, and their expected totals."""

    def __init__(self, home: Path) -> None:
        self.projects = home / ".claude" / "projects"
        self.size = 0
        self.files = 0
        self.largest: dict[str, tuple[int, int, int, int]] = {}
        self._chance = random.Random(20261101)  # noqa: S311  # the same history each time
        self._clock = datetime.now(UTC) - timedelta(days=20)

    def add_file(self, turns: int = TURNS) -> Path:
        """Write one conversation: tool output, and responses of one to three lines."""
        project = f"p{self.files % 20}"
        file = self.projects / f"-home-dev-{project}" / f"{self.files:08d}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            for _ in range(turns):
                self._clock += timedelta(seconds=1)
                printed = "x = compute(y)  # some output\n" * self._chance.randint(20, 400)
                self.size += stream.write(self._line(project, "user", {"content": printed}))
                for kind, size in NO_USAGE:
                    shown = "a hook said: all is well\n" * self._chance.randint(1, size // 12)
                    self.size += stream.write(self._line(project, kind, {"content": shown}))
                for line in self.answer(project):
                    self.size += stream.write(line)
        self.files += 1
        return file

    def answer(self, project: str) -> list[bytes]:
        """Return the lines of one response, whose output grows from line to line."""
        message_id = f"msg_{self._chance.getrandbits(80):020x}"
        request_id = f"req_{self._chance.getrandbits(64):016x}"
        counts = (
            self._chance.randint(1, 9),
            self._chance.randint(50, 900),
            self._chance.randint(0, 3000),
            self._chance.randint(10_000, 90_000),
        )
        hour_long = counts[2] if self._chance.random() < 1 / 4 else 0
        model = self._chance.choice(MODELS)
        self.largest[message_id] = counts
        lines = self._chance.randint(1, 3)
        return [
            self._line(
                project,
                "assistant",
                {
                    "id": message_id,
                    "type": "message",
                    "role": "assistant",
                    "model": model,
                    "content": [{"type": "text", "text": "I look at it. " * 60}],
                    "usage": {
                        "input_tokens": counts[0],
                        "output_tokens": counts[1] if number == lines else 1,
                        "cache_creation_input_tokens": counts[2],
                        "cache_read_input_tokens": counts[3],
                        "cache_creation": {
                            "ephemeral_5m_input_tokens": counts[2] - hour_long,
                            "ephemeral_1h_input_tokens": hour_long,
                        },
                        "service_tier": "standard",
                    },
                },
                request_id,
            )
            for number in range(1, lines + 1)
        ]

    def _line(
        self, project: str, kind: str, message: dict[str, object], request_id: str | None = None
    ) -> bytes:
        entry: dict[str, object] = {
            "parentUuid": None,
            "isSidechain": False,
            "message": message,
            **({} if request_id is None else {"requestId": request_id}),
            "type": kind,
            "timestamp": self._clock.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "cwd": f"/home/dev/{project}",
            "sessionId": f"{self.files:08d}",
            "version": "2.1.197",
        }
        return json.dumps(entry, separators=(",", ":")).encode() + b"\n"

    def check(self, ledger: Path) -> None:
        """Compare the ledger with the total of all responses.

        Raises:
            SystemExit: they differ.
        """
        with closing(sqlite3.connect(ledger)) as connection:
            stored = connection.execute(
                "SELECT count(*), sum(input_tokens), sum(output_tokens),"
                " sum(cache_creation_input_tokens), sum(cache_read_input_tokens)"
                " FROM immunos_mcp_measured_usage"
            ).fetchone()
        counted = (len(self.largest), *(sum(kind) for kind in zip(*self.largest.values())))  # noqa: B905  # four kinds each
        if stored != counted:
            raise SystemExit(f"the ledger has {stored}, the history {counted}")


def seconds_to_run(
    command: tuple[str, ...], variables: dict[str, str], given: bytes = b""
) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, env=variables, input=given, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the history")
    parser.add_argument("--runs", type=int, default=3, help="imports of the whole history")
    parser.add_argument("--refreshes", type=int, default=25, help="refreshes of the status line")
    parser.add_argument("--ccusage", metavar="PROGRAM", help="ccusage's native program")
    given = parser.parse_args()
    with temporary_home() as home:
        figures, notes = measured(home, given.mebibytes, given.runs, given.refreshes, given.ccusage)
    report(figures, given.json, notes)


def measured(
    home: Path, mebibytes: int, runs: int, refreshes: int, ccusage: str | None
) -> tuple[list[Figure], list[str]]:
    history = History(home)
    last = history.add_file()
    while history.size < mebibytes * 2**20:
        last = history.add_file()
    variables = environment(home)
    variables.pop("CLAUDE_CONFIG_DIR", None)
    sync = (*immunos_command(), "sync", "--all")

    def first_import() -> float:
        for file in home.glob(f"{ledger_path(home).name}*"):
            file.unlink()
        return seconds_to_run(sync, variables)

    def later_sync() -> float:
        with last.open("ab") as stream:
            stream.write(b"".join(history.answer("p0")))
        return seconds_to_run(sync, variables)

    figures: list[Figure] = []
    if ccusage is None:
        imports = [first_import() for _ in range(runs + 1)][1:]
        figures.append(Figure("first import", 1000 * min(imports), "ms"))
    else:
        daily = (ccusage, "daily", "--offline", "--json")
        imports, dailies = alternate(runs, first_import, lambda: seconds_to_run(daily, variables))
        figures.append(median_against("first import, against ccusage daily", imports, dailies, 1))
        figures.append(
            Figure("cost, apart from ccusage's", cents_apart(ccusage, variables), "cents", 1)
        )
    history.check(ledger_path(home))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    laters, again = alternate(runs, later_sync, lambda: min(imports))
    figures.append(
        median_against("sync after one more response, against the import", laters, again, 1 / 20)
    )
    history.check(ledger_path(home))
    figures.extend(status_lines(variables, refreshes, ccusage, history, last))
    shutil.rmtree(history.projects)
    figures.extend(checks(home, variables, refreshes))
    notes = [f"history: {history.size / 2**20:.0f} MiB, {len(history.largest)} responses"]
    if ccusage is None:
        # ccusage is also a child process, and uses more memory.
        notes.append(f"largest of our processes: {peak / 1024:.0f} MiB")
    return figures, notes


def cents_apart(ccusage: str, variables: dict[str, str]) -> float:
    """Return how far the cost of the whole history is from ccusage's."""
    theirs = printed((ccusage, "claude", "daily", "--offline", "--json"), variables)
    ours = printed((*immunos_command(), "report", "--json"), variables)
    return 100 * abs(theirs["totals"]["totalCost"] - ours["prices"]["claude_cost_usd"])


def printed(command: tuple[str, ...], variables: dict[str, str]) -> dict[str, dict[str, float]]:
    ran = subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE)
    found: dict[str, dict[str, float]] = json.loads(ran.stdout)
    return found


def status_lines(
    variables: dict[str, str], refreshes: int, ccusage: str | None, history: History, last: Path
) -> list[Figure]:
    given = json.dumps({**STATUS_INPUT, "transcript_path": str(last)}).encode()
    command = (*immunos_command(), "statusline")
    ours, nothing = alternate(
        refreshes,
        lambda: seconds_to_run(command, variables, given),
        lambda: seconds_to_run(NOTHING, variables),
    )
    figures = [median_against("statusline, against python -c pass", ours, nothing, 5)]
    if ccusage is not None:
        theirs = (ccusage, "statusline", "--offline")
        ours, others = alternate(
            refreshes,
            lambda: seconds_to_run(command, variables, given),
            lambda: seconds_to_run(theirs, variables, given),
        )
        what = "statusline with nothing new, against ccusage's"
        figures.append(median_against(what, ours, others, 1.5))

        def after_a_response(program: tuple[str, ...]) -> float:
            with last.open("ab") as stream:
                stream.write(b"".join(history.answer("p0")))
            return seconds_to_run(program, variables, given)

        ours, others = alternate(
            3, lambda: after_a_response(command), lambda: after_a_response(theirs)
        )
        what = "statusline after a response, against ccusage's"
        figures.append(median_against(what, ours, others, 1.5))
    return figures


def checks(home: Path, variables: dict[str, str], times: int) -> list[Figure]:
    history = History(home)
    for _ in range(1000):
        history.add_file(turns=1)
    route = ("route", "--task-type", "x", "--classification", "routine")
    seconds_to_run((*immunos_command(), *route), variables)
    seconds_to_run((*immunos_command(), "sync", "--all"), variables)
    command = (sys.executable, "-c", LOOK, str(ledger_path(home)), str(history.projects))
    fresh: list[float] = []
    running: list[float] = []
    for _ in range(times):
        ran = subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE)
        first, second = map(float, ran.stdout.split())
        fresh.append(first)
        running.append(second)
    return [
        Figure(
            "check of 1,000 unchanged transcripts, first",
            1000 * sorted(fresh)[times // 2],
            "ms",
            5,
        ),
        Figure("the same, later ones", 1000 * sorted(running)[times // 2], "ms", 5),
    ]


if __name__ == "__main__":
    main()
