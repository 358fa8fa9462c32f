"""Where things are: flag, else variable, else default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immunos_mcp.errors import InvalidInputError, Problem
from immunos_mcp.options import (
    ALLOWED_PATHS,
    COMMAND_OPTIONS,
    DATABASE,
    DELEGATE,
    OLLAMA_CHECK,
    SERVING_OPTIONS,
    SESSION,
    Address,
    Options,
    default_database,
    read,
)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_without_flags_and_variables_everything_is_in_the_home(own_home: Path) -> None:
    file = own_home / ".immunos" / "db" / "immunos.db"
    assert default_database() == file
    assert read({}) == Options(file, "default", read_transcripts=True)


def test_reading_the_options_makes_no_folder(own_home: Path) -> None:
    read({})
    assert list(own_home.iterdir()) == []


def test_empty_variables_count_as_not_set(own_home: Path) -> None:
    environment = {"IMMUNOS_DB": "", "IMMUNOS_SESSION": "", "IMMUNOS_TRANSCRIPTS": ""}
    assert read(environment) == Options(own_home / ".immunos" / "db" / "immunos.db", "default")


@given(
    flag=st.none() | st.just("/flag.db"),
    variable=st.none() | st.just("/variable.db"),
    session_flag=st.none() | st.just("flag"),
    session_variable=st.none() | st.just("variable"),
)
def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default(
    flag: str | None, variable: str | None, session_flag: str | None, session_variable: str | None
) -> None:
    named = {"IMMUNOS_DB": variable, "IMMUNOS_SESSION": session_variable}
    environment = {name: value for name, value in named.items() if value is not None}
    assert read(environment, {"db": flag, "session": session_flag}) == Options(
        Path(flag or variable or default_database()),
        session_flag or session_variable or "default",
    )


@pytest.mark.parametrize("where", ["flag", "variable"])
def test_a_tilde_is_the_home_and_a_relative_path_is_below_the_current_folder(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    current = own_home / "current"
    current.mkdir()
    monkeypatch.chdir(current)

    def database(text: str) -> object:
        chosen = read({}, {"db": text}) if where == "flag" else read({"IMMUNOS_DB": text})
        return chosen.database

    assert database("~/a.db") == own_home / "a.db"
    assert database("b.db") == current / "b.db"
    assert database("/c.db") == Path("/c.db")


@pytest.mark.parametrize(
    ("environment", "flag"),
    [({}, "~nobody_of_this_name/a.db"), ({"IMMUNOS_DB": "~nobody_/a"}, None)],
)
def test_the_home_of_somebody_unknown_is_refused(
    environment: dict[str, str], flag: str | None
) -> None:
    with pytest.raises(InvalidInputError, match=r"--db|IMMUNOS_DB"):
        read(environment, {"db": flag})


@pytest.mark.parametrize("where", ["--db", "IMMUNOS_DB"])
def test_a_file_in_a_folder_that_does_not_exist_is_refused_and_nothing_is_created(
    own_home: Path, where: str
) -> None:
    file = str(own_home / "nowher" / "x.db")
    environment, flag = ({}, file) if where == "--db" else ({"IMMUNOS_DB": file}, None)
    with pytest.raises(InvalidInputError) as refused:
        read(environment, {"db": flag})
    assert refused.value.problems == (Problem(where, file, "a file in an existing folder"),)
    assert list(own_home.iterdir()) == []


def test_the_default_file_may_be_named_before_its_folder_exists(own_home: Path) -> None:
    assert read({"IMMUNOS_DB": "~/.immunos/db/immunos.db"}).database == default_database()
    assert list(own_home.iterdir()) == []


@pytest.mark.parametrize(("text", "is_on"), [("on", True), ("off", False)])
def test_transcripts_are_read_unless_they_are_switched_off(text: str, is_on: bool) -> None:
    assert read({"IMMUNOS_TRANSCRIPTS": text}, {"db": "/a.db", "session": "s"}) == Options(
        Path("/a.db"), "s", is_on
    )


@pytest.mark.parametrize("text", ["yes", "ON", "0", " on", "off\n"])
def test_any_other_word_for_reading_transcripts_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read({"IMMUNOS_TRANSCRIPTS": text})
    assert refused.value.problems == (Problem("IMMUNOS_TRANSCRIPTS", text, "on or off"),)


@pytest.mark.parametrize(
    ("environment", "flag", "field", "got"),
    [
        ({"IMMUNOS_SESSION": "a\nb"}, None, "IMMUNOS_SESSION", "a\nb"),
        ({"IMMUNOS_SESSION": "x" * 65}, None, "IMMUNOS_SESSION", "x" * 65),
        ({"IMMUNOS_SESSION": "fine"}, "", "--session", ""),
        ({}, "\u200b", "--session", "\u200b"),
    ],
)
def test_a_session_that_cannot_be_taken_is_named_by_where_it_was_given(
    environment: dict[str, str], flag: str | None, field: str, got: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(environment, {"session": flag})
    assert refused.value.problems == (Problem(field, got, "1 to 64 printable characters"),)


def test_a_bad_variable_is_not_looked_at_where_a_flag_is_given() -> None:
    assert read({"IMMUNOS_SESSION": "a\nb"}, {"db": "/a.db", "session": " work "}) == Options(
        Path("/a.db"), "work"
    )


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("off", None),
        ("on", Address("127.0.0.1", 4318)),
        ("127.0.0.1:9", Address("127.0.0.1", 9)),
        ("localhost:65535", Address("localhost", 65535)),
        ("[::1]:4318", Address("::1", 4318)),
    ],
)
def test_telemetry_is_taken_in_on_loopback(given: str, address: Address | None) -> None:
    assert read({}, {"telemetry": given}).telemetry == address
    assert read({"IMMUNOS_TELEMETRY": given}).telemetry == address
    assert read({"IMMUNOS_TELEMETRY": "on"}, {"telemetry": "off"}).telemetry is None


@pytest.mark.parametrize(
    "given",
    ["yes", "0.0.0.0:4318", "example.com:80", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x"],
)
def test_telemetry_from_beyond_this_machine_is_refused(given: str) -> None:
    for field, flag, environment in (
        ("--telemetry", given, {}),
        ("IMMUNOS_TELEMETRY", None, {"IMMUNOS_TELEMETRY": given}),
    ):
        with pytest.raises(InvalidInputError) as refused:
            read(environment, {"telemetry": flag})
        expected = "on, off or a loopback address such as 127.0.0.1:4318"
        assert refused.value.problems == (Problem(field, given, expected),)


def test_an_empty_flag_for_the_database_leaves_it_to_the_variable() -> None:
    assert read({"IMMUNOS_DB": "/variable.db"}, {"db": ""}).database == Path("/variable.db")


def test_a_flag_may_say_that_the_engine_has_no_address_of_its_own() -> None:
    assert read({"OLLAMA_HOST": "other:1"}, {"ollama_host": ""}).ollama_host == ""
    assert read({"OLLAMA_HOST": "other:1"}).ollama_host == "other:1"


@pytest.mark.parametrize(
    ("environment", "flag", "delegates"),
    [
        ({}, None, True),
        ({"IMMUNOS_DELEGATE": "off"}, None, False),
        ({"IMMUNOS_DELEGATE": "on"}, "off", False),
        ({"IMMUNOS_DELEGATE": "not looked at"}, "off", False),
    ],
)
def test_tasks_are_handed_over_unless_flag_or_variable_forbids_it(
    environment: dict[str, str], flag: str | None, delegates: bool
) -> None:
    assert read(environment, {"no_delegate": flag}).delegate is delegates


def test_paths_of_flags_and_of_the_variable_are_allowed_together(own_home: Path) -> None:
    variable = os.pathsep.join(["/c", "", "~/d"])
    chosen = read({"IMMUNOS_ALLOWED_PATHS": variable}, {"allow_path": ["/a", "~/b", ""]})
    assert chosen.allowed_paths == (Path("/a"), own_home / "b", Path("/c"), own_home / "d")


@pytest.mark.parametrize(
    ("environment", "flags", "field"),
    [
        ({"IMMUNOS_ALLOWED_PATHS": "~nobody_/a"}, {}, "IMMUNOS_ALLOWED_PATHS"),
        ({}, {"allow_path": ["/a", "~nobody_/a"]}, "--allow-path"),
    ],
)
def test_an_allowed_path_below_no_home_is_named_by_where_it_was_given(
    environment: dict[str, str], flags: dict[str, list[str]], field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(environment, flags)
    expected = "a path in an existing home folder"
    assert refused.value.problems == (Problem(field, "~nobody_/a", expected),)


def test_where_there_is_no_home_a_file_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(InvalidInputError) as refused:
        read({})
    assert str(refused.value) == "IMMUNOS_DB: is required, since there is no home folder"
    assert read({"IMMUNOS_DB": "/a.db"}).database == Path("/a.db")


def test_flags_are_passed_on_as_they_were_given_and_paths_in_full(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_home)
    flags = {
        "db": "~/a.db",
        "session": "~work",
        "ollama_check": "off",
        "no_delegate": "off",
        "allow_path": ["b", "/c"],
        "telemetry": None,
    }
    assert DATABASE.arguments(flags) == ["--db", str(own_home / "a.db")]
    assert SESSION.arguments(flags) == ["--session", "~work"]
    assert OLLAMA_CHECK.arguments(flags) == ["--ollama-check", "off"]
    assert DELEGATE.arguments(flags) == ["--no-delegate"]
    allowed = ["--allow-path", str(own_home / "b"), "--allow-path", "/c"]
    assert ALLOWED_PATHS.arguments(flags) == allowed
    rows = (*COMMAND_OPTIONS, *SERVING_OPTIONS)
    assert [word for option in rows for word in option.arguments({})] == []


def test_help_tells_the_default_that_is_in_force() -> None:
    assert (
        DATABASE.help
        == "ledger file, or postgresql:// address (default: $IMMUNOS_DB, else ~/.immunos/db/immunos.db)"
    )
    assert default_database() == Path(DATABASE.shown_default).expanduser()
    assert read({}).session == SESSION.shown_default
