"""Commands for detailed records: importing them from transcripts and compacting old ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import Answered, add_token_arguments, moment, on_archive, whole_number
from immunos_mcp.cli.safe_streams import redraw

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from immunos_mcp.archive import Archive


BAR_CELLS = 20


def _run_sync(given: Namespace) -> int:
    if given.to is None:
        return on_archive(imported)(given)
    from immunos_mcp.cli.team import sync_to  # few have a team

    return sync_to(given)


async def imported(archive: Archive, given: Namespace) -> Answered:
    """Import usage from logs."""
    since = None if given.all else given.since
    answer = await archive.sync(since, _show_progress if sys.stderr.isatty() else _no_progress)
    text = f"Read {answer.transcripts:,} transcripts: {answer.added:,} new responses"
    if answer.by_assistant:
        each = (f"{name} {count:,}" for name, count in answer.by_assistant.items())
        text += f" ({', '.join(each)})"
    if answer.unread_lines or answer.unread_files:
        lines, files = answer.unread_lines or 0, answer.unread_files or 0
        text += f"; unreadable: {lines} lines, {files} files"
    return Answered(answer, text)


def _show_progress(read: int, total: int) -> None:
    share = read / total if total else 1.0
    cells = int(share * BAR_CELLS)
    bar = "#" * cells + "-" * (BAR_CELLS - cells)
    end = "\n" if read >= total else ""
    redraw(f"[{bar}] {read / 2**20:,.0f} of {total / 2**20:,.0f} MiB{end}")


def _no_progress(_read: int, _total: int) -> None:
    pass


def _add_sync_arguments(parser: ArgumentParser) -> None:
    span = parser.add_mutually_exclusive_group(required=True)
    span.add_argument("--since", type=moment, metavar="TIME", help="import usage from this time on")
    span.add_argument("--all", action="store_true", help="import everything")
    parser.add_argument(
        "--to", metavar="URL", help="send it to a team's server too, which need not be joined"
    )
    add_token_arguments(parser)


async def _prune(archive: Archive, given: Namespace) -> Answered:
    answer = await archive.prune(given.keep_days, dry_run=given.dry_run)
    done = "Would compact" if answer.dry_run else "Compacted"
    text = (
        f"{done} {answer.decisions:,} decisions and {answer.usage_records:,} usage records from before"
        f" {answer.before.date()} (UTC) into totals"
    )
    return Answered(answer, text)


def _add_prune_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--keep-days",
        required=True,
        type=whole_number,
        metavar="N",
        help="whole days (UTC) before today to keep in detail",
    )
    parser.add_argument("--dry-run", action="store_true", help="show how much would be compacted")


COMMANDS = (
    Command(
        "sync",
        "import usage from Claude Code's transcripts",
        "sync --since 2026-11-01",
        _run_sync,
        _add_sync_arguments,
    ),
    Command(
        "prune",
        "compact old records into totals",
        "prune --keep-days 90 --dry-run",
        on_archive(_prune, covers_all_sessions=True),
        _add_prune_arguments,
    ),
)
