"""The programs of integration tests start at once; those of acceptance tests mostly as a user's do."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _programs_start_at_once(programs_start_at_once: None) -> None:
    """Use the fixture in every file of this folder."""
