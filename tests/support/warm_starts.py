"""Programs that start at once: forked from a process in which everything is imported.

Importing the SDK is nine tenths of what a server does in a test. ``command()`` is a drop-in for
``python -m immunos_mcp`` wherever the start itself is not what is tested: it runs a launcher, which
hands its streams, arguments, environment and folder to the process that forks. The launcher ends as
the program ends, and the program is killed when its launcher is. ``Forked`` does without the launcher,
which takes as long as a short command.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING

import immunos_mcp
from immunos_mcp.ledger import schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STREAMS = 3
_PROCESS_DIGITS = 8
_LOADED_LATE = (
    "anyio._backends._asyncio",
    "difflib",
    "encodings.idna",
    "genai_prices",
    "httpcore2",
    "jinja2.ext",
    "pygal",
    "tomlkit",
    "truststore",
)
"""What programs import where they use it."""

_LARGE_PAGES = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""They make forking and ending take half as long, where the system has them."""

_LAUNCHER = """
import _signal, _socket, marshal, os, sys
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
forked = _socket.socket(_socket.AF_UNIX)
forked.connect(sys.argv[1])
request = marshal.dumps((sys.argv[2], sys.argv[3:], os.environb.copy(), os.getcwdb()))
streams = b"".join(stream.to_bytes(4, sys.byteorder) for stream in range(3))
rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)
forked.sendmsg([len(request).to_bytes(4, "big")], [rights])
forked.sendall(request)
nowhere = os.open(os.devnull, os.O_RDWR)
for stream in range(3):
    os.dup2(nowhere, stream)
forked.recv(8, _socket.MSG_WAITALL)
status = int(forked.recv(16))
if status < 0:
    _signal.signal(-status, _signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""
"""Imports nothing that is not built in, since `json` and `socket` would more than double its time."""


def command(preparation: str = "") -> tuple[str, ...]:
    """Return a command that runs the program with the arguments that follow it.

    ``preparation`` is Python that the process executes first.
    """
    return (*_launcher(), preparation)


def running(code: str) -> tuple[str, ...]:
    """Return a command that runs Python code, which ends its process, where forking can be had."""
    if hasattr(os, "pidfd_open"):  # Linux alone
        return command(code)
    return (sys.executable, "-c", code)


def is_forked(command: Sequence[str]) -> bool:
    """Return whether a command begins as what ``command()`` returns."""
    # Asking for the launcher would start the process that forks.
    is_running = _launcher.cache_info().currsize > 0
    return is_running and tuple(command[: len(_launcher())]) == _launcher()


class Forked:
    """A program that was forked without a launcher, with what ``subprocess.Popen`` has of one.

    Attributes:
        returncode: what its process ended with, once that is known.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: str | Path,
        streams: Sequence[int],
    ) -> None:
        """Start the program with the streams, and close them here."""
        self.returncode: int | None = None
        self._command = command
        *_, address, preparation = command[: len(_launcher()) + 1]
        request = marshal.dumps(
            (
                preparation,
                list(command[len(_launcher()) + 1 :]),
                {os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
                os.fsencode(folder),
            )
        )
        self._forking = socket.socket(socket.AF_UNIX)
        self._forking.connect(address)
        socket.send_fds(self._forking, [len(request).to_bytes(4, "big")], streams)
        self._forking.sendall(request)
        for stream in streams:
            os.close(stream)
        self._process = int(self._forking.recv(_PROCESS_DIGITS, socket.MSG_WAITALL))

    def poll(self) -> int | None:
        """Return what the process ended with, if it has."""
        if self.returncode is None and select.select([self._forking], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return what the process ends with."""
        if self.returncode is None:
            self._forking.settimeout(timeout)
            try:
                self.returncode = int(self._forking.recv(16))
            except TimeoutError:
                raise subprocess.TimeoutExpired(self._command, timeout or 0) from None
            self._forking.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal the process, unless it has ended."""
        if self.poll() is None:
            os.kill(self._process, number)

    def kill(self) -> None:
        """Kill the process, unless it has ended."""
        self.send_signal(signal.SIGKILL)


@cache
def _launcher() -> tuple[str, ...]:
    folder = tempfile.TemporaryDirectory(prefix="warm")
    address = str(Path(folder.name) / "s")
    launcher = Path(folder.name) / "launcher.py"
    launcher.write_text(_LAUNCHER, encoding="utf-8")
    forking = subprocess.Popen(
        [sys.executable, __file__, address],
        env={**os.environ, **_LARGE_PAGES},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert forking.stdin is not None
    assert forking.stdout is not None
    assert forking.stdout.readline() == b"ready\n"

    def end() -> None:
        forking.communicate()
        folder.cleanup()

    atexit.register(end)
    return (sys.executable, "-I", "-S", str(launcher), address)


def _import_everything() -> None:
    for module in walk_packages(immunos_mcp.__path__, "immunos_mcp."):
        import_module(module.name)
    for name in _LOADED_LATE:
        import_module(name)
    schema.definitions(schema.LATEST)  # or each program that makes a ledger would work them out
    gc.collect()
    gc.freeze()  # or a collection in a program would copy every page that it shares with this one


class _Forks:
    """Forks a program for each connection, and tells its launcher how it ended."""

    def __init__(self, address: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen(64)

    def run(self) -> None:
        """Serve until standard input closes."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._fork)
        self._selector.register(0, selectors.EVENT_READ, sys.exit)
        print("ready", flush=True)
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _fork(self) -> None:
        launcher, _ = self._listener.accept()
        length, streams, _, _ = socket.recv_fds(launcher, 4, _STREAMS)
        request = launcher.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
        process = os.fork()
        if not process:
            _become_program(request, streams)
        for stream in streams:
            os.close(stream)
        with suppress(OSError):
            launcher.send(f"{process:{_PROCESS_DIGITS}}".encode())
        self._watch(process, launcher)

    def _watch(self, process: int, launcher: socket.socket) -> None:
        ended = os.pidfd_open(process)

        def tell() -> None:
            _, status = os.waitpid(process, 0)
            with suppress(OSError):
                launcher.send(str(os.waitstatus_to_exitcode(status)).encode())
            for watched in (ended, launcher):
                with suppress(KeyError):
                    self._selector.unregister(watched)
            os.close(ended)
            launcher.close()

        def kill() -> None:
            self._selector.unregister(launcher)
            signal.pidfd_send_signal(ended, signal.SIGKILL)

        self._selector.register(ended, selectors.EVENT_READ, tell)
        self._selector.register(launcher, selectors.EVENT_READ, kill)


def _become_program(request: bytes, streams: list[int]) -> None:
    preparation, arguments, environment, folder = marshal.loads(request)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.closerange(_STREAMS, 1 << 10)
    os.chdir(folder)
    os.environb.clear()
    os.environb.update(environment)
    sys.argv = ["immunos-mcp", *arguments]
    chosen = os.environ.get("PYTHONIOENCODING") or "utf-8:surrogateescape"
    encoding, _, errors = chosen.partition(":")
    sys.stdin = os.fdopen(0, encoding=encoding, errors=errors or "strict")
    sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors or "strict")
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace")
    exec(preparation, {})
    from immunos_mcp.__main__ import main

    main()


if __name__ == "__main__":
    _import_everything()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _Forks(sys.argv[1]).run()
