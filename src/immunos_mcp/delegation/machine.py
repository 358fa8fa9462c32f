"""Whether this machine can spare power and memory for a local model, where the settings ask for that."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.domain import Switch
from immunos_mcp.errors import DelegationError

if TYPE_CHECKING:
    from immunos_mcp.rules.settings import Settings

POWER_SUPPLIES = Path("/sys/class/power_supply")
MEMORY = Path("/proc/meminfo")
PMSET_SECONDS = 2.0


def requires_any(settings: Settings) -> bool:
    """Return whether the settings require anything of this machine."""
    return settings.mains_power_required is Switch.ON or settings.free_memory_required > 0


def check_machine(settings: Settings, *, is_loaded: bool) -> str | None:
    """Check what the settings require of this machine; return what cannot be told.

    Args:
        settings: those in force.
        is_loaded: whether the model is in memory already.

    Raises:
        DelegationError: it runs on battery, or has too little free memory.
    """
    unknown: list[str] = []
    if settings.mains_power_required is Switch.ON:
        has_mains_power = on_mains_power()
        if has_mains_power is False:
            raise DelegationError(
                "this machine runs on battery, and the setting mains_power_required is on; plug it in, or do"
                " the task yourself"
            )
        unknown += ["whether it has mains power"] if has_mains_power is None else []
    needed = settings.free_memory_required
    if needed and not is_loaded:
        free = free_megabytes()
        if free is not None and free < needed:
            raise DelegationError(
                f"{free:,} MB of memory are free, and the setting free_memory_required is {needed:,} MB; close"
                " other programs, or do the task yourself"
            )
        unknown += ["how much memory is free"] if free is None else []
    return f"This machine does not tell {' and '.join(unknown)}." if unknown else None


def on_mains_power(supplies: Path = POWER_SUPPLIES) -> bool | None:
    """Return whether this machine is on mains power, as one without a battery is; ``None``: not known."""
    if supplies.is_dir():
        # Mice and keyboards have batteries too, which are of the scope "Device".
        batteries = [
            supply
            for supply in supplies.iterdir()
            if _line(supply / "type") == "Battery" and _line(supply / "scope") != "Device"
        ]
        return not any(_line(battery / "status") == "Discharging" for battery in batteries)
    pmset = shutil.which("pmset")
    if pmset is None:
        return None
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(  # noqa: S603  # macOS's own program
            [pmset, "-g", "batt"],
            capture_output=True,
            text=True,
            timeout=PMSET_SECONDS,
            check=True,
        )
        return "'Battery Power'" not in told.stdout
    return None


def free_megabytes(memory: Path = MEMORY) -> int | None:
    """Return how much memory programs can still get; ``None``: not known."""
    with suppress(OSError):
        found = re.search(
            r"^MemAvailable:\s+(\d{1,15}) kB$", memory.read_text("ascii"), re.MULTILINE
        )
        return None if found is None else int(found[1]) // 1024
    return None


def _line(file: Path) -> str:
    with suppress(OSError):
        return file.read_text("utf-8", "replace").strip()
    return ""
