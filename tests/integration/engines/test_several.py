"""Several engines at once: whose model a name means, and what is said of each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ollama_server import Manner, Script, scripted_ollama

from immunos_mcp.answers.setup import PresetProposal, PresetReason
from immunos_mcp.domain import Engine, EngineState, LocalModel
from immunos_mcp.engines.addresses import LLAMA_CPP_PORT, address
from immunos_mcp.engines.connection import EngineConnection
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.openai_compatible import OpenAICompatible
from immunos_mcp.engines.responses import EngineBusyError
from immunos_mcp.engines.several import Engines, merged
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.ledger.engines import engine_of, engine_text
from immunos_mcp.rules.local_models import local_models
from immunos_mcp.rules.models import (
    Availability,
    availability,
    engine_name,
    fallback_models,
    find_model,
)
from immunos_mcp.rules.names import canonical_model
from immunos_mcp.rules.proposal import GIGABYTE, propose
from immunos_mcp.rules.settings import Settings
from immunos_mcp.rules.status import engine_status

if TYPE_CHECKING:
    from collections.abc import Sequence

UP = EngineState.UP


def engine(name: str, models: Sequence[LocalModel], state: EngineState = UP) -> Engine:
    return Engine(
        state,
        f"http://127.0.0.1/{name}",
        models={canonical_model(model.name): model for model in models},
        name=name,
    )


OLLAMA = engine("", [LocalModel("tiny"), LocalModel("coder:7b")])
LLAMA = engine("llama", [LocalModel("tiny", engine="llama"), LocalModel("own", engine="llama")])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tiny", "tiny:latest"),
        ("ollama/tiny", "tiny:latest"),
        ("llama/tiny", "llama/tiny:latest"),
        ("own", "own:latest"),
        ("Llama/own", "own:latest"),
        ("ollama/own", None),
        ("llama/coder:7b", None),
        ("nosuch", None),
    ],
)
def test_a_name_means_one_model_also_when_it_is_replayed(name: str, found: str | None) -> None:
    seen = merged(OLLAMA, [LLAMA])
    assert find_model(name, seen) == found
    again = engine_of(engine_text(seen))
    assert find_model(name, again) == found
    assert availability(name, again, Settings()) == availability(name, seen, Settings())


def test_of_two_models_with_one_name_the_loaded_one_is_meant() -> None:
    loaded = engine("llama", [LocalModel("tiny", engine="llama", is_loaded=True)])
    seen = merged(OLLAMA, [loaded])
    assert engine_name("tiny", seen) == "llama"
    assert engine_name("ollama/tiny", seen) == "ollama"
    assert [line.model for line in local_models(seen, Settings()).models][-3:] == [
        "tiny",
        "coder:7b",
        "ollama/tiny",
    ]


@pytest.mark.parametrize(
    ("state", "name", "can_run", "remedy"),
    [
        (UP, "llama/nosuch", False, "immunos-mcp models"),
        (EngineState.DOWN, "llama/tiny", False, "immunos-mcp doctor"),
        (EngineState.SLOW, "llama/tiny", None, None),
        (EngineState.DOWN, "nosuch", False, "ollama pull nosuch"),
    ],
)
def test_what_an_engine_lacks_is_fixed_there(
    state: EngineState, name: str, can_run: bool | None, remedy: str | None
) -> None:
    other = LLAMA if state is UP else engine("llama", [], state)
    seen = merged(OLLAMA, [other])
    assert availability(name, seen, Settings()) == Availability(can_run=can_run, remedy=remedy)


def test_models_of_another_engine_run_while_ollama_does_not() -> None:
    seen = merged(Engine(EngineState.DOWN), [LLAMA])
    settings = Settings(default_local_model="own", task_mappings={})
    assert availability("own", seen, settings).can_run
    assert availability("coder:7b", seen, settings).remedy == "ollama serve"
    status = engine_status(seen, settings)
    assert (status.state, status.missing, status.others) == (None, None, {"llama": UP})
    defaults = engine_status(seen, Settings())
    assert (defaults.state, len(defaults.missing or ())) == (EngineState.DOWN, 3)


def test_who_has_models_elsewhere_gets_no_preset_for_an_ollama_that_is_not_there() -> None:
    seen = merged(Engine(EngineState.DOWN), [LLAMA])
    proposal = propose(64 * GIGABYTE, seen, Settings())
    assert proposal == PresetProposal(PresetReason.OTHER_ENGINES)
    locked = merged(Engine(EngineState.REFUSED), [LLAMA])
    assert propose(64 * GIGABYTE, locked, Settings()).preset == "48gb"


@pytest.mark.anyio
async def test_a_server_that_is_none_or_another_program_has_a_state_of_its_own() -> None:
    script = Script(manner=Manner.ANOTHER_SERVICE)
    with scripted_ollama(Script()) as where, scripted_ollama(script) as another:
        others = {
            "web": OpenAICompatible("web", address(another)),
            "nobody": OpenAICompatible("nobody", address("127.0.0.1:1")),
        }
        async with Engines(Ollama(address(where)), others) as engines:
            seen = await engines.probe()
            script.manner = Manner.LOCKED
            locked = await engines.probe()
    states = {other.name: other.state for other in seen.others}
    assert (seen.state, states) == (
        UP,
        {"web": EngineState.NOT_COMPATIBLE, "nobody": EngineState.DOWN},
    )
    assert locked.others[0].state is EngineState.REFUSED


def test_an_address_may_hold_a_key_which_is_never_shown() -> None:
    where = address("http://:SECRET@127.0.0.1:1/v1", "--engine", LLAMA_CPP_PORT)
    assert where.credentials == ("", "SECRET")
    assert "SECRET" not in repr(where)
    assert OpenAICompatible("x", where).where.url == "http://127.0.0.1:1"
    assert address("127.0.0.1", "--engine", LLAMA_CPP_PORT).url == "http://127.0.0.1:8080"
    with pytest.raises(InvalidInputError) as refused:
        address("me:SECRET@host/v1?api_key=SECRET", "--engine")
    assert "SECRET" not in str(refused.value)


def test_a_key_that_a_server_repeats_is_not_shown() -> None:
    where = address("http://:SECRET@127.0.0.1:1", "--engine", LLAMA_CPP_PORT)
    connection = EngineConnection(where, "x", "start it")
    with pytest.raises(EngineBusyError) as failed, connection.translated("m"):
        raise EngineBusyError("incorrect key SECRET")
    assert str(failed.value) == "incorrect key ***"


def test_of_equal_sizes_the_one_in_memory_comes_first_also_when_it_is_replayed() -> None:
    sizes = [LocalModel("m:a", size_bytes=7), LocalModel("m:b", size_bytes=7, is_loaded=True)]
    seen = engine("", [*sizes, LocalModel("m:c", size_bytes=9), LocalModel("n", is_loaded=True)])
    expected = ["m:c", "m:b", "m:a", Settings().default_local_model]
    assert fallback_models("m:d", seen, Settings()) == expected
    assert fallback_models("m:d", engine_of(engine_text(seen)), Settings()) == expected
