"""Programs that start at once: forked from a process in which everything is imported.

Importing the SDK is nine tenths of what a server does in a test. ``command()`` is a drop-in for
``python -m immunos_mcp`` wherever the start itself is not what is tested: it runs a launcher of a few
milliseconds, which hands its streams, arguments, environment and folder to the process that forks.
The launcher ends as the program ends, and the program is killed when its launcher is.
"""

from __future__ import annotations

import atexit
import json
import os
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

_STREAMS = 3

_LAUNCHER = """
import json, os, signal, socket, sys
forked = socket.socket(socket.AF_UNIX)
forked.connect(sys.argv[1])
request = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd()]).encode("ascii")
socket.send_fds(forked, [len(request).to_bytes(4, "big")], [0, 1, 2])
forked.sendall(request)
nowhere = os.open(os.devnull, os.O_RDWR)
for stream in range(3):
    os.dup2(nowhere, stream)
status = int(forked.recv(16))
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@cache
def command() -> tuple[str, ...]:
    """Return a command that runs the program with the arguments that follow it."""
    folder = tempfile.TemporaryDirectory(prefix="warm")
    address = str(Path(folder.name) / "s")
    launcher = Path(folder.name) / "launcher.py"
    launcher.write_text(_LAUNCHER, encoding="utf-8")
    forking = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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
    for module in (
        "immunos_mcp.__main__",
        "immunos_mcp.cli.main",
        "immunos_mcp.cli.serving",
        "immunos_mcp.server.app",
        "immunos_mcp.server.standard_streams",
    ):
        import_module(module)


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
    arguments, environment, folder = json.loads(request)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.closerange(_STREAMS, 1 << 10)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["immunos-mcp", *arguments]
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape")
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
    from immunos_mcp.__main__ import main

    main()


if __name__ == "__main__":
    _import_everything()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _Forks(sys.argv[1]).run()
