"""Addresses of databases: what is read of them, and what is never shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from immunos_mcp.database_address import DatabaseAddress, parse
from immunos_mcp.errors import InvalidInputError, LedgerError
from immunos_mcp.ledger.connections.opening import inline_ledger, threaded_ledger
from immunos_mcp.options import DATABASE, read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("postgresql://h/d", ("postgresql://h/d", "default", False), "postgresql://h/d"),
        (
            "postgres://u:pw@h:1,g:2/d",
            ("postgres://u:pw@h:1,g:2/d", "default", False),
            "postgres://h:1,g:2/d",
        ),
        ("postgresql:///d?team=red", ("postgresql:///d", "red", True), "postgresql:///d?team=red"),
        (
            "postgresql://u@/d?host=%2Frun%2Fpg&team=a-b_1&sslmode=require",
            ("postgresql://u@/d?host=%2Frun%2Fpg&sslmode=require", "a-b_1", True),
            "postgresql:///d?team=a-b_1",
        ),
    ],
)
def test_an_address_has_a_team_besides(
    text: str, expected: tuple[str, str, bool], shown: str
) -> None:
    address = parse(text)
    assert address == DatabaseAddress(*expected)
    assert (str(address), f"{address!r}") == (shown, shown)


def test_passwords_are_known_wherever_they_stand() -> None:
    address = parse("postgresql://u:a%40b@h/d?password=c&sslpassword=e")
    assert address is not None
    assert set(address.secrets) == {"a%40b", "a@b", "c", "e"}
    assert not DatabaseAddress("postgresql://u@h/d").has_password


@pytest.mark.parametrize(
    "rest", ["h/d?team=", "h/d?team=a b", "h/d#x", "[::1/d", "h/d?x", "h/\x1b"]
)
def test_what_is_no_address_is_not_shown(rest: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        read({"IMMUNOS_DB": f"postgresql://me:geheim@{rest}"})
    assert "IMMUNOS_DB: must be an address such as postgresql://" in str(raised.value)
    assert "geheim" not in str(raised.value)


def test_an_address_is_passed_on_as_it_is(tmp_path: Path) -> None:
    assert DATABASE.arguments({"db": "postgresql://h/d?team=x"}) == [
        "--db",
        "postgresql://h/d?team=x",
    ]
    assert read({}, {"db": str(tmp_path / "x")}).database == tmp_path / "x"


@pytest.mark.parametrize("open_ledger", [inline_ledger, threaded_ledger])
def test_a_database_needs_a_package_that_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, open_ledger: type
) -> None:
    for name in [each for each in sys.modules if "connections.postgresql" in each]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"needs the package psycopg; .*'immunos-mcp\[team\]'"):
        open_ledger(DatabaseAddress("postgresql://h/d"))
