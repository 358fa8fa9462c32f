"""Counts how often programs wait for PostgreSQL, between them and the database.

A wait is that something is sent to the database and then something comes back. What is sent together, such as
the statements of a pipeline, is waited for once.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Mapping


class WaitsCounted:
    """Passes connections on to a database and counts waits.

    Attributes:
        address: where it listens, as the address of the same database.
        waits: how many there were on all connections.
    """

    def __init__(self, address: str) -> None:
        self._there = conninfo_to_dict(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = _through(self._there, self._listener.getsockname()[1])
        self.waits = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        database = _connected(self._there)
        # Whether something was sent that nothing has come back for.
        is_waiting = threading.Event()

        def send() -> None:
            while part := client.recv(65536):
                is_waiting.set()
                database.sendall(part)
            database.shutdown(socket.SHUT_WR)

        def answer() -> None:
            while part := database.recv(65536):
                if is_waiting.is_set():
                    is_waiting.clear()
                    self.waits += 1
                client.sendall(part)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        with suppress(OSError):
            answer()


def _connected(there: Mapping[str, object]) -> socket.socket:
    host, port = str(there.get("host") or "127.0.0.1"), int(str(there.get("port") or 5432))
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"{host}/.s.PGSQL.{port}")
    return connection


def _through(there: Mapping[str, object], port: int) -> str:
    user, password = (quote(str(there.get(name) or ""), safe="") for name in ("user", "password"))
    login = f"{user}:{password}" if password else user
    # Encrypted, the protocol would have more waits of its own when it connects, and none later.
    return f"postgresql://{login}@127.0.0.1:{port}/{there.get('dbname', '')}?sslmode=disable"
