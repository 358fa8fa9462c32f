"""The command ``db`` and a ledger on PostgreSQL, as somebody at a terminal meets them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import postgresql_server
import pytest
import wire

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.postgres


def test_a_ledger_file_moves_to_a_database_and_everything_goes_on(home: Path) -> None:
    address = postgresql_server.empty_database()
    wire.run_json(home, "route", "--task-type", "debug", "--classification", "routine")
    wire.run_json(
        home, "record", "--model", "claude-sonnet-4.5", "--input", "1200", "--output", "300"
    )
    file = home / ".immunos" / "db" / "immunos.db"
    before = wire.run_json(home, "status")

    there = wire.run(home, "status", "--db", address.text)
    assert (there.returncode, there.stdout) == (1, "")
    assert there.stderr.endswith("has no tables yet; run `immunos-mcp db migrate` first\n")
    made = wire.run_json(home, "db", "migrate", "--db", address.text)
    assert (made["before"], made["ledger"]) == (0, str(address))
    copied = wire.run_json(home, "db", "copy", "--from", str(file), "--to", address.text)
    assert (copied["decisions"], copied["rows"]["usage"]) == (1, 1)
    assert wire.run_json(home, "status", "--db", address.text) == before
    checked = wire.run_json(home, "db", "check", "--db", address.text)
    assert (checked["decisions"], checked["usage_records"]) == (1, 1)
    assert checked["unwalled"] == "this user may bypass it"
    line = wire.run(home, "statusline", "--db", address.text, stdin="{}").stdout
    assert "2k/200k" in line
    decided = wire.run_json(
        home, "route", "--task-type", "debug", "--classification", "routine", "--db", address.text
    )
    assert decided["decision_id"] == 2
    added = wire.run_json(home, "team", "add", "red", "--db", address.text)
    assert added["ledger"].endswith("?team=red")
    listed = wire.run(home, "team", "list", "--db", address.text)
    assert [line.partition(",")[0] for line in listed.stdout.splitlines()] == [
        "default: 0 people",
        "red: 0 people",
    ]


@pytest.mark.usefixtures("programs_start_at_once")
def test_a_password_in_an_address_is_never_shown(home: Path) -> None:
    address = "postgresql://me:geheim@127.0.0.1:1/team?sslpassword=geheim"
    for arguments in (
        ("status",),
        ("doctor",),
        ("statusline",),
        ("db", "check"),
        ("db", "migrate", "--json"),
        ("install", "claude-code", "--print"),
        ("doctor", "--repair"),
        ("status", "--debug"),
    ):
        done = wire.run(home, *arguments, variables={"IMMUNOS_DB": address}, stdin="{}")
        assert "geheim" not in done.stdout + done.stderr, arguments
    for malformed in (f"{address}%zz", f"{address}#x", "postgresql://me:geheim@[::1/x"):
        done = wire.run(home, "status", "--db", malformed)
        assert done.returncode != 0
        assert "geheim" not in done.stdout + done.stderr, malformed


ROUNDS = 10
CALLS = 30


@pytest.mark.usefixtures("programs_start_at_once")
def test_with_one_of_two_servers_killed_again_and_again_what_was_answered_is_stored_once(
    home: Path,
) -> None:
    address = postgresql_server.empty_ledger()
    moments = random.Random(20260301)
    answered: set[str] = set()
    with wire.ServerProcess(home, "--db", address.text) as steady:
        steady.initialize()
        for turn in range(ROUNDS):
            with wire.ServerProcess(home, "--db", address.text) as victim:
                victim.initialize()
                sent = {
                    server: post_all(server, f"{turn} {name}")
                    for name, server in (("a", steady), ("b", victim))
                }
                for _ in range(moments.randrange(1, CALLS)):
                    answered.add(sent[victim][victim.receive()["id"]])
                victim.process.kill()
                answered |= {sent[steady][steady.receive()["id"]] for _ in range(CALLS)}
    rows = postgresql_server.rows(
        address, "SELECT external_id, input_tokens FROM immunos_mcp_usage"
    )
    stored = [request_id for request_id, _ in rows]
    assert len(stored) == len(set(stored))
    assert answered <= set(stored)
    ((total, records),) = postgresql_server.rows(
        address, "SELECT claude_input_tokens, usage_records FROM immunos_mcp_session"
    )
    assert (total, records) == (sum(tokens for _, tokens in rows), len(rows))


def post_all(server: wire.ServerProcess, name: str) -> dict[object, str]:
    """Send calls without waiting; return the request id of each."""
    return {
        server.post_call(
            "record_usage",
            {
                "model": "claude-sonnet-4.5",
                "input_tokens": 5,
                "output_tokens": 1,
                "request_id": request_id,
            },
        ): request_id
        for request_id in (f"{name} {number}" for number in range(CALLS))
    }
