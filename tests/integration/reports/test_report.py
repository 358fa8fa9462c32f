"""``immunos-mcp report`` as a person or a script meets it: run for real, in an empty home."""

from __future__ import annotations

import csv
import io
import json
import stat
from typing import TYPE_CHECKING

import filled_ledgers
import pytest
import wire

if TYPE_CHECKING:
    from pathlib import Path

USAGE = ("record", "--output", "1000", "--cache-read", "500", "--input")


def said(home: Path, *arguments: str, **variables: str) -> str:
    done = wire.run(home, *arguments, variables=variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(home: Path, *arguments: str, code: int = 2) -> str:
    done = wire.run(home, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def used(home: Path) -> Path:
    """A home where a little work was done."""
    task = ("route", "--classification", "routine", "--task-type")
    said(home, *task, "code_review")
    said(home, *USAGE, "3000", "--model", "qwen2.5-coder:7b", "--decision-id", "1",
         "--outcome", "success")  # fmt: skip
    said(home, *task, "essay")
    said(home, *USAGE, "150000", "--model", "claude-sonnet-4-5")
    said(home, *USAGE, "7", "--model", "claude-of-tomorrow")
    return home


def test_what_hooks_said_is_in_the_report(used: Path) -> None:
    wire.execute(
        wire.ledger_path(used), "INSERT INTO immunos_mcp_hook_text VALUES ('2026-11-01', 3, 90)"
    )
    shown = said(used, "report")
    assert "Advice       3 texts of hooks, about 90 tokens of Claude's" in shown
    assert "advice of hooks -292" in " ".join(shown.split())
    page = said(used, "report", "--format", "html")
    assert "Hooks said 3 texts, about 90 tokens." in page
    assert '<th scope="row">advice of hooks</th><td class="number">-292</td>' in page
    rows = csv.reader(io.StringIO(said(used, "report", "--format", "csv")))
    figures = {row[5]: row[6] for row in rows if row[0] == "savings"}
    savings = wire.run_json(used, "report")["savings"]
    assert figures == {name: str(figure) for name, figure in savings.items()}
    assert (savings["hand_overs"], savings["only_routed"], savings["advice_tokens"]) == (1, 1, 292)


def test_the_text_tells_what_was_used_decided_and_saved(used: Path) -> None:
    lines = said(used, "report").splitlines()
    assert lines[0].startswith("immunos-mcp report, 2")
    assert lines[0].endswith(" UTC: all time")
    summary = " ".join(" ".join(lines[2 : lines.index("Tokens by hour")]).split())
    assert "Claude 152,007 budget tokens: input 150,007 (weight 1), output 2,000 (1)" in summary
    assert "cache reads 1,000 (0)" in summary
    assert "Kept local 4,500 tokens: input 3,000, output 1,000" in summary
    # 150,000 at $3 + 1,000 at $15 + 500 at $0.30; 3,000 at $3 + 1,000 at $15 + 500 at $0.30.
    assert (
        "Claude at least $0.47 (excluding 1 model without a known price); kept local $0.02"
        in summary
    )
    assert "at Claude Sonnet 4.5 prices. Source: genai-prices 0.2" in summary
    assert "2: 1 to Claude, 1 to local models; 1 succeeded, 0 failed, 1 unknown" in summary
    assert "warning 150,000, auto-switch 180,000, limit 200,000" in summary
    assert any(line.startswith("task_optimized   ollama") for line in lines)
    (session,) = [line for line in lines if " default " in line]
    assert session.split()[4:] == ["open", "152,007", "76%!", "4,500", "2", "$0.47+"]


def test_json_has_the_same_figures_under_either_name(used: Path) -> None:
    answer = wire.run_json(used, "report")
    other = json.loads(said(used, "report", "--format", "json"))
    assert other | {"report_at": None} == answer | {"report_at": None}
    assert answer["budget_tokens"] == 152_007
    assert answer["prices"] == {
        "table": answer["prices"]["table"],
        "model": "claude-sonnet-4.5",
        "priced_as": "Claude Sonnet 4.5",
        "input_usd": 3.0,
        "output_usd": 15.0,
        "cache_creation_usd": 3.75,
        "cache_read_usd": 0.3,
        "kept_local_cost_usd": 0.02415,
        "claude_cost_usd": 0.46515,
        "models_without_price": ["claude-of-tomorrow"],
        "claude_cost_is_at_least": True,
    }
    assert answer["decisions"] == [
        {"reason": "default_complex", "provider": "claude", "decisions": 1, "successes": 0,
         "failures": 0},
        {"reason": "task_optimized", "provider": "ollama", "decisions": 1, "successes": 1,
         "failures": 0},
    ]  # fmt: skip
    assert [session["session_tokens"] for session in answer["sessions"]] == [152_007]


def test_a_claude_model_without_a_price_gives_none_and_says_so(used: Path) -> None:
    said(used, "config", "set", "claude_model=claude-sonnet-99")
    prices = wire.run_json(used, "report")["prices"]
    assert prices["model"] == "claude-sonnet-99"
    assert prices.keys().isdisjoint({"priced_as", "input_usd", "kept_local_cost_usd"})
    told = " ".join(said(used, "report").split())
    assert "kept local unknown (no known price for claude-sonnet-99)." in told
    assert "No list price is known for claude-sonnet-99" in said(used, "report", "--format", "html")


def test_csv_is_one_table_with_a_figure_a_line(used: Path) -> None:
    shown = said(used, "report", "--format", "csv")
    lines = [tuple(line) for line in csv.reader(io.StringIO(shown, newline=""))]
    assert lines[0] == ("section", "key", "provider", "model", "detail", "measure", "value")
    assert ("total", "", "claude", "", "", "budget_tokens", "152007") in lines
    assert ("decision", "task_optimized", "ollama", "", "", "successes", "1") in lines
    assert ("session", "1", "", "", "default", "session_tokens", "152007") in lines


def test_since_leaves_out_what_was_before(used: Path) -> None:
    future = "2999-01-01"
    shown = said(used, "report", "--since", future)
    # The session goes on, so it is there.
    assert "since 2999" in shown.splitlines()[0]
    assert wire.run_json(used, "report", "--since", future)["budget_tokens"] == 0
    said(used, "reset")
    assert wire.run_json(used, "report", "--since", "2020-01-01")["budget_tokens"] == 152_007
    assert "--since: must be a date or time, such as" in refused(used, "report", "--since", "soon")


def test_an_empty_ledger_gets_help_in_place_of_charts(home: Path) -> None:
    assert "immunos-mcp install claude-code" in said(home, "report")
    assert "immunos-mcp install claude-code" in said(home, "report", "--format", "html")
    assert "earlier --since" in " ".join(said(home, "report", "--since", "2026-01-01").split())
    assert "earlier --since" in said(home, "report", "--since", "2026-01-01", "--format", "html")


def test_a_page_is_bytes_of_utf_8_whatever_the_locale(used: Path) -> None:
    said(used, "route", "--task-type", "x", "--classification", "routine", "--session", "Zürich")
    latin = {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}
    for form in ("html", "csv", "json", "text"):
        assert "Zürich" in said(used, "report", "--format", form, **latin)


@pytest.mark.slow
def test_output_is_private_and_replaces_reports_alone(used: Path) -> None:
    file = used / "mine"
    assert said(used, "report", "--output", str(file)) == f"Wrote {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for form in ("json", "csv", "html", "text"):
        done = wire.run(used, "report", "--format", form, "--output", "mine")
        assert (done.returncode, done.stdout) == (0, f"Wrote {file}\n")
        assert file.read_text(encoding="utf-8").endswith("\n")
    assert wire.run_json(used, "report", "--output", "mine") == {"output_path": str(file)}
    assert json.loads(file.read_text(encoding="utf-8"))["budget_tokens"] == 152_007
    diary = used / "diary"
    diary.write_text("Dear diary", encoding="utf-8")
    expected = "a new file or an earlier report; this file exists and is not a report (got "
    assert f"--output: must be {expected}" in refused(used, "report", "--output", "diary")
    assert diary.read_text(encoding="utf-8") == "Dear diary"
    link = used / "link"
    link.symlink_to(file)
    assert "--output" in refused(used, "report", "--output", "link")
    assert "a file in an existing folder" in refused(used, "report", "--output", "no/where")
    assert "a file with a printable name" in refused(used, "report", "--output", "a\nb")
    assert sorted(path.name for path in used.iterdir()) == [".immunos", "diary", "link", "mine"]


def browser(home: Path, *, works: bool = True) -> dict[str, str]:
    """Return what makes a script the browser, which writes down what it was to show."""
    script = home / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {home}/shown\nexit {0 if works else 1}\n')
    script.chmod(0o700)
    return {"BROWSER": f"{script} %s"}


def test_open_shows_a_page_that_lies_beside_the_ledger(used: Path) -> None:
    page = used / ".immunos" / "db" / "reports" / "report.html"
    for _ in range(2):
        assert said(used, "report", "--open", **browser(used)) == f"Wrote {page}\n"
    assert (used / "shown").read_text().strip() == page.as_uri()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    other = used / "other.html"
    said(used, "report", "--open", "--output", str(other), **browser(used))
    assert (used / "shown").read_text().strip() == other.as_uri()


def test_open_without_a_browser_names_the_page_that_was_written(used: Path) -> None:
    page = used / ".immunos" / "db" / "reports" / "report.html"
    done = wire.run(used, "report", "--open", variables=browser(used, works=False))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"immunos-mcp: no browser could be started; open {page} yourself\n"
    assert page.exists()


def test_open_where_no_page_can_be_kept_says_what_to_give(used: Path) -> None:
    (used / ".immunos" / "db" / "reports").write_text("in the way", encoding="utf-8")
    assert "name a file with --output" in refused(used, "report", "--open")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--open", "--format", "csv"], "--format: must be html with --open (got 'csv')"),
        (["--json", "--format", "csv"], "--format: must be json with --json (got 'csv')"),
        (["--format", "pdf"], "--format: must be text, json, csv or html (got 'pdf')"),
        (["--output", ""], "--output: must be a file with a printable name"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    home: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(home, "report", *arguments)
    assert sorted(path.name for path in home.iterdir()) in ([], [".immunos"])


def test_a_file_that_cannot_be_made_is_put_in_words(used: Path) -> None:
    told = refused(used, "report", "--output", "/proc/report", code=1)
    assert told.startswith("immunos-mcp: /proc/report cannot be written (")


def test_a_report_leaves_the_ledger_as_it_is(used: Path) -> None:
    before = wire.dump(wire.ledger_path(used))
    for form in ("text", "json", "csv", "html"):
        said(used, "report", "--format", form)
    assert wire.dump(wire.ledger_path(used)) == before


def test_stored_text_never_becomes_part_of_the_page(home: Path, tmp_path: Path) -> None:
    rows: list[filled_ledgers.Row] = [
        {"session_id": number, "name": name, "started_at": "2026-11-02T00:00:00.000Z",
         "ended_at": "2026-11-03T00:00:00.000Z", "end_reason": name}
        for number, name in enumerate(filled_ledgers.NAMES, 1)
    ]  # fmt: skip
    file = tmp_path / "ledger.db"
    filled_ledgers.fill(file, filled_ledgers.Contents({"session": rows}))
    shown = said(home, "report", "--format", "html", "--db", str(file))
    assert "<script" not in shown
    assert "<img" not in shown
    assert "\x1b" not in shown
    assert shown.count("<bdi>&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;</bdi>") == 2


LINE = {
    "type": "assistant",
    "cwd": "/home/dev/app",
    "sessionId": "s1",
}


def written(home: Path, *messages: dict[str, object], month: str = "2026-11") -> None:
    file = home / ".claude" / "projects" / "-home-dev-app" / "s1.jsonl"
    file.parent.mkdir(parents=True)
    line = {**LINE, "timestamp": f"{month}-27T12:00:01.000Z"}
    lines = [json.dumps({**line, "message": message}) for message in messages]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_lifetimes_of_the_cache_and_fast_mode_are_priced_and_hosted_models_are_not_local(
    home: Path,
) -> None:
    hour_long = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 10**6}
    written(
        home,
        {"id": "m1", "model": "claude-sonnet-4-5-20250929",
         "usage": {"cache_creation_input_tokens": 10**6, "cache_creation": hour_long}},
        {"id": "m2", "model": "claude-opus-4-6", "usage": {"output_tokens": 10**6, "speed": "fast"}},
        {"id": "m3", "model": "gpt-5", "usage": {"input_tokens": 10**6}},
    )  # fmt: skip
    said(home, "sync", "--all")
    answer = wire.run_json(home, "report")
    assert {each["model"]: each["cost_usd"] for each in answer["models"]} == {
        "claude-sonnet-4-5-20250929": 6.0,
        "claude-opus-4-6": 150.0,
        "gpt-5": 1.25,
    }
    assert (answer["prices"]["claude_cost_usd"], answer["prices"]["hosted_cost_usd"]) == (156, 1.25)
    assert answer["kept_local_tokens"] == 0
    assert [(each["assistant"], each["cost_usd"]) for each in answer["assistants"]] == [
        ("claude-code", 157.25)
    ]
    assert [(each["project"], each["cost_usd"]) for each in answer["projects"]] == [
        ("/home/dev/app", 157.25)
    ]
    shown = said(home, "report", "--format", "csv")
    assert "project,/home/dev/app,,,,cost_usd,157.25" in shown.splitlines()
    rows = [
        json.loads(line) for line in said(home, "export", "--table", "measured_usage").splitlines()
    ]
    assert sum(row["cache_creation_input_tokens"] for row in rows) == 10**6
    assert {row["provider"] for row in rows} == {"claude", "hosted"}


def test_responses_without_cache_lifetimes_are_counted_and_cost_at_least_so_much(
    home: Path,
) -> None:
    written(
        home,
        {"id": "m1", "model": "claude-opus-4-8", "usage": {"cache_creation_input_tokens": 10**6}},
    )
    said(home, "sync", "--all")
    prices = wire.run_json(home, "report")["prices"]
    assert (prices["claude_cost_usd"], prices["claude_cost_is_at_least"]) == (6.25, True)
    assert prices["responses_without_lifetimes"] == 1
    told = " ".join(said(home, "report").split())
    assert "1 response recorded without cache lifetimes: priced as 5-minute cache writes" in told


def test_pruned_usage_costs_at_least_so_much_since_its_conditions_are_gone(home: Path) -> None:
    fast = {"output_tokens": 10**6, "input_tokens": 300_000, "speed": "fast"}
    batch = {"output_tokens": 10**6, "service_tier": "batch"}
    written(
        home,
        {"id": "m1", "model": "claude-opus-4-8", "usage": fast},
        {"id": "m2", "model": "claude-opus-4-8", "usage": batch},
        month="2026-06",
    )
    said(home, "sync", "--all")
    said(home, "prune", "--keep-days", "30")
    prices = wire.run_json(home, "report")["prices"]
    # A batch costs half, which "at least" must not exceed.
    cost = 26.5 + 12.5
    assert (prices["claude_cost_usd"], prices["claude_cost_is_at_least"]) == (cost, True)
    sources = wire.run_json(home, "report")["sources"]
    assert [(each["source"], each["usage_records"]) for each in sources] == [("measured", 2)]
