"""Context that the server costs a model, in tokens: its tool listing, and a ``route_task`` answer.

Uses the SDK's client and the installed command. Answers cover each task type of the default mappings
and an unmapped one, each classification, with and without an estimate, at each warning level, with
ids and counts of seven digits where the level allows them; the longest counts. Tokens are counted by
npm's @anthropic-ai/tokenizer in node.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import mcp_types as types
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from side_by_side import (
    Figure,
    argument_parser,
    environment,
    immunos_command,
    ledger_path,
    report,
    temporary_home,
)

from immunos_mcp.domain import Classification
from immunos_mcp.rules.settings import DEFAULT_TASK_MAPPINGS, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKENIZER = "@anthropic-ai/tokenizer"
COUNT = f"""
const {{ countTokens }} = require({json.dumps(TOKENIZER)});
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map(countTokens)));
"""
TOOL_PREFIX = "mcp__immunos__"
"""The prefix that Claude Code adds to this server's tool names."""
LISTING_GOAL, ANSWER_GOAL = 1200, 60
SEVEN_DIGITS = 9_876_543


class Answers:
    """Answers of ``route_task`` as a model sees them, in both forms."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.structured: list[str] = []

    def add(self, result: types.CallToolResult) -> None:
        """Add both forms of an answer."""
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        assert not result.is_error, content.text
        self.lines.append(content.text)
        self.structured.append(compact_json(result.structured_content))


def compact_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def count_tokens(texts: Sequence[str], folder: Path) -> list[int]:
    """Count the tokens of each text with the tokenizer installed in a folder."""
    node = shutil.which("node")
    if node is None or not (folder / "node_modules" / TOKENIZER).is_dir():
        raise SystemExit(
            f"needs node and {TOKENIZER}: run `npm install {TOKENIZER}` in some folder and name "
            "the folder with --tokenizer"
        )
    counted = subprocess.run(
        (node, "-e", COUNT),
        input=json.dumps(texts),
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(counted.stdout)


def make_ids_large(ledger_file: Path) -> None:
    """Make the next decision's id have seven digits."""
    with closing(sqlite3.connect(ledger_file)) as ledger, ledger:
        ledger.execute("UPDATE immunos_mcp_decision SET decision_id = ?", (SEVEN_DIGITS,))


async def collect(home: Path) -> tuple[list[str], Answers, Answers]:
    """Return the parts of the listing, and the answers without and with a projection."""
    command, *arguments = immunos_command()
    server = StdioServerParameters(command=command, args=arguments, env=environment(home))
    plain, projected = Answers(), Answers()
    async with Client(server) as client:
        listed = await client.list_tools()
        parts = [client.instructions or ""]
        parts += [
            compact_json(
                {
                    "name": TOOL_PREFIX + tool.name,
                    "description": tool.description,
                    "input_schema": tool.input_schema,
                }
            )
            for tool in listed.tools
        ]
        await client.call_tool("route_task", {"task_type": "any", "classification": "routine"})
        make_ids_large(ledger_path(home))
        settings = Settings()
        reached = 0
        for tokens in (
            settings.token_warning_threshold - 1,
            settings.token_auto_switch_threshold - 1,
            SEVEN_DIGITS,
        ):
            usage = {
                "model": settings.claude_model,
                "input_tokens": tokens - reached,
                "output_tokens": 0,
            }
            await client.call_tool("record_usage", usage)
            reached = tokens
            for task_type, classification in itertools.product(
                (*DEFAULT_TASK_MAPPINGS, "translate"), Classification
            ):
                task = {"task_type": task_type, "classification": classification.value}
                plain.add(await client.call_tool("route_task", task))
                estimated = {**task, "estimated_tokens": SEVEN_DIGITS}
                projected.add(await client.call_tool("route_task", estimated))
    return parts, plain, projected


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--tokenizer",
        metavar="DIR",
        type=Path,
        default=Path(),
        help=f"folder where `npm install {TOKENIZER}` was run (default: this one)",
    )
    given = parser.parse_args()
    count_tokens([], given.tokenizer)
    with temporary_home() as home:
        parts, plain, projected = anyio.run(collect, home)
    instructions, *tools = parts
    whole, *of_parts = count_tokens(["\n".join(parts), *parts], given.tokenizer)
    figures = [
        Figure("instructions and tools", whole, "tokens", goal=LISTING_GOAL),
        Figure("  instructions", of_parts[0], "tokens"),
    ]
    figures += [
        Figure(f"  {json.loads(tool)['name'].removeprefix(TOOL_PREFIX)}", tokens, "tokens")
        for tool, tokens in zip(tools, of_parts[1:], strict=True)
    ]
    notes = [
        f"tokenizer: npm's {TOKENIZER}; tool names with Claude Code's prefix {TOOL_PREFIX}",
        f"instructions: {len(instructions.split())} words",
        f"answers: the longest of {len(plain.lines) + len(projected.lines)}, in full:",
    ]
    for what, texts in (
        ("route_task, structured", plain.structured),
        ("route_task, text", plain.lines),
        ("route_task with projection, structured", projected.structured),
        ("route_task with projection, text", projected.lines),
    ):
        tokens, text = max(zip(count_tokens(texts, given.tokenizer), texts, strict=True))
        figures.append(Figure(what, tokens, "tokens", goal=ANSWER_GOAL))
        notes.append(text)
    report(figures, given.json, notes)


if __name__ == "__main__":
    main()
