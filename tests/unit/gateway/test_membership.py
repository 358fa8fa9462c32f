"""Where a team's server is, its token's file, and the settings that hold for what it decides."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from immunos_mcp.domain import EnginesAllowed, HandoverChoice
from immunos_mcp.errors import InvalidInputError
from immunos_mcp.gateway.membership import (
    checked_token,
    read_token,
    remove_token,
    server_url,
    write_token,
)
from immunos_mcp.gateway.router import with_team_settings
from immunos_mcp.rules.settings import Settings, values

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://budget.example.com", "https://budget.example.com"),
        ("https://budget.example.com/mcp", "https://budget.example.com"),
        ("https://budget.example.com:8443/", "https://budget.example.com:8443"),
        ("https://example.com/budget/mcp/", "https://example.com/budget"),
        ("http://127.0.0.1:4780/mcp", "http://127.0.0.1:4780"),
        ("http://localhost:4780", "http://localhost:4780"),
        ("http://[::1]:4780", "http://[::1]:4780"),
    ],
)
def test_a_server_is_found_by_the_address_that_clients_use(given: str, url: str) -> None:
    assert server_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "http://budget.example.com",
        "http://127.0.0.1.example.com",
        "budget.example.com",
        "ftp://budget.example.com",
        "https://",
        "https://budget.example.com:port",
        "https://budget.example.com/?team=red",
        "https://budget.example.com/#red",
        "https://budget.example.com/a b",
        "https://budget.example.com/\u202e",
        f"https://budget.example.com/{'x' * 3000}",
        "",
    ],
)
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(InvalidInputError, match="must be the https address of a team's server"):
        server_url(given)


@pytest.mark.parametrize("given", ["https://ada:geheim@example.com", "https://geheim@example.com"])
def test_an_address_with_credentials_is_refused_without_showing_them(given: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        server_url(given)
    assert "geheim" not in str(raised.value)


def test_only_its_owner_can_read_a_token_and_nobody_sees_half_of_one(tmp_path: Path) -> None:
    file = tmp_path / "token"
    for token in ("first", "second"):
        write_token(file, token)
        assert (read_token(file), stat.S_IMODE(file.stat().st_mode)) == (token, 0o600)
    assert list(tmp_path.iterdir()) == [file]
    file.write_text("two words")
    assert read_token(file) is None
    assert read_token(tmp_path / "missing") is None


def test_what_a_killed_program_left_of_a_token_is_replaced_and_removed(tmp_path: Path) -> None:
    file, left = tmp_path / "token", tmp_path / "token.new"
    left.write_text("half")
    left.chmod(0o644)
    write_token(file, "first")
    assert (read_token(file), stat.S_IMODE(file.stat().st_mode)) == ("first", 0o600)
    assert list(tmp_path.iterdir()) == [file]
    left.write_text("half")
    remove_token(file)
    remove_token(file)
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_cannot_be_stored_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(InvalidInputError, match=r"token: cannot be stored in .*\(Is a directory\)"):
        write_token(tmp_path / "token", "geheim")
    assert list(tmp_path.iterdir()) == [tmp_path / "token"]
    with pytest.raises(InvalidInputError, match="No such file"):
        write_token(tmp_path / "missing" / "token", "geheim")


def test_a_token_that_cannot_be_one_is_refused_without_showing_it() -> None:
    assert checked_token("token\n", "token") == "token"
    with pytest.raises(InvalidInputError) as raised:
        checked_token("geheim geheim", "token")
    assert "geheim" not in str(raised.value)


def test_the_stricter_of_the_team_s_and_the_developer_s_holds_applies() -> None:
    lax, strict = (
        Settings(),
        Settings(
            handover=HandoverChoice.NEVER,
            engines_allowed=EnginesAllowed.THIS_MACHINE,
            session_limit=300_000,
            task_mappings={"debug": "team:1"},
        ),
    )
    assert with_team_settings(strict, values(lax)).handover is HandoverChoice.NEVER
    assert with_team_settings(strict, values(lax)).engines_allowed is EnginesAllowed.THIS_MACHINE
    theirs = with_team_settings(lax, values(strict))
    assert (theirs.handover, theirs.engines_allowed) == (strict.handover, strict.engines_allowed)
    # What follows a decision agrees with it.
    assert (theirs.session_limit, theirs.task_mappings) == (300_000, {"debug": "team:1"})
    assert with_team_settings(lax, {}) == lax
    # A newer server may have values that this version does not know.
    assert with_team_settings(strict, {"handover": "sometimes"}) == strict
    assert with_team_settings(lax, {**values(lax), "new": 1}) == lax
    beside = with_team_settings(lax, {**values(strict), "ladder": "newer"})
    assert (beside.handover, beside.engines_allowed) == (strict.handover, strict.engines_allowed)
    hostile_values: tuple[object, ...] = (
        [],
        {"debug": [1]},
        {"debug": None},
        None,
        10**40,
        "\x1b[2J",
    )
    for hostile in hostile_values:
        sent = dict.fromkeys(values(lax), hostile)
        assert with_team_settings(strict, sent) == strict
