"""A connection to PostgreSQL that is cut between a COMMIT and its answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from immunos_mcp.database_address import DatabaseAddress


class CommitsCut:
    """Passes connections on to a database, and cuts those where something is stored, as often as it is told to.

    The database has stored it then, and whoever asked for it does not learn of it.

    Attributes:
        address: the same database through it.
        left: how many are still to be cut.
    """

    def __init__(self, address: DatabaseAddress) -> None:
        self._there = conninfo_to_dict(address.text)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        text = f"postgresql://postgres@127.0.0.1:{port}/{self._there['dbname']}?sslmode=disable"
        self.address = address._replace(text=text)
        self.left = 0

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
        database = self._database()
        threading.Thread(target=self._answer, args=(database, client), daemon=True).start()
        with suppress(OSError):
            while part := client.recv(65536):
                database.sendall(part)
            database.shutdown(socket.SHUT_RDWR)

    def _answer(self, database: socket.socket, client: socket.socket) -> None:
        heard = b""
        with suppress(OSError):
            while part := database.recv(65536):
                *ended, heard = (heard + part).split(b"COMMIT\0")
                # Others only read.
                if self.left and any(b"INSERT 0" in each or b"UPDATE " in each for each in ended):
                    self.left -= 1
                    break
                client.sendall(part)
        for each in (client, database):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _database(self) -> socket.socket:
        host, port = str(self._there["host"]), int(self._there.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{host}/.s.PGSQL.{port}")
        return connection
