"""Joining a team, as a developer at a terminal and an assistant meet it."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread
import pytest
import wire
from http_servers import ANYWHERE, serving
from sdk_clients import answer, connected
from transcript_lines import Answer, append, transcript

from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.options import Address
from immunos_mcp.people import People

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("programs_start_at_once")]

WITH_TOKENS = ANYWHERE._replace(needs_tokens=True)
TASK = {"task_type": "planning", "classification": "creative"}
SUMS = "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM immunos_mcp_measured_usage"
LONG_AGO = "UPDATE immunos_mcp_joined_team SET failed_at = '2026-01-01T00:00:00.000Z'"
CRITICAL = ("--task-type", "planning", "--classification", "critical")
WHOSE = (
    (("budget",), "these are the budgets of your own ledger, not those of team default at http"),
    (("person",), "these are the people and tokens of your own ledger, not those of team default"),
    (("config", "get", "session_limit"), "these are the settings of team default"),
    (
        ("config", "get", "session_limit", "--local"),
        "these are the settings of your own ledger, not",
    ),
    (("delegate", "Do it", *CRITICAL), "Decision 1; the team's server made it."),
)
MADE_BY_JOINING = """
    SELECT name FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%immunos_mcp_unpushed%' UNION ALL
    SELECT gateway FROM immunos_mcp_joined_team UNION ALL SELECT row_key FROM immunos_mcp_unpushed
