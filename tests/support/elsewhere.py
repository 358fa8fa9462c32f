"""A name of another machine that leads to this one, so that nothing leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAME = "gpu.test"
RESOLVER = f"""
import socket

resolve = socket.getaddrinfo

def getaddrinfo(host, *more, **named):
    known = host in ({NAME!r}, {NAME.encode()!r})
    return resolve("127.0.0.1" if known else host, *more, **named)

socket.getaddrinfo = getaddrinfo
"""


def resolver(folder: Path) -> str:
    """Return a folder for PYTHONPATH, with which a program finds ``NAME``."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(RESOLVER, encoding="utf-8")
    return str(folder)
