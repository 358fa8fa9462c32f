"""An engine on another machine: named, refused over plain HTTP unless allowed, its password unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import elsewhere
import pytest
import warm_starts
import wire
from ollama_server import Script, scripted_ollama

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("programs_start_at_once")

TASK: wire.JsonObject = {"prompt": "Do it", "task_type": "code_review"}
COMMAND = ("delegate", "Do it", "--task-type", "code_review")
PASSWORD = "hunter2secret"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def where(script: Script) -> Generator[str]:
    """Return the address of an engine that seems to be on another machine."""
    with scripted_ollama(script) as address:
        yield f"http://me:{PASSWORD}@{elsewhere.NAME}:{address.partition(':')[2]}"


@pytest.fixture
def resolver(tmp_path: Path) -> str:
    """Return the folder that lets programs find the engine by its name."""
    return elsewhere.resolver(tmp_path / "resolver")


@pytest.fixture
def program(forked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the program, which finds the engine by its name."""
    if warm_starts.is_forked(forked):
        return warm_starts.command(elsewhere.RESOLVER)
    return forked  # finds it with what is imported at its start


def variables(where: str, resolver: str = "") -> dict[str, str]:
    return {"IMMUNOS_OLLAMA_CHECK": "on", "OLLAMA_HOST": where, "PYTHONPATH": resolver}


def test_a_task_goes_to_another_machine_in_plain_http_only_where_that_is_allowed(
    home: Path, where: str, resolver: str, script: Script, program: tuple[str, ...]
) -> None:
    with wire.ServerProcess(home, program=program, variables=variables(where, resolver)) as server:
        server.initialize()
        refusal = server.refusal("delegate_task", **TASK)
        assert "OLLAMA_HOST is another machine (http://" in refusal
        assert "immunos-mcp config set remote_engine=on" in refusal
        assert (script.requests, PASSWORD in refusal) == ([], False)
        wire.run_json(home, "config", "set", "remote_engine=on")
        first, second = (server.answer("delegate_task", **TASK) for _ in range(2))
        assert "tasks and their files are sent there unencrypted" in first["message"]
        assert "message" not in second
        assert server.finish() == 0
        assert server.stderr() == ""


def test_it_is_told_by_models_doctor_and_delegate_and_its_password_is_not(
    home: Path, where: str, resolver: str, program: tuple[str, ...]
) -> None:
    for is_allowed in (False, True):
        if is_allowed:
            wire.run_json(home, "config", "set", "remote_engine=on")
        for command in (("models",), ("models", "--json"), ("doctor",), COMMAND):
            done = wire.run(home, *command, program=program, variables=variables(where, resolver))
            text = done.stdout + done.stderr
            assert "another machine (http://" in text
            assert PASSWORD not in text


@pytest.mark.parametrize(
    "host", ["http://me:{}@", "me:{}@[", "http://x/me:{}@y", "http://me:{}@gpu:99999"]
)
@pytest.mark.parametrize("command", [("models",), ("doctor",), ("install", "codex"), COMMAND])
def test_the_password_of_a_wrong_address_is_not_told_either(
    home: Path, host: str, command: tuple[str, ...]
) -> None:
    address = host.format(PASSWORD)
    (home / ".codex").mkdir()
    for given in (
        (*command,),
        (*command, "--ollama-host", address),
        (*command, f"--ollama-host={address}"),
    ):
        done = wire.run(home, *given, variables=variables(address))
        assert PASSWORD not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
