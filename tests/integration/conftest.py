"""The programs of integration tests start at once; those of acceptance tests mostly as a user's do.

Their ledgers are there at once too.
"""

from __future__ import annotations

import made_ledgers
import pytest


@pytest.fixture(scope="module", autouse=True)
def _programs_start_at_once(programs_start_at_once: None) -> None:
    """Use the fixture in every file of this folder."""


@pytest.fixture(autouse=True)
def _ledgers_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy an empty ledger where one is made; files that test the making replace the fixture."""
    made_ledgers.copy_new_ones(monkeypatch)
