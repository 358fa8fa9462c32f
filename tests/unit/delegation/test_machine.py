"""Power and memory: required where a setting says so, and what cannot be told is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from immunos_mcp.delegation import machine
from immunos_mcp.delegation.machine import check_machine, free_megabytes, on_mains_power
from immunos_mcp.domain import Switch
from immunos_mcp.errors import DelegationError
from immunos_mcp.rules.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = Settings(mains_power_required=Switch.ON, free_memory_required=8_000)


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(f"{text}\n", encoding="utf-8")


def test_a_machine_is_on_battery_while_its_own_battery_discharges(tmp_path: Path) -> None:
    assert on_mains_power(tmp_path)
    supply(tmp_path, "mouse", type="Battery", scope="Device", status="Discharging")
    supply(tmp_path, "AC", type="Mains", online="0")
    assert on_mains_power(tmp_path)
    supply(tmp_path, "BAT0", type="Battery", status="Full")
    assert on_mains_power(tmp_path)
    (tmp_path / "BAT0" / "status").write_text("Discharging\n", encoding="utf-8")
    assert on_mains_power(tmp_path) is False


@pytest.mark.parametrize(
    ("text", "free"), [("MemTotal: 1 kB\nMemAvailable:    2097152 kB\n", 2048), ("odd", None)]
)
def test_free_memory_is_what_programs_can_get(tmp_path: Path, text: str, free: int | None) -> None:
    file = tmp_path / "meminfo"
    assert free_megabytes(file) is None
    file.write_text(text, encoding="ascii")
    assert free_megabytes(file) == free


def told(
    monkeypatch: pytest.MonkeyPatch,
    power: bool | None,
    free: int | None,
    *,
    is_loaded: bool = False,
) -> str | None:
    monkeypatch.setattr(machine, "on_mains_power", lambda: power)
    monkeypatch.setattr(machine, "free_megabytes", lambda: free)
    assert check_machine(Settings(), is_loaded=is_loaded) is None
    return check_machine(REQUIRED, is_loaded=is_loaded)


def test_what_is_required_and_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, power=True, free=8_000) is None
    assert told(monkeypatch, power=True, free=100, is_loaded=True) is None
    with pytest.raises(DelegationError, match=r"on battery.* mains_power_required"):
        told(monkeypatch, power=False, free=8_000)
    with pytest.raises(DelegationError, match=r"7,999 MB .* free_memory_required is 8,000 MB"):
        told(monkeypatch, power=True, free=7_999)


def test_what_cannot_be_told_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, power=None, free=None) == (
        "This machine does not tell whether it has mains power and how much memory is free."
    )
