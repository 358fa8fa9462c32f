"""What becomes of a decision whose local model cannot run, by the rules and through the programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import wire
from hypothesis import given
from hypothesis import strategies as st
from ollama_server import Manner, Script, scripted_ollama

from immunos_mcp.domain import (
    ChangedBy,
    Classification,
    Engine,
    EngineState,
    LocalModel,
    Provider,
    Reason,
    Switch,
    Task,
)
from immunos_mcp.rules.circumstances import Circumstances
from immunos_mcp.rules.models import named_models
from immunos_mcp.rules.names import canonical_model
from immunos_mcp.rules.policy import decide
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A = 180_000
CODER = "qwen2.5-coder:7b"
REVIEW = Task("code_review", Classification.ROUTINE)
SETTINGS = Settings(
    task_mappings={
        "code_review": f"{CODER},llama3:8b,claude-opus-4-8",
        "debug": "gpt-oss:120b-cloud",
    },
    default_local_model="qwen2.5:1.5b",
)


def up(*names: str, **sizes: int) -> Engine:
    models = {
        canonical_model(name): LocalModel(name, size_bytes=sizes.get(name, 0)) for name in names
    }
    return Engine(EngineState.UP, models=models)


def chosen(
    engine: Engine | None, task: Task = REVIEW, total: int = 0, settings: Settings = SETTINGS
) -> tuple[str, bool | None, str | None]:
    decision = decide(settings, Circumstances(total, engine=engine), task)
    return decision.model, decision.available, decision.remedy


def test_a_model_that_is_there_is_chosen_whatever_its_spelling() -> None:
    assert chosen(up("Qwen2.5-Coder:7B")) == (CODER, True, None)


@pytest.mark.parametrize("engine", [None, Engine(EngineState.UNKNOWN), Engine(EngineState.SLOW)])
def test_what_is_not_known_is_taken_for_granted(engine: Engine | None) -> None:
    assert chosen(engine) == (CODER, None, None)


def test_a_mapped_task_goes_to_its_further_models_in_order_then_to_claude() -> None:
    pull = f"ollama pull {CODER}"
    assert chosen(up("llama3:8b")) == ("llama3:8b", True, pull)
    assert chosen(up("mistral:7b")) == ("claude-opus-4-8", None, pull)


def test_other_sizes_of_the_model_then_the_default_one_come_before_claude() -> None:
    settings = Settings(task_mappings={"code_review": CODER}, default_local_model="qwen2.5:1.5b")
    engine = Engine(
        EngineState.UP,
        models={
            name: LocalModel(name, size_bytes=size)
            for name, size in (
                ("qwen2.5-coder:1.5b", 1),
                ("qwen2.5-coder:14b", 14),
                ("qwen2.5:1.5b", 1),
                ("mistral:7b", 7),
            )
        },
    )
    assert chosen(engine, settings=settings)[0] == "qwen2.5-coder:14b"
    assert chosen(up("qwen2.5:1.5b", "mistral:7b"), settings=settings)[0] == "qwen2.5:1.5b"
    assert chosen(up("mistral:7b"), settings=settings)[0] == "claude-sonnet-4.5"


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        (EngineState.DOWN, "ollama serve"),
        (EngineState.REFUSED, "immunos-mcp doctor"),
        (EngineState.NOT_OLLAMA, "immunos-mcp doctor"),
    ],
)
def test_without_an_engine_the_budget_rows_stand_and_mapped_tasks_go_to_claude(
    state: EngineState, remedy: str
) -> None:
    decision = decide(SETTINGS, Circumstances(0, engine=Engine(state)), REVIEW)
    assert (decision.model, decision.reason) == ("claude-opus-4-8", Reason.TASK_OPTIMIZED)
    assert (decision.changed_by, decision.table_model) == (ChangedBy.AVAILABILITY, CODER)
    assert decision.remedy == remedy
    hard = decide(SETTINGS, Circumstances(A, engine=Engine(state)), REVIEW)
    assert (hard.model, hard.available, hard.remedy) == (CODER, False, remedy)
    assert (hard.changed_by, hard.table_model) == (None, None)


def test_a_model_that_cannot_complete_text_is_not_fit() -> None:
    embedder = LocalModel(CODER, capabilities=frozenset({"embedding"}))
    engine = Engine(EngineState.UP, models={CODER: embedder})
    assert chosen(engine) == ("claude-opus-4-8", None, "immunos-mcp models")


def test_models_that_leave_the_machine_are_chosen_only_where_that_is_allowed() -> None:
    debug = Task("debug", Classification.ROUTINE)
    engine = up("gpt-oss:120b-cloud", "qwen2.5:1.5b")
    allow = "immunos-mcp config set cloud_models=on"
    assert chosen(engine, debug) == ("qwen2.5:1.5b", True, allow)
    assert chosen(engine, debug, total=A) == ("qwen2.5:1.5b", True, None)
    allowed = Settings(task_mappings=SETTINGS.task_mappings, cloud_models=Switch.ON)
    assert chosen(engine, debug, settings=allowed) == ("gpt-oss:120b-cloud", True, None)


names = st.sampled_from([CODER, "llama3:8b", "qwen2.5:1.5b", "mistral:7b", "gpt-oss:120b-cloud"])


@given(
    state=st.sampled_from(EngineState),
    installed=st.sets(names),
    total=st.sampled_from([0, 150_000, A]),
    task=st.builds(
        Task, st.sampled_from(["code_review", "debug", "essay"]), st.sampled_from(Classification)
    ),
)
def test_the_reason_never_changes_and_what_is_named_as_running_is_installed(
    state: EngineState, installed: set[str], total: int, task: Task
) -> None:
    models = {canonical_model(name): LocalModel(name) for name in installed}
    engine = Engine(state, models=models if state is EngineState.UP else {})
    bare = decide(SETTINGS, Circumstances(total), task)
    decision = decide(SETTINGS, Circumstances(total, engine=engine), task)
    assert (decision.reason, decision.warning_level) == (bare.reason, bare.warning_level)
    assert (decision.table_model or decision.model) == bare.model
    assert (decision.changed_by is None) == (decision.model == bare.model)
    if decision.available:
        assert canonical_model(decision.model) in engine.models
    if decision.reason is not Reason.TASK_OPTIMIZED:
        assert decision.model == bare.model
    elif decision.provider is Provider.OLLAMA:
        assert decision.available is not False
    assert decide(SETTINGS, Circumstances(total, engine=engine), task) == decision


def test_every_local_model_of_the_settings_is_named_with_what_it_is_for() -> None:
    assert named_models(SETTINGS) == {
        CODER: ("code_review",),
        "llama3:8b": ("code_review",),
        "gpt-oss:120b-cloud": ("debug",),
        "qwen2.5:1.5b": ("default",),
    }


@pytest.fixture
def script() -> Script:
    return Script(models={"llama3:8b": 8192}, loaded=())


@pytest.fixture
def host(script: Script) -> Iterator[dict[str, str]]:
    with scripted_ollama(script) as found:
        yield {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": found}


def run(home: Path, host: dict[str, str], *arguments: str) -> Any:
    ran = wire.run(home, *arguments, "--json", variables=host)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


ROUTE = ("route", "--task-type", "code_review", "--classification", "routine")


def test_the_command_line_looks_at_the_engine_and_logs_what_it_changed(
    home: Path, host: dict[str, str], script: Script
) -> None:
    answer = run(home, host, *ROUTE)
    assert (answer["model"], answer["changed_by"]) == ("claude-sonnet-4.5", "availability")
    assert answer["remedy"] == f"ollama pull {CODER}"
    run(home, host, "config", "set", f"task_mappings.code_review={CODER},llama3:8b")
    answer = run(home, host, *ROUTE)
    assert (answer["model"], answer["available"]) == ("llama3:8b", True)
    script.models[CODER] = 4096
    assert run(home, host, *ROUTE)["model"] == CODER
    stored = "SELECT model, table_model, changed_by, available FROM immunos_mcp_decision"
    assert wire.rows(wire.ledger_path(home), stored) == [
        ("claude-sonnet-4.5", CODER, "availability", None),
        ("llama3:8b", CODER, "availability", 1),
        (CODER, None, None, 1),
    ]
    rehearsal = run(home, host, "config", "set", "session_limit=300000", "--dry-run")["rehearsal"]
    assert rehearsal == {
        "decisions": 3,
        "changed": 0,
        "moved_to_ollama": 0,
        "moved_to_claude": 0,
        "kept_tokens": 0,
        "spent_tokens": 0,
    }
    script.manner = Manner.LOCKED
    assert run(home, host, *ROUTE)["remedy"] == "immunos-mcp doctor"
    assert run(home, host, *ROUTE, "--ollama-check", "off")["model"] == CODER


def test_models_are_listed_with_what_is_missing(home: Path, host: dict[str, str]) -> None:
    answer = run(home, host, "models")
    lines = {line["model"]: line for line in answer["models"]}
    assert (answer["state"], answer["version"]) == ("up", "0.33.0-rc2")
    assert lines[CODER]["installed"] is False
    assert lines[CODER]["remedy"] == f"ollama pull {CODER}"
    assert (lines["llama3:8b"]["installed"], lines["llama3:8b"]["context_length"]) == (True, 8192)
    shown = wire.run(home, "models", variables=host).stdout.splitlines()
    assert shown[0] == f"Ollama 0.33.0-rc2 at http://{host['OLLAMA_HOST']}: up"


def test_a_server_knows_the_engine_soon_and_says_so_in_its_status(
    home: Path, host: dict[str, str]
) -> None:
    with wire.ServerProcess(home, variables=host) as server:
        server.initialize()
        while "missing" not in (known := server.answer("get_session_status")["ollama"]):
            assert known["state"] == "unknown"
        assert known == {"state": "up", "missing": [CODER, "deepseek-r1:14b", "qwen2.5:1.5b"]}
        answer = server.answer("route_task", task_type="debug", classification="routine")
        assert (answer["provider"], answer["remedy"]) == ("claude", f"ollama pull {CODER}")
        assert server.finish() == 0


def test_a_bad_address_of_the_engine_is_wrong_usage(home: Path) -> None:
    ran = wire.run(home, *ROUTE, "--ollama-check", "on", "--ollama-host", "ftp://x")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--ollama-host: must be an address" in ran.stderr
