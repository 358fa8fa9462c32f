"""The times that ``off`` and ``pause`` take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from immunos_mcp.cli import program
from immunos_mcp.errors import InvalidInputError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("allow",), "--once: is required"),
        (("off", "--for", "2"), "--for: must be a time such as 30m, 2h or 1d, up to 366d"),
        (("off", "--for", "367d"), "--for: must be a time such as 30m, 2h or 1d, up to 366d"),
        (("pause", "--until", "25:00"), "--until: must be a time such as 14:30"),
        (("pause", "--until", "soon"), "--until: must be a date or time"),
        (("pause", "--for", "1h", "--until", "14:30"), "cannot be used with"),
    ],
)
def test_a_wrong_time_is_refused_with_what_is_accepted(
    arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        program.parse(arguments)


def test_a_time_of_day_is_the_next_one() -> None:
    now = datetime.now(UTC)
    for minutes in range(0, 1440, 97):
        until = program.parse(("pause", "--until", f"{minutes // 60}:{minutes % 60:02}")).until
        assert now - timedelta(minutes=1) < until <= now + timedelta(hours=25, minutes=1)


def test_a_duration_has_a_unit() -> None:
    given = [program.parse(("off", "--for", text)).duration for text in ("30m", "2h", "1d")]
    assert given == [timedelta(minutes=30), timedelta(hours=2), timedelta(days=1)]
