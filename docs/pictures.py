"""Makes the pictures of the README: ``python docs/pictures.py``.

A fortnight of plausible work goes into a ledger of its own by the program's commands, on a clock that
the script sets; then the status line and the report are shown in Chromium as the program made them. It
takes the dependency group ``browser`` and a Chromium on the PATH, or named by ``CHROMIUM``.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import tempfile
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from immunos_mcp.ledger import moments

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER = Path(__file__).parent / "pictures"
FIRST_DAY = datetime(2026, 11, 9, 8, tzinfo=UTC)
WORKING_DAYS = (0, 1, 2, 3, 4, 7, 8, 9, 10, 11)
LAST_TASK = 10
"""How many tasks the last day has had when the pictures are taken."""

PROJECT = "/home/dev/shop"
CLAUDE_MODEL = "claude-opus-4-5"
TASKS = (
    ("code_review", "routine"),
    ("summarize", "routine"),
    ("architecture", "creative"),
    ("code_generation", "routine"),
    ("security_audit", "critical"),
    ("debug", "routine"),
    ("file_analysis", "routine"),
    ("refactoring", "creative"),
)
ANSI_COLOURS = {"32": "#7ee787", "33": "#e3b341", "31": "#ff7b72"}


class Clock:
    """The time that the program is told.

    Attributes:
        now: what it is.
    """

    def __init__(self) -> None:
        self.now = FIRST_DAY

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


class Usage(NamedTuple):
    """What one response of Claude took, as its transcript has it."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int


def run(*arguments: str, given: str = "") -> str:
    """Run a command of the program in this process and return what it printed."""
    if arguments == ("statusline",):
        from immunos_mcp.cli import status_line

        before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given.encode()))
        with redirect_stdout(io.StringIO()) as said:
            status_line.main()
        sys.stdin = before
        return said.getvalue()
    from immunos_mcp.cli import main

    with redirect_stdout(io.StringIO()) as said:
        code = main.main(arguments)
    if code:
        raise SystemExit(f"{' '.join(arguments)} ended with {code}")
    return said.getvalue()


def fill(clock: Clock, home: Path) -> None:
    """Let the fortnight pass."""
    chance = random.Random(7)  # noqa: S311  # plausible, not secret
    transcript = home / ".claude" / "projects" / "-home-dev-shop" / "session.jsonl"
    transcript.parent.mkdir(parents=True)
    for number, day in enumerate(WORKING_DAYS):
        clock.now = FIRST_DAY + timedelta(days=day)
        run("reset", "--reason", "new day")
        is_last = number == len(WORKING_DAYS) - 1
        for _ in range(LAST_TASK if is_last else chance.randint(13, 17)):
            clock.now += timedelta(minutes=chance.randint(14, 32))
            work(clock, chance, transcript)


def work(clock: Clock, chance: random.Random, transcript: Path) -> None:
    """Route one task, and have the one that it went to use tokens."""
    task_type, classification = chance.choice(TASKS)
    routed = run("route", "--task-type", task_type, "--classification", classification, "--json")
    decision = json.loads(routed)
    number = str(decision["decision_id"])
    # Claude reads what comes back, wherever the task was done.
    is_local = decision["provider"] == "ollama"
    for _ in range(1 if is_local else chance.randint(2, 5)):
        clock.now += timedelta(seconds=chance.randint(20, 70))
        answer(clock, chance, transcript)
    outcome = "failure" if chance.random() < 0.08 else "success"
    if is_local:
        run(
            "record",
            *("--model", decision["model"], "--decision-id", number, "--outcome", outcome),
            *("--input", str(chance.randint(6000, 32_000))),
            *("--output", str(chance.randint(500, 2400))),
        )
    else:
        run("outcome", number, outcome)


