"""The command ``config`` and its actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from immunos_mcp.cli import settings_text, terminal
from immunos_mcp.cli.assignments import assignments, split, without_entries
from immunos_mcp.cli.command import Command
from immunos_mcp.cli.console import (
    CLIENT,
    Answered,
    folder,
    former_folder,
    limit,
    on_archive,
    on_ledger,
)
from immunos_mcp.errors import InvalidInputError, unknown
from immunos_mcp.rules import presets, setting_changes, settings
from immunos_mcp.rules.names import normalise_task_type
from immunos_mcp.server import text

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from immunos_mcp.archive import Archive
    from immunos_mcp.router import Router


async def _get(router: Router, given: Namespace) -> Answered:
    if given.project is not None:
        return await _get_in(router, given)
    values = settings.values(await router.get_config())
    if given.name is None:
        return Answered(values, settings_text.settings(values), note=_whose(router))
    name, entry = split(given.name)
    name = setting_changes.full_name(name)
    value = values[name]
    if entry is not None:
        if not isinstance(value, dict):
            raise InvalidInputError(without_entries(given.name, name))
        task_type = normalise_task_type(entry, given.name)
        if task_type not in value:
            raise InvalidInputError(unknown("setting", "mapped task type", task_type, value))
        value = value[task_type]
    shown = (
        settings_text.settings(value) if isinstance(value, dict) else setting_changes.to_text(value)
    )
    return Answered({given.name: value}, shown, note=_whose(router))


def _whose(router: Router) -> str | None:
    """Return a note of whose settings these are, where a team is joined."""
    return None if router.whose_settings is None else f"these are {router.whose_settings}"


async def _get_in(router: Router, given: Namespace) -> Answered:
    """Show what holds in a project folder, and where it comes from."""
    found = await router.project_settings.at(given.project)
    if given.name is not None:
        name, entry = split(given.name)
        full = setting_changes.full_name(name)
        wanted = full if entry is None else f"{full}.{normalise_task_type(entry, given.name)}"
        chosen = {
            each: value
            for each, value in found.items()
            if each == wanted or each.startswith(f"{wanted}.")
        }
        if not chosen:
            raise InvalidInputError(unknown("setting", "setting", wanted, found))
        found = chosen
    return Answered(found, settings_text.in_folder(found))


def _add_get_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME")
    _add_project(parser, former_folder)
    _add_local(parser)


async def _set(router: Router, given: Namespace) -> Answered:
    changes = assignments(given.assignments)
    if given.project is None:
        answer = await router.update_config(changes, CLIENT, given.dry_run)
        return Answered(answer, text.changed(answer), note=_whose(router))
    answer = await router.project_settings.change(
        given.project, changes, CLIENT, dry_run=given.dry_run
    )
    return Answered(answer, text.changed(answer))


def _add_set_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("assignments", nargs="+", metavar="NAME=VALUE")
    _add_project(parser, folder)
    _add_local(parser)
    _add_dry_run(parser)


async def _unset(router: Router, given: Namespace) -> Answered:
    names = tuple(given.names)
    if given.project is None:
        answer = await router.unset_config(names, CLIENT)
        return Answered(answer, text.changed(answer), note=_whose(router))
    answer = await router.project_settings.unset(given.project, names, CLIENT)
    return Answered(answer, text.changed(answer))


def _add_unset_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME")
    _add_project(parser, former_folder)
    _add_local(parser)


async def _preset(router: Router, given: Namespace) -> Answered:
    if given.preset is None:
        return Answered(dict(presets.PRESETS), _presets_text())
    changes = presets.preset(given.preset)
    answer = await router.update_config(changes, CLIENT, given.dry_run)
    return Answered(answer, text.changed(answer), note=_whose(router))


def _presets_text() -> str:
    known = presets.PRESETS.items()
    rows = ((name, *each.models, each.checked or "") for name, each in known)
    columns = ("preset", "code", "reasoning", "short tasks", "checked")
    sources = (f"{name}: {each.source}" for name, each in known if each.source)
    return "\n".join([terminal.table(columns, rows), "", *sources])


def _add_preset_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("preset", nargs="?", metavar="NAME")
    _add_local(parser)
    _add_dry_run(parser)


async def _history(archive: Archive, given: Namespace) -> Answered:
    changes = await archive.list_setting_changes(given.limit)
    return Answered(changes, settings_text.setting_changes(changes))


def _add_history_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--limit", type=limit, default=20, metavar="N")


async def _projects(router: Router, _given: Namespace) -> Answered:
    found = await router.project_settings.all()
    return Answered(found, settings_text.projects(found))


def _add_project(parser: ArgumentParser, kind: Callable[[str], str]) -> None:
    parser.add_argument(
        "--project",
        type=kind,
        metavar="PATH",
        help="what holds in this folder and below, over what holds everywhere",
    )


def _add_local(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--local",
        action="store_true",
        help="this ledger's own settings, where it has joined a team",
    )


def _add_dry_run(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="show the effect without changing anything"
    )


def _show_all_by_default(parser: ArgumentParser) -> None:
    parser.set_defaults(name=None, project=None, local=False)


_SETTINGS = "the settings"

_ACTIONS = (
    Command(
        "get",
        "show one setting or all",
        "config get session_limit",
        on_ledger(_get, asks_team=True, own=_SETTINGS),
        _add_get_arguments,
    ),
    Command(
        "set",
        "change settings (all or none)",
        "config set token_warning_threshold=100000 task_mappings.translate=qwen2.5:7b",
        on_ledger(_set, asks_team=True, own=_SETTINGS),
        _add_set_arguments,
    ),
    Command(
        "projects",
        "list the folders that have settings of their own",
        "config projects",
        on_ledger(_projects, own=_SETTINGS),
    ),
    Command(
        "unset",
        "reset settings to their defaults, or remove task mappings",
        "config unset session_limit task_mappings.debug",
        on_ledger(_unset, asks_team=True, own=_SETTINGS),
        _add_unset_arguments,
    ),
    Command(
        "preset",
        "map the default task types to models that fit your memory, or list the presets",
        "config preset 16gb --dry-run",
        on_ledger(_preset, asks_team=True, own=_SETTINGS),
        _add_preset_arguments,
    ),
    Command(
        "history",
        "show who changed which setting, and when",
        "config history",
        on_archive(_history),
        _add_history_arguments,
    ),
)

COMMANDS = (
    Command(
        "config",
        "show and change settings",
        "config get",
        on_ledger(_get, asks_team=True, own=_SETTINGS),
        _show_all_by_default,
        _ACTIONS,
    ),
)
