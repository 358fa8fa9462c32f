"""Tokens of an identity provider: only those that it signed, for this server, and that name a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from http_servers import ANYWHERE, asking, client_of, serving
from identity_providers import AUDIENCE, providing

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.people import People

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

LISTING = asking("tools/list")


async def test_only_a_token_that_the_provider_made_for_this_server_gets_a_person_in(
    ledger_file: Path,
) -> None:
    with InlineSqliteLedger(ledger_file) as ledger:
        run_sync(People(ledger).add("ada", "member"))
        run_sync(People(ledger).add("gone", "member"))
        run_sync(People(ledger).disable("gone"))
    other = ec.generate_private_key(ec.SECP256R1())
    with providing() as provider:
        accepting = ANYWHERE._replace(needs_tokens=True, issuer=provider.url, audience=AUDIENCE)
        tokens = {
            provider.token(): 200,
            provider.token(aud=["https://other.example", AUDIENCE]): 200,
            provider.token(aud="https://other.example"): 401,
            provider.token(aud=None): 401,
            provider.token(iss="https://other.example"): 401,
            provider.token(exp=time.time() - 60): 401,
            provider.token(exp=None): 401,
            provider.token(nbf=time.time() + 600): 401,
            provider.token(sub="nobody"): 401,
            provider.token(sub="gone"): 401,
            provider.token(sub=None): 401,
            provider.token(other): 401,
            provider.token("secret" * 8, "HS256"): 401,
            provider.token().rpartition(".")[0] + ".": 401,
            jwt.encode({"sub": "ada"}, "", "none"): 401,
            "not.a.token": 401,
        }
        async with serving(ledger_file, accepting) as served, client_of(served.url) as client:
            for token, status in tokens.items():
                named = {"authorization": f"Bearer {token}"}
                answered = await client.post("/mcp", headers=named, json=LISTING)
                assert answered.status_code == status, jwt.decode(
                    token, options={"verify_signature": False}
                )
            place = "https://budget.example.com/.well-known/oauth-protected-resource/mcp"
            refused = await client.post("/mcp", json=LISTING)
            assert f'resource_metadata="{place}"' in refused.headers["www-authenticate"]
            metadata = (await client.get("/.well-known/oauth-protected-resource/mcp")).json()
        assert metadata["authorization_servers"] == [f"{provider.url}/"]
        assert metadata["resource"] == AUDIENCE
        assert provider.fetched == ["/.well-known/openid-configuration", "/keys"]


async def test_where_the_provider_is_away_its_tokens_are_not_checked_and_ours_are(
    ledger_file: Path,
) -> None:
    with InlineSqliteLedger(ledger_file) as ledger:
        run_sync(People(ledger).add("ada", "member"))
        own = run_sync(People(ledger).create_token("ada", "own", None)).token
    with providing() as provider:
        theirs = provider.token()
    accepting = ANYWHERE._replace(needs_tokens=True, issuer=provider.url, audience=AUDIENCE)
    async with serving(ledger_file, accepting) as served, client_of(served.url) as client:
        for token, status in ((theirs, 503), (own, 200)):
            named = {"authorization": f"Bearer {token}"}
            assert (await client.post("/mcp", headers=named, json=LISTING)).status_code == status
