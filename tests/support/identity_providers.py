"""Identity providers that sign tokens, on this machine."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

if TYPE_CHECKING:
    from collections.abc import Generator

AUDIENCE = "https://budget.example.com/mcp"


class Provider(NamedTuple):
    url: str
    key: ec.EllipticCurvePrivateKey
    fetched: list[str]

    def token(self, key: Any = None, algorithm: str = "ES256", **claims: object) -> str:
        good = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 60}
        told = {name: value for name, value in {**good, **claims}.items() if value is not None}
        return jwt.encode(told, key or self.key, algorithm, {"kid": "one"})


@contextmanager
def providing() -> Generator[Provider]:
    """Run an identity provider with one key."""
    key = ec.generate_private_key(ec.SECP256R1())
    fetched: list[str] = []

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            pages: dict[str, object] = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/keys"},
                "/keys": {"keys": [{**public, "kid": "one", "alg": "ES256", "use": "sig"}]},
            }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(pages[self.path]).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Provider(url, key, fetched)
        finally:
            server.shutdown()
            thread.join()
