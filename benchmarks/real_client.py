"""Hand-overs by the real Claude Code client to real llama.cpp, through both protocols.

Claude is scripted (``scripted_claude.py``); the client, the server and the engines are real: llama.cpp with a
tiny model of random weights behind the tests' Ollama-like server, and by its own server. One call is checked,
one climbs from one engine to the other, one comes back to Claude with what was wrong; then come twenty tasks of
all sizes, and ten answers of nonsense. At the end the ledger has what both engines have counted themselves.

With ``--model`` a file of 200 KB is summarised by that model, which may take a quarter of an hour: reading
a part takes longer than an engine may be silent, which is no time-out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripted_claude import Call, Play, run_client, scripted_claude
from side_by_side import Figure, argument_parser, immunos_command, report, temporary_home

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from llama_engine import LlamaEngine, make_tiny_model
from ollama_server import Script, scripted_ollama

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

OLLAMA_MODEL, LLAMA_MODEL = "qwen2.5-coder:7b", "llamacpp/tiny.gguf"
CONTEXT = 16_384
SCHEMA = {"enum": ["yes", "no"]}
SUMMARY_BYTES = 200_000
WORDS = (
    "information",
    "development",
    "international",
    "government",
    "understanding",
    "environmental",
    "communication",
    "opportunities",
    "responsibility",
    "traditional",
    "significant",
    "characteristics",
    "particularly",
)
"""A token each for most models, so that 200 KB are few of them."""

Answers = list[dict[str, Any]]


def asked(task_type: str, **more: object) -> Call:
    return Call("delegate_task", {"prompt": "Answer.", "task_type": task_type, **more})


def short_tasks(answers: Answers) -> Play:
    """Play the tasks of the tiny models."""
    answers += yield [asked("debug", schema=SCHEMA, max_output_tokens=60)]
    answers += yield [asked("code_review", schema=SCHEMA, max_output_tokens=60)]
    hopeless = {"checks": ["never"], "output_path": "new.txt"}
    answers += yield [asked("code_review", schema=SCHEMA, max_output_tokens=60, **hopeless)]
    # A subagent is said to have done it.
    yield [Call("record_usage", {"decision_id": answers[-1]["decision_id"], "outcome": "success"})]
    for number in range(20):
        paths = [f"{number % 5}.txt"]
        answers += yield [asked("analysis", paths=paths, max_output_tokens=20)]
    for _ in range(10):
        answers += yield [asked("debug", schema=SCHEMA, max_output_tokens=60)]


def long_task(answers: Answers) -> Play:
    """Play a summary, whose call is repeated with its handle until it is done."""
    answers += yield [asked("summarize", paths=["long.txt"], max_output_tokens=40)]
    while "handle" in answers[-1]:
        answers += yield [Call("delegate_task", {"handle": answers[-1]["handle"]})]


class Place:
    """A home and a project folder, with the programs that work there."""

    def __init__(self, folder: Path, engines: Mapping[str, str]) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir(parents=True)
        self.project.mkdir()
        self._variables = {"HOME": str(self.home), **engines}

    def run(self, *arguments: str) -> Any:
        """Run a command; return its answer."""
        command = (*immunos_command(), *arguments, "--json")
        ran = subprocess.run(
            command, cwd=self.project, env=self._variables, capture_output=True, check=False
        )
        if ran.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {ran.stderr.decode()}")
        return json.loads(ran.stdout)

    def play(self, client: str, play: Play) -> None:
        """Let the client do what Claude's script says."""
        command, *arguments = immunos_command()
        server = {"command": command, "args": arguments, "env": self._variables}
        with scripted_claude(play) as api:
            ran = run_client(client, self.home, self.project, api, server)
        if ran.returncode:
            raise SystemExit(f"the client failed: {ran.stdout} {ran.stderr}")


