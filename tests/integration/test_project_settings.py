"""Settings of project folders as users and clients meet them: set, shown, in force, replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import wire

from immunos_mcp.archive import Archive
from immunos_mcp.domain import Reason
from immunos_mcp.ledger.connections.inline import InlineSqliteLedger, run_sync
from immunos_mcp.router import Router

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[InlineSqliteLedger]:
    with InlineSqliteLedger(tmp_path / "ledger.db") as opened:
        yield opened


def router_at(ledger: InlineSqliteLedger, *places: str) -> Router:
    return Router(ledger, "default", places=places)


def test_what_is_set_for_a_folder_holds_there_and_below_alone(ledger: InlineSqliteLedger) -> None:
    here, elsewhere = router_at(ledger, "/apps/app/src"), router_at(ledger, "/appstore")
    before = run_sync(elsewhere.route_task("code_review", "routine"))
    run_sync(here.project_settings.change("/apps/app", {"handover": "never"}, "test"))
    answer = run_sync(here.route_task("code_review", "routine"))
    assert (answer.reason, answer.provider) == (Reason.HANDOVER_FORBIDDEN, "claude")
    after = run_sync(elsewhere.route_task("code_review", "routine"))
    assert (after.model, after.reason) == (before.model, before.reason)
    status = run_sync(here.get_session_status())
    assert status.project_settings == "handover=never (/apps/app)"
    assert run_sync(elsewhere.get_session_status()).project_settings is None


def test_a_session_that_is_bound_to_a_folder_belongs_to_it(ledger: InlineSqliteLedger) -> None:
    router = router_at(ledger)
    run_sync(router.bindings.add("/apps"))
    run_sync(router.project_settings.change("/apps", {"handover": "never"}, "test"))
    answer = run_sync(router.route_task("code_review", "routine"))
    assert answer.reason is Reason.HANDOVER_FORBIDDEN
    assert run_sync(router.project_settings.here()).handover == "never"


def test_a_decision_is_explained_with_what_its_folder_had_set(ledger: InlineSqliteLedger) -> None:
    router = router_at(ledger, "/apps/app")
    run_sync(router.project_settings.change("/apps", {"handover": "never"}, "test"))
    run_sync(router.route_task("code_review", "routine"))
    run_sync(router.project_settings.unset("/apps", ("handover",), "test"))
    told = run_sync(Archive(ledger).explain_decision(1))
    assert told.project_settings == "handover=never (/apps)"
    assert told.explanation.rows[0].why == "handover is never"
    changes = run_sync(Archive(ledger).list_setting_changes(9))
    assert [(each.project, each.setting, each.before, each.after) for each in changes] == [
        ("/apps", "handover", "never", None),
        ("/apps", "handover", None, "never"),
    ]


def test_a_dry_run_changes_the_decisions_of_its_folder_alone(ledger: InlineSqliteLedger) -> None:
    inside, outside = router_at(ledger, "/apps/app"), router_at(ledger, "/home")
    below = router_at(ledger, "/apps/app/open")
    run_sync(below.project_settings.change("/apps/app/open", {"handover": "on"}, "test"))
    for router in (inside, inside, outside, below):
        run_sync(router.route_task("code_review", "routine"))
    would = run_sync(
        inside.project_settings.change("/apps", {"handover": "never"}, "test", dry_run=True)
    )
    assert would.rehearsal is not None
    # What a folder below has of its own holds against both.
    assert (would.rehearsal.decisions, would.rehearsal.moved_to_claude) == (4, 2)
    everywhere = run_sync(inside.update_config({"handover": "never"}, "test", dry_run=True))
    assert everywhere.rehearsal is not None
    assert everywhere.rehearsal.moved_to_claude == 3
    replayed = run_sync(Archive(ledger).replay({"handover": "never"}))
    assert replayed.moved_to_claude == 3
    assert not run_sync(inside.project_settings.all())[0].settings.get("token_warning_threshold")


def test_a_log_comes_out_as_it_was_whatever_folders_had_set_meanwhile(
    ledger: InlineSqliteLedger,
) -> None:
    inside, outside = router_at(ledger, "/apps/app"), router_at(ledger, "/home")

    def route() -> None:
        for router in (inside, outside):
            run_sync(router.route_task("code_review", "routine"))

    own = inside.project_settings
    route()
    run_sync(own.change("/apps", {"handover": "never"}, "test"))
    route()
    run_sync(own.change("/apps/app", {"handover": "on"}, "test"))
    run_sync(own.change("/apps", {"task_mappings": {"code_review": "tiny"}}, "test"))
    route()
    run_sync(inside.update_config({"task_mappings": {"code_review": "other"}}, "test"))
    run_sync(own.unset("/apps", ("task_mappings", "handover"), "test"))
    route()
    coder, claude = "qwen2.5-coder:7b", "claude-sonnet-4.5"
    models = [coder, coder, claude, coder, "tiny", coder, "other", "other"]
    logged = run_sync(Archive(ledger).list_decisions(20, None))
    assert [each.decision.model for each in reversed(logged)] == models
    replayed = run_sync(Archive(ledger).replay({}))
    assert (replayed.decisions, replayed.changed) == (8, 0)


def test_no_client_changes_what_the_command_line_set_for_a_folder(home: Path) -> None:
    secret, free = home / "secret", home / "free"
    for folder in (secret, free):
        folder.mkdir()
    (home / "link").symlink_to(secret)
    done = wire.run(home, "config", "set", "handover=never", "--project", "link/")
    assert (done.returncode, done.stdout) == (0, "Changed: handover on -> never\n")
    task = {"task_type": "code_review", "classification": "routine"}
    with wire.ServerProcess(home, folder=str(home / "link")) as server:
        server.initialize()
        assert server.answer("route_task", **task)["reason"] == "handover_forbidden"
        for given in ({"handover": "on"}, {"project": str(secret), "ladder": "off"}):
            assert "no such argument" in server.refusal("update_config", **given)
        server.answer("update_config", track_record="off", cloud_models="on")
        assert server.answer("route_task", **task)["reason"] == "handover_forbidden"
        status = server.answer("get_session_status")
        assert status["project_settings"] == f"handover=never ({secret.resolve()})"
    # Whatever a project's own files have a client say, the folder that it works in counts.
    variables = {"CLAUDE_PROJECT_DIR": str(free)}
    with wire.ServerProcess(home, folder=str(secret), variables=variables) as server:
        server.initialize()
        assert server.answer("route_task", **task)["reason"] == "handover_forbidden"


def test_the_command_line_shows_what_holds_in_a_folder_and_where_it_comes_from(
    home: Path,
) -> None:
    (home / "a" / "b").mkdir(parents=True)
    outer, inner = str((home / "a").resolve()), str((home / "a" / "b").resolve())

    def run(*arguments: str) -> str:
        done = wire.run(home, "config", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("set", "handover=never", "task_mappings.debug=tiny", "--project", "a")
    run("set", "ladder=off", "task_mappings.debug=null", "--project", "a/b")
    assert run("get", "handover", "--project", "a/b") == f"handover = never  (set for {outer})\n"
    found = json.loads(run("get", "--project", "a/b", "--json"))
    assert found["ladder"] == {"value": "off", "project": inner}
    assert found["task_mappings.debug"] == {"value": "null", "project": inner}
    assert found["handover"] == {"value": "never", "project": outer}
    assert found["session_limit"] == {"value": 200_000}
    assert run("get", "task_mappings.debug", "--project", "a") == (
        f"task_mappings.debug = tiny  (set for {outer})\n"
    )
    (home / "a" / "b").rmdir()
    assert run("projects") == (
        f"{outer}: handover=never, task_mappings.debug=tiny\n"
        f"{inner} (no such folder): ladder=off, task_mappings.debug=null\n"
    )
    checked = wire.run(home, "doctor").stdout
    assert f"{inner} has settings of its own: ladder, task_mappings, but is no folder" in checked
    run("unset", "ladder", "task_mappings", "--project", "a/b")
    assert inner not in run("projects")
    assert run("unset", "ladder", "--project", "a") == "Changed: nothing\n"
