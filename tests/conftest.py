"""Fixtures that several files share."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import pytest
import warm_starts
import wire
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

# Compiling the tests anew, with what makes their assertions speak, would take each process ten seconds.
sys.dont_write_bytecode = False
# A deadline measures how busy the machine is, and fails where nothing is wrong.
settings.register_profile("immunos", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("explore", deadline=None, max_examples=300)
settings.load_profile("immunos")


def pytest_xdist_auto_num_workers() -> int:
    """Run one test more than there are processors: most wait for a process or a disk for part of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each process begin elsewhere, so that it finds compiled what another has imported already."""
    report = yield
    if isinstance(collector, pytest.Directory) and report.passed:
        nodes = report.result
        first = (
            len(nodes) * _process_number() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        )
        report.result = nodes[first:] + nodes[:first]
    return report


def _process_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into one order in all processes."""
    items.sort(key=lambda item: item.path)


def pytest_collection_finish() -> None:
    """Let collections of garbage go past what stays until the end, and come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


collect_ignore = (
    [] if os.environ.get("IMMUNOS_LIVE_OLLAMA") == "1" else ["acceptance/test_live_ollama.py"]
)
"""The live test runs only where its user asks for it, on an engine of the user's own."""


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take models for granted, unless a test has an engine of its own."""
    monkeypatch.setenv("IMMUNOS_OLLAMA_CHECK", "off")


@pytest.fixture(scope="session")
def forked() -> tuple[str, ...]:
    """The program as a command that starts at once, where how it starts is not what is tested."""
    # Linux alone; and what is forked would not be measured.
    if hasattr(os, "pidfd_open") and not wire.is_measured():
        return warm_starts.command()
    return wire.PROGRAM


@pytest.fixture(scope="module")
def programs_start_at_once(forked: tuple[str, ...]) -> Iterator[None]:
    """Fork the programs that a file's tests run."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wire, "PROGRAM", forked)
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder for programs that are run."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def ledger_file(home: Path) -> Path:
    """Where programs run with ``home`` keep their ledger; nothing is there yet."""
    return wire.ledger_path(home)