def short(given: Namespace, folder: Path) -> list[Figure]:
    folder.mkdir()
    model = folder / "tiny.gguf"
    make_tiny_model(model, CONTEXT)
    first, second = LlamaEngine(model, CONTEXT), LlamaEngine(model, CONTEXT)
    script = Script(models={OLLAMA_MODEL: CONTEXT}, loaded=(), llama=first)
    with scripted_ollama(script) as host:
        place = Place(
            folder, {"OLLAMA_HOST": host, "IMMUNOS_ENGINES": f"llamacpp={second.address}"}
        )
        for number in range(5):
            (place.project / f"{number}.txt").write_text("a line\n" * 150 * number)
        mapped = {
            "debug": LLAMA_MODEL,
            "code_review": f"{OLLAMA_MODEL},{LLAMA_MODEL},haiku",
            "analysis": OLLAMA_MODEL,
        }
        settings = (f"task_mappings.{kind}={models}" for kind, models in mapped.items())
        place.run("config", "set", *settings)
        place.run("checks", "add", "never", "false")
        answers: Answers = []
        place.play(given.claude, short_tasks(answers))
        status, history = place.run("status"), place.run("history", "--limit", "1000")
        records = place.run("report")["records"]
    checked, climbed, returned = answers[:3]
    judged = sum(
        line["successes"] + line["failures"] for line in records if line["task_type"] == "debug"
    )
    done = {(line["task_type"], line["model"], line["successes"]) for line in records}
    kept = sum(first.counters()) + sum(second.counters())
    if given.show:
        print(json.dumps(answers, indent=1))
    return [
        _held("one call is checked", checked.get("passed_checks") == "json"),
        _held(
            "one climbs to the other engine",
            (climbed["model"], climbed.get("passed_checks")) == (LLAMA_MODEL, "json")
            and climbed["message"].startswith("Tried: "),
        ),
        _held(
            "one returns to Claude with what was wrong",
            returned["provider"] == "claude"
            and "subagent with model haiku." in returned["message"]
            and "check never failed" in returned["message"],
        ),
        _held("the tier that was advised has the outcome", ("code_review", "haiku", 1) in done),
        Figure("tasks that were answered", len(answers), "", 33, at_least=True),
        Figure("decisions of them", len(history), "", 36, at_least=True),
        Figure("context sizes of twenty tasks", len({*script.loads}), "", 2),
        Figure("outcomes that eleven unjudged answers taught", judged, "", 0),
        _held("the ledger has the tokens of both engines", status["kept_local_tokens"] == kept),
        Figure("tokens", kept, ""),
    ]


def _held(what: str, holds: bool) -> Figure:
    return Figure(what, int(holds), "", 1, at_least=True)


def long(given: Namespace, folder: Path) -> list[Figure]:
    engine = LlamaEngine(given.model, given.context)
    name = f"llamacpp/{given.model.name}"
    place = Place(folder, {"IMMUNOS_ENGINES": f"llamacpp={engine.address}"})
    words = " ".join(WORDS[(7 * number) % len(WORDS)] for number in range(SUMMARY_BYTES // 4))
    (place.project / "long.txt").write_text(words[:SUMMARY_BYTES])
    place.run("config", "set", f"task_mappings.summarize={name}", "delegate_wait_seconds=50")
    answers: Answers = []
    place.play(given.claude, long_task(answers))
    status, kept = place.run("status"), sum(engine.counters())
    if given.show:
        print(json.dumps(answers[-1], indent=1))
    return [
        _held("200 KB are summarised without a time-out", "local_output" in answers[-1]),
        Figure("parts", answers[-1].get("parts", 0), ""),
        Figure("seconds", answers[-1].get("seconds", 0), ""),
        Figure("calls of the client", len(answers), ""),
        Figure("tokens", kept, ""),
        _held("the ledger has the tokens of the engine", status["kept_local_tokens"] == kept),
    ]


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--claude", required=True, help="the native program of Claude Code")
    parser.add_argument("--model", type=Path, help="a GGUF file, for the summary")
    parser.add_argument("--context", type=int, default=8_192, help="the context of that model")
    parser.add_argument("--show", action="store_true", help="print every answer")
    given = parser.parse_args()
    with temporary_home() as folder:
        figures = (
            short(given, folder / "short") if given.model is None else long(given, folder / "long")
        )
    report(figures, given.json)


if __name__ == "__main__":
    main()