def answer(clock: Clock, chance: random.Random, transcript: Path) -> None:
    """Add a response of Claude to the transcript, as Claude Code does."""
    usage = Usage(
        chance.randint(300, 1800),
        chance.randint(400, 2600),
        chance.randint(1200, 5200),
        chance.randint(30_000, 90_000),
    )
    number = f"msg_{chance.getrandbits(64):016x}"
    line = {
        "type": "assistant",
        "isSidechain": False,
        "message": {
            "id": number,
            "type": "message",
            "role": "assistant",
            "model": CLAUDE_MODEL,
            "content": [{"type": "text", "text": "Done."}],
            "usage": usage._asdict(),
        },
        "requestId": f"req_{number}",
        "timestamp": clock.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "cwd": PROJECT,
    }
    with transcript.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")
    os.utime(transcript, (clock.now.timestamp(), clock.now.timestamp()))


def status_input(now: datetime) -> str:
    """Return what Claude Code gives the status line."""
    limits = {
        window: {"used_percentage": used, "resets_at": int((now + left).timestamp())}
        for window, used, left in (
            ("five_hour", 42, timedelta(hours=2)),
            ("seven_day", 18, timedelta(days=4)),
        )
    }
    return json.dumps({"model": {"display_name": "Opus 4.5"}, "rate_limits": limits})


def coloured(line: str) -> str:
    """Return a terminal's line as HTML, with the colours that it has there."""
    return re.sub(
        "\x1b\\[(\\d+)m(.*?)\x1b\\[0m",
        lambda part: f'<span style="color:{ANSI_COLOURS[part[1]]}">{part[2]}</span>',
        escape(line.rstrip("\n")),
    )


def terminal(status_line: str) -> str:
    """Return a page with a terminal that shows the status line under a prompt."""
    return f"""<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 14px; width: 856px; background: transparent; }}
.frame {{ border: 1px solid #30363d; border-radius: 10px; overflow: hidden; background: #0d1117; }}
.bar {{ display: flex; gap: 8px; padding: 11px 14px; background: #161b22; border-bottom: 1px solid #30363d; }}
.bar i {{ width: 12px; height: 12px; border-radius: 50%; background: #484f58; }}
.screen {{ padding: 16px 18px 18px; font: 15px/1.55 "DejaVu Sans Mono", monospace; color: #e6edf3; }}
.prompt {{ border: 1px solid #6e7681; border-radius: 6px; padding: 8px 12px; }}
.prompt i {{ display: inline-block; width: 9px; height: 18px; vertical-align: -3px; background: #e6edf3; }}
.line {{ margin-top: 9px; padding-left: 13px; white-space: pre; font-size: 13.5px; color: #b1bac4; }}
</style><div class="shot"><div class="frame"><div class="bar"><i></i><i></i><i></i></div>
<div class="screen"><div class="prompt">&gt; Review what changed in the checkout <i></i></div>
<div class="line">{coloured(status_line)}</div></div></div></div>"""


def take(browser: Browser, home: Path, now: datetime) -> None:
    """Take both pictures."""
    page = browser.new_page(viewport={"width": 884, "height": 400}, device_scale_factor=2)
    page.set_content(terminal(run("statusline", given=status_input(now))))
    page.locator(".shot").screenshot(path=FOLDER / "status-line.png", omit_background=True)
    report = home / "report.html"
    run("report", "--format", "html", "--output", str(report))
    page = browser.new_page(viewport={"width": 1080, "height": 860}, device_scale_factor=1.5)
    page.goto(report.as_uri())
    chart = page.locator("figure").first.bounding_box()
    assert chart is not None
    height = chart["y"] + chart["height"] + 16
    page.screenshot(
        path=FOLDER / "report.png", clip={"x": 0, "y": 0, "width": 1080, "height": height}
    )


def keep_apart(home: str) -> None:
    """Have everything in another home, whatever this process was told about its user's."""
    for name in list(os.environ):
        if name.startswith(("IMMUNOS_", "CLAUDE_", "XDG_", "OLLAMA_")):
            del os.environ[name]
    os.environ |= {"HOME": home, "IMMUNOS_OLLAMA_CHECK": "off"}


def main() -> None:
    """Make the pictures."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        raise SystemExit("No Chromium: apt-get install chromium, or set CHROMIUM")
    clock = Clock()
    moments.utc_now = clock
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        keep_apart(folder)
        fill(clock, home)
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        take(browser, home, clock.now)
        browser.close()


if __name__ == "__main__":
    main()
