"""What ``setup`` looks at before it asks anything; looking changes nothing."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from immunos_mcp.answers.setup import (
    ClientStep,
    OllamaFound,
    PresetProposal,
    PresetReason,
    PresetStep,
    SetupAnswer,
    StepState,
    SynonymsStep,
)
from immunos_mcp.assistants import registry
from immunos_mcp.assistants.config_files import InstallError
from immunos_mcp.assistants.configuration import Setup
from immunos_mcp.assistants.install import plan_install
from immunos_mcp.domain import Engine, EngineState
from immunos_mcp.errors import LedgerError
from immunos_mcp.ledger.examination import examine, examine_database
from immunos_mcp.rules.engine_places import is_remote
from immunos_mcp.rules.proposal import models_to_pull, propose
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from msgspec import Struct

    from immunos_mcp.assistants.configuration import Assistant, Configuration, Launch
    from immunos_mcp.assistants.install import Plan
    from immunos_mcp.database_address import DatabaseAddress
    from immunos_mcp.options import Options


class Client(NamedTuple):
    """A client that is on this machine.

    Attributes:
        title: its name as people call it.
        step: what setup has to do with it.
        plan: how it would be set up; ``None``: there is nothing to do.
    """

    title: str
    step: ClientStep
    plan: Plan | None = None


class Survey(NamedTuple):
    """What is on this machine, and what setup would do about it.

    Attributes:
        clients: the clients that were found.
        engine: the local engine.
        has_ollama: whether Ollama's program is on the PATH.
        memory_bytes: this machine's memory; ``None``: the system does not say.
        proposal: the preset that suits it.
        preset: what setup has to do about that.
        synonyms: what it has to do about synonyms of the task types.
    """

    clients: tuple[Client, ...]
    engine: Engine
    has_ollama: bool
    memory_bytes: int | None
    proposal: PresetProposal
    preset: PresetStep
    synonyms: SynonymsStep

    def is_open(self) -> bool:
        """Tell whether anything is proposed."""
        return StepState.PROPOSED in self.states()

    def states(self) -> set[StepState]:
        """Return how far the steps came."""
        clients = (client.step.state for client in self.clients)
        return {self.preset.state, self.synonyms.state, *clients}

    def with_preset(self, name: str) -> Survey:
        """Return the survey with another preset proposed."""
        proposal = PresetProposal(self.proposal.reason, name, models_to_pull(name, self.engine))
        return self._replace(proposal=proposal, preset=replace(self.preset, name=name))

    def missing_models(self) -> tuple[str, ...]:
        """Return the models to install, unless the preset that needs them is not wanted."""
        wanted = {StepState.PROPOSED, StepState.DONE, StepState.NOT_NEEDED}
        return self.proposal.pull if self.preset.state in wanted else ()

    def answer(self, findings: tuple[Struct, ...] | None, *, dry_run: bool) -> SetupAnswer:
        """Return what setup answers."""
        engine = self.engine
        is_up = engine.state is EngineState.UP
        models = sum(not model.engine for model in engine.models.values()) if is_up else None
        others = {other.name: other.state for other in engine.others} or None
        return SetupAnswer(
            dry_run,
            tuple(client.step for client in self.clients),
            OllamaFound(engine.state, self.has_ollama, engine.address or None, models, others),
            self.preset,
            self.synonyms,
            tuple(pull_command(model) for model in self.missing_models()),
            findings,
            self.memory_bytes,
        )


def pull_command(model: str) -> str:
    """Return the command that installs a model."""
    return f"ollama pull {model}"


def survey(chosen: Options, launch: Launch) -> Survey:
    """Look at the clients, the local engine, the memory and the settings.

    Args:
        chosen: this run's options.
        launch: how a client would start this program.
    """
    engine = _engine(chosen)
    memory = memory_bytes()
    settings = _settings(chosen.database)
    proposal = propose(None if is_remote(engine.address) else memory, engine, settings)
    is_proposed = proposal.reason is PresetReason.FITS_MEMORY
    clients = tuple(_clients(Setup(launch, os.environ)))
    has_synonyms = settings.task_synonyms != Settings().task_synonyms
    return Survey(
        clients,
        engine,
        shutil.which("ollama") is not None,
        memory,
        proposal,
        PresetStep(_proposed(is_proposed), proposal.reason, proposal.preset),
        SynonymsStep(_proposed(bool(clients) and not has_synonyms)),
    )


def _proposed(is_proposed: bool) -> StepState:  # the name says it
    return StepState.PROPOSED if is_proposed else StepState.NOT_NEEDED


def memory_bytes() -> int | None:
    """Return this machine's memory; ``None`` where the system does not say."""
    if not hasattr(os, "sysconf"):
        return None
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return page * pages if min(page, pages) > 0 else None


def _clients(setup: Setup) -> Iterator[Client]:
    for name in registry.NAMES:
        assistant = registry.assistant(name)
        files = assistant.configurations(setup)
        if registry.is_found(assistant, files):
            yield _client(assistant, files)


def _client(assistant: Assistant, files: tuple[Configuration, ...]) -> Client:
    name, title = assistant.name, assistant.title
    try:
        plan = plan_install(assistant, files)
    except InstallError as error:
        return Client(title, ClientStep(name, StepState.FAILED, message=reason_of(error)))
    if not plan.changes:
        return Client(title, ClientStep(name, StepState.NOT_NEEDED))
    if any(change.held_ours for change in plan.changes):
        message = f"set up differently; `immunos-mcp install {name} --print` shows the difference"
        return Client(title, ClientStep(name, StepState.NOT_NEEDED, message=message))
    changed = tuple(str(change.file) for change in plan.changes)
    return Client(title, ClientStep(name, StepState.PROPOSED, changed), plan)


def reason_of(error: InstallError) -> str:
    """Return why a client cannot be set up, without what to put into its files by hand."""
    return str(error).partition(". ")[0]


def _engine(chosen: Options) -> Engine:
    if not chosen.ollama_check:
        return Engine(EngineState.UNKNOWN)
    from immunos_mcp.engines import watch  # an event loop that nothing else here needs

    return watch.probe_now(chosen)


def _settings(database: Path | DatabaseAddress) -> Settings:
    # What is wrong with the ledger is said where a preset would be stored in it.
    with suppress(LedgerError):
        if not isinstance(database, Path):
            return examine_database(database).settings or Settings()
        if database.exists():
            return examine(database).settings or Settings()
    return Settings()
