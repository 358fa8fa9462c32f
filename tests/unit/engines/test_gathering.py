"""How long the pieces of an answer are left to gather before they are read together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.engines.connection import gathering_seconds


@given(st.floats(0, 1800))
def test_the_end_of_an_answer_is_noticed_at_most_a_hundredth_of_its_time_late(
    elapsed: float,
) -> None:
    assert 0 <= gathering_seconds(elapsed) <= min(elapsed * 0.01, 0.05)


def test_pieces_of_a_long_answer_gather_as_long_as_they_may() -> None:
    assert gathering_seconds(5) == gathering_seconds(1800) == 0.05
