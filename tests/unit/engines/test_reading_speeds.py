"""How long an engine may be silent before its first word."""

from __future__ import annotations

from immunos_mcp.engines.reading_speeds import ReadingSpeeds


def test_a_model_that_read_nothing_yet_may_be_as_slow_as_any() -> None:
    assert ReadingSpeeds().seconds("m", 30_000) == 1500


def test_a_prompt_may_take_what_the_slowest_reading_so_far_explains() -> None:
    speeds = ReadingSpeeds()
    speeds.add("m", 900, 3.0)
    assert speeds.seconds("m", 1000) == 10
    speeds.add("m", 900, 0.001)  # the engine had read the same before
    assert speeds.seconds("m", 1000) == 10
    speeds.add("m", 900, 300.0)
    assert speeds.seconds("m", 1000) == 1000
    assert speeds.seconds("other", 1000) == 50


def test_what_says_nothing_of_the_speed_is_left_out() -> None:
    speeds = ReadingSpeeds()
    speeds.add("m", 5, 100.0)
    speeds.add("m", 1000, 0.0)
    assert speeds.seconds("m", 20) == 1
