"""Commands that report to people and export rows for other programs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from immunos_mcp import options
from immunos_mcp.answers.encoding import to_json
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import (
    Answered,
    chosen_options,
    file,
    moment,
    on_archive,
    print_text,
    use_utf_8,
)
from immunos_mcp.errors import InvalidInputError, OutputError, Problem

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from pathlib import Path

    from immunos_mcp.answers.report import ReportAnswer
    from immunos_mcp.archive import Archive


async def _report(archive: Archive, given: Namespace) -> Answered | None:
    from immunos_mcp.reports import prices

    if given.open and given.format not in {None, "html"}:
        raise InvalidInputError(Problem("--format", given.format, "html with --open"))
    form = "html" if given.open else _form(given, "text", "json")
    path = _report_path(given)
    answer = await archive.report(given.since, prices.list_prices(datetime.now(UTC)))
    content = _rendered(answer, form)
    if path is None:
        use_utf_8()
        print_text(content)
        return None
    from immunos_mcp.reports.output_file import written

    with written(path, "--output", may_replace=_is_report) as output:
        output.write(f"{content}\n".encode())
    if given.open:
        _show(path)
    return Answered({"output_path": str(path)}, f"Wrote {path}")


def _rendered(answer: ReportAnswer, form: str) -> str:
    if form == "html":
        from immunos_mcp.reports.page.document import page

        return page(answer)
    if form == "csv":
        from immunos_mcp.reports.csv import long_table

        return long_table(answer)
    from immunos_mcp.reports import text

    return to_json(answer) if form == "json" else text.text(answer)


def _form(given: Namespace, default: str, of_json: str) -> str:
    """Return the format that was asked for; ``--json`` is another name for one of them."""
    if not given.json:
        return given.format or default
    if given.format not in {None, of_json}:
        raise InvalidInputError(Problem("--format", given.format, f"{of_json} with --json"))
    return of_json


def _report_path(given: Namespace) -> Path | None:
    if given.output is not None:
        return given.output
    if not given.open:
        return None
    file = options.file_of(chosen_options(given).database) or options.default_database()
    folder = file.parent / "reports"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"--open: cannot create {folder} ({error.strerror}); name a file with --output"
        raise InvalidInputError(Problem("--open", str(folder), message=message)) from error
    return folder / "report.html"


def _is_report(beginning: bytes) -> bool:
    return beginning.startswith(
        (
            b"immunos-mcp report, ",
            b'{"report_at":"',
            b"section,key,provider,model,detail,measure,value\n",
            b"<!doctype html>\n<!-- immunos-mcp report -->\n",
        )
    )


def _show(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        raise OutputError(f"no browser could be started; open {page} yourself")


def _add_report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--since", type=moment, metavar="TIME", help="leave out anything earlier")
    parser.add_argument(
        "--format",
        choices=["text", "json", "csv", "html"],
        help="default: text; --json is --format json",
    )
    parser.add_argument(
        "--output",
        type=file,
        metavar="FILE",
        help="write to a new file, or replace an earlier report",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="open the report in the browser (default file: reports/report.html beside the ledger)",
    )


async def _export(archive: Archive, given: Namespace) -> Answered | None:
    from immunos_mcp.reports import output_file, rows

    form = _form(given, "jsonl", "jsonl")
    tables: list[str] = given.table
    if form == "csv" and len(tables) != 1:
        got = ", ".join(tables)
        message = f"--format csv: needs exactly one --table (got {got or 'none'})"
        raise InvalidInputError(Problem("--table", got, message=message))
    if given.output is None:
        output = output_file.Output(sys.stdout.buffer, "standard output")
        await archive.export(tables, given.since, rows.sink(form, output))
        output.flush()
        return None
    with output_file.written(given.output, "--output") as output:
        await archive.export(tables, given.since, rows.sink(form, output))
    return Answered({"output_path": str(given.output)}, f"Wrote {given.output}")


def _add_export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--format", choices=["jsonl", "csv"], help="default: jsonl")
    parser.add_argument(
        "--table",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="export only these tables; csv needs exactly one",
    )
    parser.add_argument("--since", type=moment, metavar="TIME", help="leave out earlier rows")
    parser.add_argument("--output", type=file, metavar="FILE", help="new file for the rows")


COMMANDS = (
    Command(
        "report",
        "report tokens, costs, decisions, models and sessions",
        "report --since 2026-11-01 --open",
        on_archive(_report, covers_all_sessions=True),
        _add_report_arguments,
    ),
    Command(
        "export",
        "export the ledger's rows for other programs",
        "export --table decision usage --since 2026-11-01 > rows.jsonl",
        on_archive(_export, covers_all_sessions=True),
        _add_export_arguments,
    ),
)
