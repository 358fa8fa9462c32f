"""Writes the reference pages from the program's own tables: ``python docs/reference.py``.

A test compares the pages with what this writes, so that an option, a setting, a command or a tool
cannot be added without its documentation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immunos_mcp import options
from immunos_mcp.cli import program
from immunos_mcp.http.options import HTTP_OPTIONS
from immunos_mcp.rules.setting_changes import to_text
from immunos_mcp.rules.settings import ROWS, Settings, values
from immunos_mcp.server.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.cli.command import Command
    from immunos_mcp.rules.setting_kinds import SettingValue

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/reference.py; edit the tables in the program instead. -->"


def commands() -> str:
    """Return the page of commands."""
    lines = [
        "# Commands",
        "",
        "Without a command, `immunos-mcp` serves MCP over standard input and output. `python -m immunos_mcp` is the same",
        "program. Every command takes the [options](options.md); `--json` prints one line of JSON, the same that the tools",
        "return, and `--help` explains the rest.",
        "",
        "Exit codes: 0 fine, 1 failed, 2 wrong usage.",
    ]
    for name in program.MODULES:
        lines += _command(program.find(name), f"immunos-mcp {name}", "##")
    return _page(lines)


def _command(command: Command, prog: str, heading: str) -> Iterator[str]:
    yield from ("", f"{heading} {prog.removeprefix('immunos-mcp ')}", "")
    yield f"{command.help[0].upper()}{command.help[1:]}."
    yield from ("", "```console", f"immunos-mcp {_example(command, prog)}", "```")
    parser = argparse.ArgumentParser(prog=prog, add_help=False)
    command.add_arguments(parser)
    rows = [_argument(action) for action in _actions(parser)]
    if rows:
        yield from ("", "| argument | |", "| --- | --- |", *rows)
    for action in command.actions:
        yield from _command(action, f"{prog} {action.name}", "###")


def _example(command: Command, prog: str) -> str:
    # The example of an action leaves its command out.
    parent = prog.removeprefix("immunos-mcp ").removesuffix(command.name)
    return command.example if command.example.startswith(parent) else parent + command.example


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001  # argparse has no other list of them


def _argument(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    shown = metavar
    if action.option_strings:
        takes = "" if action.nargs == 0 else f" {metavar}"
        shown = f"{action.option_strings[0]}{takes}"
    notes = [action.help or ""]
    if action.option_strings and action.required:
        notes.append("required")
    told = "; ".join(note for note in notes if note)
    return f"| `{_cell(shown)}` | {_cell(told)} |"


def options_page() -> str:
    """Return the page of options."""
    rows: tuple[options.Row, ...] = (*options.COMMAND_OPTIONS, options.TRANSCRIPTS)
    lines = [
        "# Options",
        "",
        "Options say where things are. Each comes from its flag, else its environment variable, else its default; an empty",
        "variable counts as not set. Flags may stand before or after the command.",
        "",
        "| flag | variable | default | |",
        "| --- | --- | --- | --- |",
        *map(_option, rows),
        "",
        "Only the server has these:",
        "",
        "| flag | variable | default | |",
        "| --- | --- | --- | --- |",
        *map(_option, options.SERVING_OPTIONS),
        "",
        "Only `immunos-mcp serve` has these:",
        "",
        "| flag | variable | default | |",
        "| --- | --- | --- | --- |",
        *map(_option, HTTP_OPTIONS),
        "",
        "`IMMUNOS_TRANSCRIPTS=off` stops reading Claude Code's logs. `CLAUDE_CONFIG_DIR` says where Claude Code keeps them, if",
        "not in `~/.claude` or `~/.config/claude`.",
    ]
    return _page(lines)


def _option(option: options.Option[Any]) -> str:
    flag = f"`{_cell(f'{option.flag} {option.metavar}'.strip())}`" if option.flag else ""
    default = option.shown_default or option.default or "none"
    return f"| {flag} | `{option.variable}` | {_cell(default)} | {_cell(option.about)} |"


def settings() -> str:
    """Return the page of settings."""
    lines = [
        "# Settings",
        "",
        "Settings live in the ledger, so every client sees a change at its next call. `immunos-mcp config set NAME=VALUE` and",
        "the tool `update_config` use the same names. `immunos-mcp config unset NAME` brings a default back.",
        "",
        "| setting | must be | default | |",
        "| --- | --- | --- | --- |",
        *(_setting(name, default) for name, default in values(Settings()).items()),
        "",
        *(
            f"`{row.short_name}` is accepted as a short name of `{name}`."
            for name, row in ROWS.items()
            if row.short_name
        ),
        "",
        "Those that begin with `record_` are the constants of the",
        "[track record](../explanation/policy.md#track-record); they can be changed on the command line only.",
    ]
    return _page(lines)


def _setting(name: str, default: SettingValue) -> str:
    row = ROWS[name]
    is_plain = isinstance(default, int | float | str)
    shown = f"`{to_text(default)}`" if is_plain else f"{len(default)} task types"
    return f"| `{name}` | {_cell(row.kind.expected)} | {shown} | {_cell(row.description)} |"


def tools() -> str:
    """Return the page of tools."""
    lines = [
        "# Tools",
        "",
        "What an MCP client sees. Every tool returns structured content and the same as one line of text; a client shows its",
        "model one of the two. An argument that cannot be used is an error that names it, and nothing has changed.",
        "",
        "The resources `immunos://status` and `immunos://config`, and the template `immunos://sessions/{name}/status`, return",
        "JSON. Clients that subscribe are told about changes, whichever process made them.",
    ]
    for tool in TOOLS:
        if tool.is_listed:
            listing = tool.listing()
            lines += [
                "",
                f"## {tool.name}",
                "",
                tool.description,
                "",
                *_fields(listing.input_schema),
            ]
    return _page(lines)


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    required = schema.get("required", [])
    yield from ("| argument | type | |", "| --- | --- | --- |")
    for name, field in schema["properties"].items():
        told = [field.get("description", ""), "required" if name in required else ""]
        text = "; ".join(each for each in told if each)
        yield f"| `{name}` | {_cell(_type(field))} | {_cell(text)} |"


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    return str(field.get("type", ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _page(lines: list[str]) -> str:
    return "\n".join([lines[0], "", NOTE, *lines[1:], ""])


PAGES = {
    "commands.md": commands,
    "options.md": options_page,
    "settings.md": settings,
    "tools.md": tools,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