"""


@pytest.fixture
def server_file(tmp_path: Path) -> Path:
    return tmp_path / "server.db"


def now() -> datetime:
    return datetime.now(UTC)


def token_for(server_file: Path, home: Path, role: str = "member") -> str:
    """Make a token; return the file that has it."""
    with InlineSqliteLedger(server_file) as ledger:
        run_sync(People(ledger).add("ada", role))
        token = run_sync(People(ledger).create_token("ada", "test", None)).token
    file = home / "token"
    file.write_text(f"{token}\n", encoding="ascii")
    return str(file)


async def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await anyio.to_thread.run_sync(partial(wire.run, home, *arguments))


async def run_json(home: Path, *arguments: str) -> wire.JsonObject:
    return await anyio.to_thread.run_sync(partial(wire.run_json, home, *arguments))


async def test_an_assistant_goes_on_while_the_team_s_server_is_away(
    home: Path, server_file: Path, ledger_file: Path
) -> None:
    token = token_for(server_file, home)
    log = transcript(home / ".claude" / "projects")
    append(log, Answer("m1", 100, 10, at=now()))
    await run_json(home, "status")
    async with serving(server_file, WITH_TOKENS) as served:
        url = served.url
        joined = await run_json(home, "join", f"{url}/mcp", "--token-file", token, "--yes")
        assert (joined["url"], joined["team"], joined["person"]) == (url, "default", "ada")
    there = WITH_TOKENS._replace(address=Address("127.0.0.1", urlsplit(url).port or 0))
    async with connected(home, "auto") as client:
        async with serving(server_file, there):
            first = await answer(client, "route_task", **TASK)
            assert (first.get("offline"), first["session_tokens"]) == (None, 110)
        append(log, Answer("m2", 200, 20, at=now()))
        second = await answer(client, "route_task", **TASK)
        assert (second["offline"], second["session_tokens"]) == (True, 330)
        used = {"model": "claude-x", "input_tokens": 7, "output_tokens": 0}
        reported = await answer(client, "record_usage", **used)
        assert (reported["offline"], reported["session_tokens"]) == (True, 337)
        async with serving(server_file, there):
            # Half a minute later.
            wire.execute(ledger_file, LONG_AGO)
            third = await answer(client, "record_usage", decision_id=1, outcome="success")
            assert (third.get("offline"), third["session_tokens"]) == (None, 337)
            assert (await answer(client, "get_session_status"))["session_tokens"] == 337
            assert (await run_json(home, "leave")).get("unsent") is None
        # It notices that the team was left.
        assert "offline" not in await answer(client, "route_task", **TASK)
    assert wire.rows(server_file, SUMS) == [(2, 300, 30)] == wire.rows(ledger_file, SUMS)
    assert wire.rows(server_file, "SELECT input_tokens FROM immunos_mcp_usage") == [(7,)]
    assert wire.rows(server_file, "SELECT outcome FROM immunos_mcp_decision") == [("success",)]
    assert wire.rows(ledger_file, MADE_BY_JOINING) == []
    wire.assert_sound(ledger_file)


async def test_joining_shows_what_is_sent_and_leaving_takes_everything_back(
    home: Path, server_file: Path, ledger_file: Path
) -> None:
    token = token_for(server_file, home)
    append(transcript(home / ".claude" / "projects"), Answer("m1", 100, 10, at=now()))
    await run_json(home, "status")
    before = wire.dump(ledger_file)
    async with serving(server_file, WITH_TOKENS) as served:
        unsure = await run(home, "join", served.url, "--token-file", token)
        assert (unsure.returncode, unsure.stderr) == (
            2,
            "immunos-mcp: join needs --yes without a terminal to ask on\n",
        )
        assert "Never: paths, file names, prompts, or any text" in unsure.stdout
        example = json.loads(unsure.stdout.split("as it would be sent:\n", 1)[1].split("\n")[0])
        assert (example["message_id"], example["input_tokens"]) == ("m1", 100)
        assert "/" not in example["label"]
        assert wire.dump(ledger_file) == before
        done = await run(home, "join", served.url, "--token-file", token, "--yes", "--no-labels")
        assert done.stdout.endswith(
            "Joined: team default as ada; 1 responses were new to it. Restart your assistants.\n"
        )
        token_file = ledger_file.with_name("immunos.db.team-token")
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        assert token_file.read_text() not in "".join(wire.dump(ledger_file))
        assert wire.rows(server_file, "SELECT folder FROM immunos_mcp_measured_usage") == [(None,)]
        again = await run(home, "join", served.url, "--token-file", token)
        assert again.stdout.startswith(
            "Joined already: team default as ada; the token was replaced"
        )
        elsewhere = await run(home, "doctor")
        assert "team            default at http://127.0.0.1" in elsewhere.stdout
        left = await run(home, "leave")
        assert left.stdout.startswith("Left team default. Your own ledger has everything.")
        twice = await run(home, "leave")
        assert (twice.returncode, twice.stdout) == (1, "")
    assert not token_file.exists()
    assert wire.dump(ledger_file) == before


async def test_commands_of_a_joined_ledger_say_whose_figures_they_show(
    home: Path, server_file: Path
) -> None:
    token = token_for(server_file, home)
    async with serving(server_file, WITH_TOKENS) as served:
        await run_json(home, "join", served.url, "--token-file", token, "--yes")
        for arguments, words in WHOSE:
            shown = await run(home, *arguments)
            assert words in shown.stderr, arguments
            assert "\n" not in shown.stderr.strip()
        assert (await run(home, "budget", "--json")).stderr == ""
    away = await run(home, "config", "get", "session_limit")
    assert "these are the settings of your own ledger, since http" in away.stderr


async def test_a_history_is_sent_without_joining_and_again_without_harm(
    home: Path, server_file: Path, ledger_file: Path
) -> None:
    token = token_for(server_file, home)
    log = transcript(home / ".claude" / "projects")
    append(log, Answer("m1", 100, 10, at=now()), Answer("m2", 200, 20, at=now()))
    async with serving(server_file, WITH_TOKENS) as served:
        to = ("sync", "--to", served.url, "--token-file", token, "--all")
        assert (await run_json(home, *to))["new"] == 2
        append(log, Answer("m3", 300, 30, at=now()))
        assert (await run_json(home, *to))["new"] == 1
        assert (await run_json(home, *to))["new"] == 0
    assert wire.rows(server_file, SUMS) == [(3, 600, 60)] == wire.rows(ledger_file, SUMS)
    gone = await run(home, *to)
    assert (gone.returncode, "cannot be reached" in gone.stderr) == (1, True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://budget.example.com", "url: must be the https address of a team's server"),
        ("https://ada:geheim@budget.example.com", "url: must have no user and no password"),
        ("budget.example.com", "url: must be the https address of a team's server"),
        ("https://budget.example.com/?a=b", "url: must be the https address of a team's server"),
    ],
)
async def test_an_address_whose_traffic_others_can_read_is_refused(
    home: Path, url: str, words: str
) -> None:
    done = await run(home, "join", url, "--token-file", "/dev/null")
    assert done.returncode == 2
    assert words in done.stderr
    assert "geheim" not in done.stderr


async def test_a_wrong_token_is_refused_before_anything_is_sent(
    home: Path, server_file: Path, ledger_file: Path
) -> None:
    token_for(server_file, home)
    (home / "wrong").write_text("immunos_wrong", encoding="ascii")
    async with serving(server_file, WITH_TOKENS) as served:
        done = await run(home, "join", served.url, "--token-file", str(home / "wrong"), "--yes")
    assert done.returncode == 1
    assert "does not accept the token" in done.stderr
    assert not ledger_file.with_name("immunos.db.team-token").exists()
