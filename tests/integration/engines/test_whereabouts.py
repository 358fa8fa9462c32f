"""Which engines are on this machine, and what ``engines_allowed`` lets tasks be sent to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from ollama_server import Script, scripted_ollama

from immunos_mcp.domain import Engine, EnginesAllowed, EngineState, LocalModel
from immunos_mcp.engines import whereabouts
from immunos_mcp.engines.addresses import address
from immunos_mcp.engines.ollama import Ollama
from immunos_mcp.engines.ollama_responses import models_of
from immunos_mcp.engines.several import Engines
from immunos_mcp.ledger.engines import engine_of, engine_text
from immunos_mcp.rules.models import availability
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from immunos_mcp.answers.encoding import Json

HERE = (
    "", "http://127.0.0.1:11434", "http://127.8.9.1:1", "http://127.1:1", "http://2130706433:1",
    "http://[::1]:11434", "http://[::ffff:127.0.0.1]:1", "http://localhost:1",
)  # fmt: skip
THERE = (
    "192.168.1.5", "10.0.0.1", "[fe80::1]", "[2001:db8::1]", "[::ffff:10.0.0.1]", "1.2.3.4",
    "127.0.0.1.invalid", "localhost.invalid", "0x7f.0.0.256",
)  # fmt: skip
ONLY_HERE = Settings(engines_allowed=EnginesAllowed.THIS_MACHINE)
TINY = {"tiny:latest": LocalModel("tiny")}
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("url", HERE)
async def test_loopback_addresses_are_this_machine(url: str) -> None:
    assert await whereabouts.is_on_this_machine(url)


@pytest.mark.parametrize("host", THERE)
async def test_other_addresses_and_names_that_nothing_resolves_are_not(host: str) -> None:
    assert not await whereabouts.is_on_this_machine(f"http://{host}:11434")


@pytest.mark.parametrize(
    ("resolved", "is_here"),
    [
        (("127.0.1.1",), True),
        (("127.0.0.1", "::1"), True),
        (("192.168.65.2",), False),
        (("127.0.0.1", "192.168.1.5"), False),
        ((), False),
    ],
)
async def test_a_name_is_this_machine_if_all_that_it_stands_for_is(
    resolved: tuple[str, ...], is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getaddrinfo(*_arguments: object, **_named: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 1, 6, "", (each, 0)) for each in resolved]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await whereabouts.is_on_this_machine("http://host.docker.internal:11434") is is_here


async def test_a_probe_says_where_its_engine_is() -> None:
    with scripted_ollama(Script()) as url:
        async with Engines(Ollama(address(url))) as engines:
            seen = await engines.probe()
    assert (seen.state, seen.is_elsewhere) == (EngineState.UP, False)
    async with Engines(Ollama(address("http://1.2.3.4.invalid:1"))) as engines:
        assert (await engines.probe()).is_elsewhere


OTHER = Engine(EngineState.UP, name="gpu", models={"own:latest": LocalModel("own", engine="gpu")})


@pytest.mark.parametrize(
    ("engine", "model", "can_run"),
    [
        (Engine(EngineState.UP, models=TINY), "tiny", True),
        (Engine(EngineState.UP, models=TINY, is_elsewhere=True), "tiny", False),
        (Engine(EngineState.SLOW, is_elsewhere=True), "tiny", False),
        (
            Engine(EngineState.UP, models={"t:1": LocalModel("t:1", is_passed_on=True)}),
            "t:1",
            False,
        ),
        (
            Engine(EngineState.UP, models={**TINY, **OTHER.models}, others=(OTHER,)),
            "gpu/own",
            True,
        ),
        (
            Engine(
                EngineState.UP,
                models={**TINY, **OTHER.models},
                others=(replace(OTHER, is_elsewhere=True),),
            ),
            "own",
            False,
        ),
        (Engine(EngineState.UP, models={"t:cloud": LocalModel("t:cloud")}), "t:cloud", False),
    ],
)
def test_what_is_allowed_on_this_machine_only_is_so_in_a_replay_as_well(
    engine: Engine, model: str, can_run: bool
) -> None:
    again = engine_of(engine_text(engine))
    for seen in (engine, again):
        assert availability(model, seen, ONLY_HERE).can_run is can_run
    assert (availability(model, engine, ONLY_HERE).remedy is None) is can_run
    allowed = availability(model, engine, Settings(cloud_models="on"))  # type: ignore[arg-type]
    assert allowed.can_run is not False


def test_a_model_that_ollama_passes_on_is_known_whatever_its_name() -> None:
    passed_on: Json = {"name": "mine", "remote_model": "gpt-oss:120b", "remote_host": "https://x"}
    found = models_of({"models": [passed_on, {"name": "tiny:latest"}]}, {})
    assert {name: model.is_passed_on for name, model in found.items()} == {
        "mine:latest": True,
        "tiny:latest": False,
    }


def test_engines_on_this_machine_are_stored_as_before() -> None:
    assert "elsewhere" not in engine_text(Engine(EngineState.UP, models=TINY))
    assert "passed_on" not in engine_text(Engine(EngineState.UP, models=TINY))
