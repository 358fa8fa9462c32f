"""The guided start: what is on this machine, what to set up, and what to do next.

All questions come before the first change. An interruption there ends the process at once, as in every
command; afterwards it takes effect when the step under way is done.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from immunos_mcp.answers.encoding import to_json
from immunos_mcp.answers.setup import StepState, SynonymsStep
from immunos_mcp.assistants import doctor, install
from immunos_mcp.assistants.config_files import InstallError
from immunos_mcp.assistants.findings import DoctorContext
from immunos_mcp.cli import setup_text
from immunos_mcp.cli.clients import options_of, own_launch
from immunos_mcp.cli.command import PROGRAM, Command
from immunos_mcp.cli.console import CLIENT, EXIT_FAILED, EXIT_FINE, chosen_options, print_text
from immunos_mcp.cli.setup_survey import reason_of, survey
from immunos_mcp.errors import ImmunosError, any_of
from immunos_mcp.ledger.connections.inline import run_sync
from immunos_mcp.ledger.connections.opening import inline_ledger
from immunos_mcp.router import Router
from immunos_mcp.rules.presets import preset as preset_changes

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping
    from types import FrameType, TracebackType

    from immunos_mcp.assistants.findings import Finding
    from immunos_mcp.cli.setup_survey import Client, Survey
    from immunos_mcp.options import Options
    from immunos_mcp.rules.setting_kinds import SettingChangeValue

EXIT_USAGE = 2


def _setup(given: Namespace) -> int:
    chosen = chosen_options(given)
    asks = not (given.yes or given.dry_run)
    if asks and (given.json or not sys.stdin.isatty()):
        where = "--json" if given.json else "no terminal to ask on"
        print(
            f"{PROGRAM}: setup with {where} needs --yes, which takes every proposal, "
            "or --dry-run, which only shows them",
            file=sys.stderr,
        )
        return EXIT_USAGE
    tell = _silent if given.json else print_text
    seen = survey(chosen, own_launch(given))
    tell(setup_text.found(seen))
    if given.dry_run:
        tell(f"\n{setup_text.planned(seen)}")
        return _end(given, seen, None)
    if asks and seen.is_open():
        try:
            seen = _asked(seen)
        except EOFError:
            print(f"\n{PROGRAM}: stopped; nothing was changed", file=sys.stderr)
            return EXIT_FAILED
    with _Interruption() as interruption:
        seen = _applied(seen, chosen, interruption, tell)
    if interruption.came:
        print(f"{PROGRAM}: interrupted; run setup again for the rest", file=sys.stderr)
    return _end(given, seen, doctor.diagnose(DoctorContext(chosen, os.environ, options_of)))


def _silent(_text: str) -> None:
    """Say nothing: with ``--json`` the answer is all that is printed."""


def _end(given: Namespace, seen: Survey, findings: tuple[Finding, ...] | None) -> int:
    if given.json:
        print_text(to_json(seen.answer(findings, dry_run=given.dry_run)))
    else:
        parts = [] if findings is None else [setup_text.checked(findings)]
        for text in (*parts, setup_text.next_steps(seen)):
            print_text(f"\n{text}")
    is_broken = findings is not None and doctor.has_failed(findings)
    has_failed = is_broken or seen.states() & {StepState.FAILED, StepState.NOT_REACHED}
    return EXIT_FAILED if has_failed else EXIT_FINE


class _Interruption:
    """Takes Ctrl-C after the step that is under way.

    Attributes:
        came: whether it was pressed.
    """

    def __init__(self) -> None:
        self.came = False
        self._former = signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Self:
        signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._former)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True


def _asked(seen: Survey) -> Survey:
    """Return the survey with what was declined.

    Raises:
        EOFError: the input ended.
    """
    print()
    clients = tuple(_asked_client(client) for client in seen.clients)
    return _asked_synonyms(_asked_preset(seen._replace(clients=clients)))


def _asked_client(client: Client) -> Client:
    if client.step.state is not StepState.PROPOSED:
        return client
    if _reply(setup_text.client_question(client)) == "y":
        return client
    return client._replace(step=replace(client.step, state=StepState.DECLINED, files=()))


def _asked_preset(seen: Survey) -> Survey:
    if seen.preset.state is not StepState.PROPOSED:
        return seen
    reply = _reply(setup_text.preset_question(seen), seen.proposal.smaller)
    if reply == "n":
        return seen._replace(preset=replace(seen.preset, state=StepState.DECLINED))
    return seen if reply == "y" else seen.with_preset(reply)


def _asked_synonyms(seen: Survey) -> Survey:
    if seen.synonyms.state is not StepState.PROPOSED or _reply(setup_text.SYNONYMS_QUESTION) == "y":
        return seen
    return seen._replace(synonyms=SynonymsStep(StepState.DECLINED))


def _reply(question: str, others: tuple[str, ...] = ()) -> str:
    """Ask until the answer is yes (``y``), no (``n``) or one of the others."""
    choices = "/".join(("Y", "n", *others))
    while True:
        said = input(f"{question} [{choices}] ").strip().lower()
        if said in {"", "y", "yes"}:
            return "y"
        if said in {"n", "no"}:
            return "n"
        if said in others:
            return said
        print(f"Please answer {any_of(('y', 'n', *others))}.")


def _applied(
    seen: Survey, chosen: Options, interruption: _Interruption, tell: Callable[[str], None]
) -> Survey:
    """Do what is proposed still, one step after the other, and say what became of each."""
    if not seen.is_open():
        return seen
    tell("")
    clients: list[Client] = []
    for client in seen.clients:
        done = client
        if client.step.state is StepState.PROPOSED:
            done = _interrupted(client) if interruption.came else _installed(client)
            tell(setup_text.client_done(done))
        clients.append(done)
    preset, synonyms = seen.preset, seen.synonyms
    if preset.state is StepState.PROPOSED:
        state, message = _stored(preset_changes(preset.name or ""), chosen, interruption)
        preset = replace(preset, state=state, message=message)
        tell(setup_text.preset_done(preset))
    if synonyms.state is StepState.PROPOSED:
        synonyms = SynonymsStep(*_stored({"task_synonyms": "on"}, chosen, interruption))
        tell(setup_text.synonyms_done(synonyms))
    return seen._replace(clients=tuple(clients), preset=preset, synonyms=synonyms)


def _interrupted(client: Client) -> Client:
    return client._replace(step=replace(client.step, state=StepState.NOT_REACHED, files=()))


def _installed(client: Client) -> Client:
    assert client.plan is not None
    try:
        backups = install.apply(client.plan)
    except InstallError as error:
        failed = replace(client.step, state=StepState.FAILED, files=(), message=reason_of(error))
        return client._replace(step=failed)
    done = replace(client.step, state=StepState.DONE, backups=tuple(map(str, backups)))
    return client._replace(step=done)


def _stored(
    changes: Mapping[str, SettingChangeValue], chosen: Options, interruption: _Interruption
) -> tuple[StepState, str | None]:
    """Change settings; return how far that came, and why it failed."""
    if interruption.came:
        return StepState.NOT_REACHED, None
    try:
        with inline_ledger(chosen.database) as ledger:
            run_sync(Router(ledger, chosen.session).update_config(changes, CLIENT))
    except ImmunosError as error:
        return StepState.FAILED, str(error)
    return StepState.DONE, None


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="take every proposal without asking")
    parser.add_argument("--dry-run", action="store_true", help="only show what it would do")


COMMANDS = (
    Command(
        "setup",
        "find the clients and Ollama on this machine, and set up what you choose",
        "setup --dry-run",
        _setup,
        _add_arguments,
    ),
)
