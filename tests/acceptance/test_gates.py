"""The commands ``off``, ``on``, ``allow`` and ``pause``, and where what they decided is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import wire

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_decided_for_now_is_shown_until_it_is_taken_back(home: Path) -> None:
    assert wire.run_json(home, "pause", "--for", "1h")["paused"] is True
    paused = wire.run_json(home, "status")["gates"]
    assert paused.startswith("paused until 20")
    line = wire.run(home, "statusline", stdin="{}").stdout
    assert f"gates: {paused}" in line
    done = wire.run(home, "off")
    assert done.stdout == "Nothing is asked, denied or said by hooks until `immunos-mcp on`\n"
    assert wire.run_json(home, "on") == {"off": True, "paused": False, "allows_once": False}
