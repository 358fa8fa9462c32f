"""What ``setup`` says to a person. Pure, but for where the home is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.answers.setup import PresetReason, StepState
from immunos_mcp.assistants import doctor
from immunos_mcp.assistants.findings import Verdict
from immunos_mcp.cli.setup_survey import pull_command
from immunos_mcp.domain import EngineState
from immunos_mcp.options import home_folder
from immunos_mcp.rules.engine_places import is_remote
from immunos_mcp.rules.models import serving_instead
from immunos_mcp.rules.obstacles import OLLAMA_DOWNLOAD, mapping_command
from immunos_mcp.rules.presets import PRESETS
from immunos_mcp.rules.proposal import GIGABYTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from immunos_mcp.answers.setup import PresetStep, SynonymsStep
    from immunos_mcp.assistants.findings import Finding
    from immunos_mcp.cli.setup_survey import Client, Survey
    from immunos_mcp.domain import Engine


_NO_PRESET = {
    PresetReason.MODELS_INSTALLED: "The models in your settings are installed, so they stay.",
    PresetReason.MODELS_CHOSEN: "You have chosen models already, so they stay.",
    PresetReason.OTHER_ENGINES: (
        "Your other engines have models; the presets are for Ollama, so none is proposed."
    ),
    PresetReason.MEMORY_UNKNOWN: (
        "How much memory Ollama has cannot be seen from here; "
        "`immunos-mcp config preset` lists the presets to choose from."
    ),
    PresetReason.MEMORY_TOO_SMALL: (
        "This machine has too little memory for any preset; every task can stay with your assistant."
    ),
}

_STATES = {
    StepState.PROPOSED: "not set up yet",
    StepState.DONE: "set up",
    StepState.DECLINED: "left alone",
    StepState.NOT_NEEDED: "already set up",
    StepState.FAILED: "cannot be set up",
    StepState.NOT_REACHED: "not set up, interrupted",
}


SYNONYMS_QUESTION = (
    "Let synonyms mean your task types, such as bug_fix for debug and security_audit for "
    "vulnerability_detection?"
)


def found(survey: Survey) -> str:
    """Lay out what was found."""
    lines = ["Found on this machine:", *_rows(_found_clients(survey))]
    preset = _NO_PRESET.get(survey.proposal.reason)
    return "\n".join([*lines, *(("", preset) if preset else ())])


def _found_clients(survey: Survey) -> Iterator[tuple[str, str]]:
    for client in survey.clients:
        yield client.title, _state(client)
    if not survey.clients:
        yield "Clients", "none that can be set up (`immunos-mcp install --help` lists them)"
    if survey.has_ollama or not serving_instead(survey.engine):
        yield "Ollama", _ollama(survey.engine, survey.has_ollama)
    for other in survey.engine.others:
        is_up = other.state is EngineState.UP
        yield (
            other.name,
            f"running at {other.address}" if is_up else f"no answer from {other.address}",
        )
    if survey.memory_bytes is not None:
        yield "Memory", _memory(survey)


def _memory(survey: Survey) -> str:
    return f"{(survey.memory_bytes or 0) / GIGABYTE:.0f} GB"


def _models(survey: Survey) -> str:
    return _listed(list(dict.fromkeys(PRESETS[survey.preset.name or ""].models)))


def _state(client: Client) -> str:
    step = client.step
    if step.state is StepState.NOT_NEEDED and step.message is not None:
        return step.message
    said = _STATES[step.state]
    return said if step.message is None else f"{said}: {step.message}"


def _ollama(engine: Engine, is_installed: bool) -> str:
    if engine.state is EngineState.UP:
        count = sum(not model.engine for model in engine.models.values())
        return f"running at {engine.address}, {count} {'model' if count == 1 else 'models'}"
    if engine.state is EngineState.UNKNOWN:
        return "not looked at (--ollama-check is off)"
    if engine.state is not EngineState.DOWN:
        return f"no usable answer from {engine.address}"
    if is_remote(engine.address):
        return f"no answer from {engine.address}"
    return "installed, not running" if is_installed else "not found"


def client_question(client: Client) -> str:
    """Ask whether to set a client up."""
    files = " and ".join(shortened(file) for file in client.step.files)
    return f"Set up {client.title}? It changes {files}."


def preset_question(survey: Survey) -> str:
    """Ask whether to apply the preset."""
    name, memory = survey.preset.name, _memory(survey)
    return (
        f"Use the preset {name}? It gives local tasks to {_models(survey)}, "
        f"which leaves part of your {memory} to other programs."
    )


def client_done(client: Client) -> str:
    """Say what became of a client."""
    (row,) = _rows([(client.title, _state(client))])
    backups = (f"{'':<18}as it was before: {shortened(file)}" for file in client.step.backups)
    return "\n".join([row, *backups])


def preset_done(step: PresetStep) -> str:
    """Say what became of the preset."""
    return _setting_done(f"Preset {step.name}", step)


def synonyms_done(step: SynonymsStep) -> str:
    """Say what became of the synonyms."""
    return _setting_done("Synonyms", step)


def _setting_done(title: str, step: PresetStep | SynonymsStep) -> str:
    said = {
        StepState.DONE: "in use",
        StepState.FAILED: f"not stored: {step.message}",
        StepState.NOT_REACHED: "not used, interrupted",
    }
    (row,) = _rows([(title, said[step.state])])
    return row


def planned(survey: Survey) -> str:
    """Say what setup would do."""
    lines = [
        f"  set up {client.title}: change {' and '.join(map(shortened, client.step.files))}"
        for client in survey.clients
        if client.step.state is StepState.PROPOSED
    ]
    if survey.preset.state is StepState.PROPOSED:
        lines.append(f"  use the preset {survey.preset.name}: {_models(survey)}")
    if survey.synonyms.state is StepState.PROPOSED:
        lines.append("  let synonyms mean your task types: set task_synonyms to on")
    return "\n".join(["Setup would:", *(lines or ["  change nothing"])])


def checked(findings: tuple[Finding, ...]) -> str:
    """Say what the doctor found, in full where something is not in order."""
    notable = tuple(each for each in findings if each.verdict is not Verdict.OK)
    if not notable:
        return f"Checked with `immunos-mcp doctor`: all {len(findings)} checks passed."
    return f"Checked with `immunos-mcp doctor`:\n{doctor.report(notable)}"


def next_steps(survey: Survey) -> str:
    """Say what is left to do by hand, in order."""
    steps = [*_ollama_steps(survey), *_client_steps(survey)]
    numbered = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    return "\n".join(["What to do next:", *numbered])


def _ollama_steps(survey: Survey) -> Iterator[str]:
    state = survey.engine.state
    served = serving_instead(survey.engine)
    if served and survey.proposal.reason is PresetReason.OTHER_ENGINES:
        yield f"Give tasks to a model that is served: {mapping_command(served[0])}"
    if served and survey.proposal.reason is not PresetReason.MODELS_CHOSEN:
        return
    if state is EngineState.DOWN and is_remote(survey.engine.address):
        yield f"Start Ollama at {survey.engine.address}, or name another address in OLLAMA_HOST."
    elif state is EngineState.DOWN and not survey.has_ollama:
        until = "; until then every task stays with Claude"
        if served:
            until = ", or map your tasks to the models of your other engines"
        yield f"Install Ollama from {OLLAMA_DOWNLOAD}{until}."
    elif state is EngineState.DOWN:
        yield "Start Ollama: ollama serve"
    elif state not in {EngineState.UP, EngineState.UNKNOWN}:
        yield "Find out why Ollama does not answer: immunos-mcp doctor"
    for model in survey.missing_models():
        yield f"Get the model: {pull_command(model)}"


def _client_steps(survey: Survey) -> Iterator[str]:
    ready = {StepState.PROPOSED, StepState.DONE}
    changed = [client.title for client in survey.clients if client.step.state in ready]
    if changed:
        yield f"Restart {_listed(changed)}."
    if changed or any(client.step.state is StepState.NOT_NEEDED for client in survey.clients):
        yield "Ask for a code review, then see where the budget stands: immunos-mcp status"
    else:
        yield "Try it: immunos-mcp route --task-type code_review --classification routine"


def shortened(file: str) -> str:
    """Return a path with ``~`` for the home."""
    home = home_folder()
    path = Path(file)
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else file


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"  {name:<16}{text}" for name, text in rows]
