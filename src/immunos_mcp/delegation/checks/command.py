"""Runs a command without a shell and with limits: model-written code may do anything in it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from threading import Event

LONGEST_SECONDS = 120.0
MOST_OUTPUT = 8 * 2**20
"""Bytes that a command may write to its output."""

KEPT_OUTPUT = 4_000
"""Bytes of the end of its output that are kept."""

LARGEST_FILE = 2**28
MOST_MEMORY = 2**32
"""Bytes of memory of its own that each process may have."""

MOST_PROCESSES = 1_000
"""Processes and threads that may be started beside those that the user has already."""

PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Environment variables that a command gets as they are."""

# Address space is not limited: programs reserve much that they never use. Threads count for the whole user.
_LAUNCH = f"""
import os, resource, sys
limits = [
    (resource.RLIMIT_CPU, {int(LONGEST_SECONDS)}),
    (resource.RLIMIT_FSIZE, {LARGEST_FILE}),
    (resource.RLIMIT_DATA, {MOST_MEMORY}),
    (resource.RLIMIT_CORE, 0),
]
if os.path.isdir('/proc/self/task'):
    threads = 0
    for process in os.scandir('/proc'):
        try:
            if process.name.isdecimal() and process.stat().st_uid == os.getuid():
                threads += len(os.listdir(process.path + '/task'))
        except OSError:
            pass
    limits.append((resource.RLIMIT_NPROC, threads + {MOST_PROCESSES}))
for kind, most in limits:
    most = min([most, *(each for each in resource.getrlimit(kind) if each != resource.RLIM_INFINITY)])
    resource.setrlimit(kind, (most, most))
os.execv(sys.argv[1], sys.argv[2:])
"""


class CommandEnd(NamedTuple):
    """How a command ended.

    Attributes:
        code: its exit code; ``None``: it was stopped.
        why_stopped: as the end of "it ..."; empty: it was not.
        output: the end of what it wrote.
    """

    code: int | None
    why_stopped: str
    output: str


def environment(home: Path, outer: Mapping[str, str]) -> dict[str, str]:
    """Return a command's environment: an empty home, and where programs are.

    Relative folders of ``PATH`` are left out: they would find programs in the copy.
    """
    folders = outer.get("PATH", os.defpath).split(os.pathsep)
    return {
        **{name: outer[name] for name in PASSED_ON if name in outer},
        "PATH": os.pathsep.join(folder for folder in folders if Path(folder).is_absolute()),
        "HOME": str(home),
        "TMPDIR": str(home),
    }


def run(
    program: str,
    words: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    stop: Event,
    seconds: float = LONGEST_SECONDS,
) -> CommandEnd:
    """Run a program to its end, or stop it; nothing of its process group is left then.

    Args:
        program: the executable's path.
        words: its name and arguments.
        folder: where it runs.
        variables: its whole environment.
        stop: set when nobody waits for it any more.
        seconds: longest time.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603  # what the user allowed, and no shell
        (sys.executable, "-I", "-S", "-c", _LAUNCH, program, *words),
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        why_stopped, output = _watched(process, stop, seconds)
    finally:
        _kill_group(process)
    code = None if why_stopped else process.returncode
    return CommandEnd(code, why_stopped, output.decode(errors="replace"))


def _watched(
    process: subprocess.Popen[bytes], stop: Event, seconds: float
) -> tuple[str, bytearray]:
    """Read a command's output until it ends; return why it has to be stopped, and the output's end."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    output = bytearray()
    total = 0
    with selectors.DefaultSelector() as selector:
        os.set_blocking(process.stdout.fileno(), False)
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            has_ended = _has_ended(process)
            if selector.select(0 if has_ended else 0.05):
                chunk = os.read(process.stdout.fileno(), 2**16)
                total += len(chunk)
                output[:] = (output + chunk)[-KEPT_OUTPUT:]
                if chunk and total <= MOST_OUTPUT and time.monotonic() < deadline:
                    continue
                if not chunk and not has_ended:
                    time.sleep(0.02)  # it closed its output and goes on
            if total > MOST_OUTPUT:
                return f"wrote more than {MOST_OUTPUT >> 20} MiB", output
            if has_ended:
                return "", output
            if stop.is_set() or time.monotonic() > deadline:
                return f"took longer than {seconds:g} s", output


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended, and leave it as it is: its group keeps its number until then."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, options) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    # A process may have been forked just then.
    for _ in range(100):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)
