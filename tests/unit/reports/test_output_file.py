"""A file that a command is told to write never takes the place of somebody's work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from immunos_mcp.errors import InvalidInputError
from immunos_mcp.reports.output_file import written

if TYPE_CHECKING:
    from pathlib import Path


def is_report(beginning: bytes) -> bool:
    return beginning.startswith(b"report")


@pytest.mark.parametrize("there_before", [None, b"report of before"])
def test_what_somebody_puts_there_while_it_is_written_stays(
    tmp_path: Path, there_before: bytes | None
) -> None:
    file = tmp_path / "out"
    if there_before is not None:
        file.write_bytes(there_before)

    def write_it() -> None:
        with written(file, "--output", may_replace=is_report) as output:
            output.write(b"report")
            file.write_bytes(b"theirs")

    with pytest.raises(InvalidInputError, match="this file exists and is not a report"):
        write_it()
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"out": b"theirs"}
