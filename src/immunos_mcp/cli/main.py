"""The command line: serves MCP when called bare, and gives people and scripts the same powers.

Exit codes: 0 fine, 1 failed, 2 wrong usage. Only serving imports the MCP SDK, which takes most of
a second.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp import __version__, options
from immunos_mcp.assistants.claude_code.transcripts import transcript_folders
from immunos_mcp.cli import terminal
from immunos_mcp.domain import Classification, Outcome
from immunos_mcp.errors import ImmunosError, InvalidInputError, OutputError, Problem
from immunos_mcp.ledger.inline import InlineSqliteLedger, finish
from immunos_mcp.options import expanded
from immunos_mcp.router import Router
from immunos_mcp.rules import settings as settings_rules
from immunos_mcp.rules.names import is_printable, normalise_task_type
from immunos_mcp.server import text as wording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from immunos_mcp.answers.answers import DelegateAnswer
    from immunos_mcp.answers.report import ReportAnswer
    from immunos_mcp.assistants.configuration import Launch
    from immunos_mcp.domain import Engine
    from immunos_mcp.rules.settings import SettingChangeValue

PROGRAM = "immunos-mcp"
CLIENT = f"{PROGRAM} command line"
EXIT_FINE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

_TERMINAL_HINT = """\
immunos-mcp is serving MCP on this terminal and waits for a client to speak JSON-RPC; Ctrl-C ends it.
To use it, add it to a client instead. Claude Code:
  claude mcp add-json immunos '{"command":"immunos-mcp","alwaysLoad":true}'
For commands to type here: immunos-mcp --help
"""

_EXAMPLES = """\
examples:
  immunos-mcp                                    serve MCP over standard input and output
  immunos-mcp route --task-type code_review --classification routine
  immunos-mcp record --model claude-sonnet-4.5 --input 1200 --output 300
  immunos-mcp status --json
  immunos-mcp config set token_warning_threshold=100000
  immunos-mcp config set task_mappings.translate=qwen2.5:7b
  immunos-mcp reset --reason "new working day"

exit codes: 0 fine, 1 failed, 2 wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with command-line arguments (``None``: the process's); return its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter shows its number.
            stream.reconfigure(errors="backslashreplace")
    given = _parse(arguments)
    if given.command is _status_line:
        return _status_line(given)
    try:
        return _carry_out(given)
    except InvalidInputError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ImmunosError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_FAILED


def _carry_out(given: argparse.Namespace) -> int:
    if given.command is _print_completion:
        return _print_completion(given)
    chosen = _options(given, os.environ)
    if given.command in {_install, _doctor, _delegate}:
        return given.command(given, chosen)
    if given.command is None:
        return _serve(chosen)
    if given.session is not None and given.command in {_report, _export, _prune}:
        takes = "nothing with this command, which is about all sessions"
        raise InvalidInputError(Problem("--session", given.session, takes))
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with InlineSqliteLedger(chosen.database) as ledger:
        engine = _look(chosen) if given.command in {_route, _models} else None
        folders = transcript_folders(chosen)
        router = Router(
            ledger,
            chosen.session,
            transcripts=folders,
            engine=None if engine is None else lambda: engine,
        )
        answer, text = finish(given.command(router, given))
    if answer is not None:
        _say(terminal.to_json(answer) if given.json else text)
    return EXIT_FINE


def _say(text: str) -> None:
    try:
        print(text)
    except OSError as error:
        raise OutputError.of_standard_output(error) from error


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    return _parser().parse_args(
        arguments,
        argparse.Namespace(
            command=None,
            db=None,
            session=None,
            telemetry=None,
            ollama_host=None,
            ollama_check=None,
            no_delegate=False,
            allow_path=[],
            json=False,
        ),
    )


def _options(given: argparse.Namespace, environment: Mapping[str, str]) -> options.Options:
    return options.read(
        environment,
        given.db,
        given.session,
        given.telemetry,
        given.ollama_host,
        given.ollama_check,
        not given.no_delegate,
        given.allow_path,
    )


def _serve(chosen: options.Options) -> int:
    gc.enable()
    import anyio

    from immunos_mcp.server.app import serve_stdio

    if sys.stdin.isatty():
        print(_TERMINAL_HINT, file=sys.stderr, end="")
    anyio.run(serve_stdio, chosen)
    return EXIT_FINE


def _look(chosen: options.Options) -> Engine | None:
    if not chosen.ollama_check:
        return None
    from immunos_mcp.engines import ollama

    return ollama.look_now(ollama.address(chosen.ollama_host))


async def _models(router: Router, _given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.list_models()
    return answer, terminal.models(answer)


async def _route(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.route_task(given.task_type, given.classification, given.tokens)
    return answer, wording.routed(answer)


async def _explain(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.explain_decision(given.decision_id)
    return answer, terminal.explanation(answer)


async def _record(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.record_usage(
        model=given.model,
        input_tokens=given.input,
        output_tokens=given.output,
        cache_creation_input_tokens=given.cache_creation,
        cache_read_input_tokens=given.cache_read,
        decision_id=given.decision_id,
        outcome=given.outcome,
        request_id=given.request_id,
        seconds=given.seconds,
    )
    return answer, wording.recorded(answer)


async def _outcome(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.record_outcome(given.decision_id, given.outcome, given.seconds)
    return answer, wording.closed(answer)


async def _status(router: Router, _given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.get_session_status()
    return answer, terminal.status(answer)


async def _reset(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.reset_session(given.reason)
    return answer, wording.reset(answer)


async def _config_get(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    values = settings_rules.values(await router.get_config())
    if given.name is None:
        return values, terminal.settings(values)
    name, entry = _split(given.name)
    name = settings_rules.full_name(name)
    value = values[name]
    if entry is not None:
        if not isinstance(value, dict):
            raise InvalidInputError(Problem("setting", given.name, f"{name} without a part"))
        task_type = normalise_task_type(entry, given.name)
        if task_type not in value:
            raise InvalidInputError(Problem("setting", given.name, "a task type that is mapped"))
        value = value[task_type]
    shown = terminal.settings(value) if isinstance(value, dict) else settings_rules.to_text(value)
    return {given.name: value}, shown


async def _config_set(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.update_config(_assignments(given.assignments), CLIENT, given.dry_run)
    return answer, wording.changed(answer)


async def _config_unset(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.unset_config(tuple(given.names), CLIENT)
    return answer, wording.changed(answer)


async def _config_preset(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    if given.preset is None:
        return dict(settings_rules.PRESETS), terminal.presets(settings_rules.PRESETS)
    changes = settings_rules.preset(given.preset)
    answer = await router.update_config(changes, CLIENT, given.dry_run)
    return answer, wording.changed(answer)


async def _config_history(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    changes = await router.list_setting_changes(given.limit)
    return changes, terminal.setting_changes(changes)


async def _history(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    if given.what == "decisions":
        logged = await router.list_decisions(given.limit, given.session)
        return logged, terminal.decisions(logged)
    summaries = await router.list_sessions(given.limit, given.session)
    return summaries, terminal.sessions(summaries)


async def _replay(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    changes = _assignments(given.assignments)
    answer = await router.replay(changes, given.since, given.session, given.limit)
    return answer, terminal.replayed(answer)


async def _sync(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    since = None if given.all else given.since
    answer = await router.sync(since, _show_progress if sys.stderr.isatty() else _no_progress)
    text = f"Read {answer.transcripts} transcripts, {answer.added} responses were new"
    if answer.unread_lines or answer.unread_files:
        lines, files = answer.unread_lines or 0, answer.unread_files or 0
        text += f"; not readable: {lines} lines, {files} files"
    return answer, text


async def _prune(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.prune(given.keep_days, dry_run=given.dry_run)
    what = "Would sum up" if answer.dry_run else "Summed up"
    return answer, (
        f"{what} {answer.decisions:,} decisions and {answer.usage_records:,} usage records from before"
        f" {answer.before.date()} (UTC); every total stays as it is"
    )


async def _bind(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    answer = await router.bind(given.folder)
    counts = "all projects" if answer.folder is None else f"{answer.folder} alone"
    return answer, f"Session {answer.session} counts {counts} from its next start on"


async def _report(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    from immunos_mcp.reports import prices

    if given.open and given.format not in {None, "html"}:
        raise InvalidInputError(Problem("--format", given.format, "html, where --open shows it"))
    form = "html" if given.open else _form(given, "text", "json")
    path = _report_path(given)
    answer = await router.report(given.since, prices.list_prices(datetime.now(UTC)))
    content = _rendered(answer, form)
    if path is None:
        _say_in_utf_8()
        _say(content)
        return None, ""
    from immunos_mcp.reports.output_file import written

    with written(path, "--output", may_replace=_is_report) as output:
        output.write(f"{content}\n".encode())
    if given.open:
        _show(path)
    return {"output_path": str(path)}, f"Wrote {path}"


def _rendered(answer: ReportAnswer, form: str) -> str:
    if form == "html":
        from immunos_mcp.reports.page.document import page

        return page(answer)
    if form == "csv":
        from immunos_mcp.reports.csv import long_table

        return long_table(answer)
    from immunos_mcp.reports import text

    return terminal.to_json(answer) if form == "json" else text.text(answer)


def _form(given: argparse.Namespace, default: str, of_json: str) -> str:
    """Return the format that was asked for; ``--json`` is another name for one of them."""
    if not given.json:
        return given.format or default
    if given.format not in {None, of_json}:
        raise InvalidInputError(Problem("--format", given.format, f"{of_json}, beside --json"))
    return of_json


def _report_path(given: argparse.Namespace) -> Path | None:
    if given.output is not None:
        return given.output
    if not given.open:
        return None
    folder = _options(given, os.environ).database.parent / "reports"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        takes = f"--output FILE, since {folder} cannot be made ({error.strerror})"
        raise InvalidInputError(Problem("--open", "no file", takes)) from error
    return folder / "report.html"


def _is_report(beginning: bytes) -> bool:
    return beginning.startswith(
        (
            b"immunos-mcp report, ",
            b'{"report_at":"',
            b"section,key,provider,model,detail,measure,value\n",
            b"<!doctype html>\n<!-- immunos-mcp report -->\n",
        )
    )


def _show(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        raise OutputError(f"no browser could be started; open {page} yourself")


def _say_in_utf_8() -> None:
    """Let what is written be what other programs expect, whatever the terminal's locale is."""
    out: object = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding="utf-8")


async def _export(router: Router, given: argparse.Namespace) -> tuple[object, str]:
    from immunos_mcp.reports import output_file, rows

    form = _form(given, "jsonl", "jsonl")
    tables: list[str] = given.table
    if form == "csv" and len(tables) != 1:
        got = ", ".join(tables) or "none"
        raise InvalidInputError(Problem("--table", got, "exactly one table with --format csv"))
    if given.output is None:
        output = output_file.Output(sys.stdout.buffer, "standard output")
        await router.export(tables, given.since, rows.sink(form, output))
        output.flush()
        return None, ""
    with output_file.written(given.output, "--output") as output:
        await router.export(tables, given.since, rows.sink(form, output))
    return {"output_path": str(given.output)}, f"Wrote {given.output}"


def _delegate(given: argparse.Namespace, chosen: options.Options) -> int:
    import anyio

    given.path = [str(expanded(path, "--path").absolute()) for path in given.path]
    if given.output is not None:
        given.output = str(expanded(given.output, "--output").absolute())
    answer = anyio.run(_delegated, given, chosen)
    if given.json:
        _say(terminal.to_json(answer))
    elif answer.local_output is None or answer.output_path is not None:
        _say(wording.delegated(answer))
    else:
        _say("")
        cut = ", cut off" if answer.cut_off else ""
        print(
            f"{answer.model}: {answer.input_tokens:,} + {answer.output_tokens:,} tokens in"
            f" {answer.seconds:g} s{cut}",
            file=sys.stderr,
        )
    return EXIT_FINE


async def _delegated(given: argparse.Namespace, chosen: options.Options) -> DelegateAnswer:
    import anyio

    from immunos_mcp.delegation.request import DelegationRequest
    from immunos_mcp.delegation.tasks import Delegations
    from immunos_mcp.engines.ollama import EngineWatch, Ollama, address

    def say(text: str) -> None:
        # What cannot be written does not end the task; the program's end tells.
        with suppress(OSError):
            print(text, end="", flush=True)

    async def delegate(router: Router, engine: Ollama, watch: EngineWatch) -> DelegateAnswer:
        delegations = Delegations(router, engine, watch)
        request = DelegationRequest(
            prompt=given.prompt,
            task_type=given.task_type,
            classification=given.classification,
            paths=given.path,
            instructions=given.instructions,
            decision_id=given.decision_id,
            max_output_tokens=given.max_output_tokens,
            output_path=given.output,
        )
        # Whoever types a path has allowed it.
        allowed = (Path("/"), *(Path(path) for path in given.path))
        result: list[DelegateAnswer | ImmunosError] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delegations.run)
            try:
                answer = await delegations.delegate(
                    request, allowed, on_text=None if given.json else say
                )
                while answer.handle is not None:
                    answer = await delegations.collect(answer.handle)
                result.append(answer)
            except ImmunosError as error:
                # Out of the group it would come in a group of its own.
                result.append(error)
            tasks.cancel_scope.cancel()
        if isinstance(result[0], ImmunosError):
            raise result[0]
        return result[0]

    where = address(chosen.ollama_host)
    with InlineSqliteLedger(chosen.database) as ledger:
        async with Ollama(where) as engine:
            watch = EngineWatch(engine)
            router = Router(
                ledger,
                chosen.session,
                transcripts=transcript_folders(chosen),
                engine=watch.current if chosen.ollama_check else None,
            )
            return await delegate(router, engine, watch)


def _show_progress(read: int, total: int) -> None:
    share = read / total if total else 1.0
    cells = int(share * terminal.BAR_CELLS)
    bar = "#" * cells + "-" * (terminal.BAR_CELLS - cells)
    end = "\n" if read >= total else ""
    print(f"\r[{bar}] {read / 2**20:,.0f} of {total / 2**20:,.0f} MiB", end=end, file=sys.stderr)


def _no_progress(_read: int, _total: int) -> None:
    pass


def _status_line(given: argparse.Namespace) -> int:
    from immunos_mcp.cli import status_line

    return status_line.main(database=given.db, session=given.session)


def _install(given: argparse.Namespace, _chosen: options.Options) -> int:
    from immunos_mcp.assistants import install
    from immunos_mcp.assistants.configuration import Client, configurations

    client = Client(given.client)
    telemetry = given.telemetry_export or given.uninstall
    files = configurations(client, _own_launch(given), os.environ, telemetry=telemetry)
    plan = install.plan_uninstall(client, files) if given.uninstall else install.plan_install(files)
    if not given.json:
        for text in (*(change.difference() for change in plan.changes), *plan.notes):
            print(text)
    if plan.changes and not (given.print or given.yes or _is_agreed(given)):
        print(f"{PROGRAM}: nothing was changed", file=sys.stderr)
        return EXIT_FAILED
    backups = () if given.print else install.apply(client, plan, uninstall=given.uninstall)
    changed = tuple(str(change.file) for change in plan.changes)
    if given.json:
        answer = {
            "client": client.value,
            "changed": () if given.print else changed,
            "would_change": changed if given.print else None,
            "backups": tuple(map(str, backups)),
            "notes": plan.notes,
        }
        print(terminal.to_json(answer))
    elif not plan.changes:
        print(f"{client} is {'not set up' if given.uninstall else 'set up already'}")
    elif not given.print:
        for backup in backups:
            print(f"As it was before: {backup}")
        print(f"{client} is {'no longer set up' if given.uninstall else 'set up'}; restart it")
    return EXIT_FINE


def _is_agreed(given: argparse.Namespace) -> bool:
    if given.json or not sys.stdin.isatty():
        where = "with --json" if given.json else "where nobody can be asked"
        takes = f"--yes to apply it or --print only to see it, {where}"
        raise InvalidInputError(Problem("install", "neither", takes))
    try:
        return input("Apply? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:
        print()
        return False


def _own_launch(given: argparse.Namespace) -> Launch:
    """Return how a client starts this program: in full, since desktop clients have no PATH."""
    from immunos_mcp.assistants.configuration import Launch

    here = Path(sys.argv[0])
    if here.stem == PROGRAM and here.parent != Path() and here.exists():
        found = str(here)
    else:
        beside = str(Path(sys.executable).parent)
        found = shutil.which(PROGRAM, path=beside) or shutil.which(PROGRAM)
    arguments: list[str] = []
    if found is None:
        arguments += ["-m", "immunos_mcp"]
    if given.db is not None:
        arguments += ["--db", str(Path(given.db).expanduser().absolute())]
    if given.session is not None:
        arguments += ["--session", given.session]
    serving: list[str] = []
    for flag, text in (
        ("--ollama-host", given.ollama_host),
        ("--ollama-check", given.ollama_check),
        ("--telemetry", given.telemetry),
    ):
        serving += [] if text is None else [flag, text]
    serving += ["--no-delegate"] if given.no_delegate else []
    for path in given.allow_path:
        serving += ["--allow-path", str(Path(path).expanduser().absolute())]
    command = sys.executable if found is None else str(Path(found).absolute())
    return Launch(command, tuple(arguments), tuple(serving))


def _doctor(given: argparse.Namespace, chosen: options.Options) -> int:
    from immunos_mcp.assistants import doctor

    findings = doctor.diagnose(doctor.Surroundings(chosen, os.environ, _understood))
    print(terminal.to_json(findings) if given.json else doctor.report(findings))
    return EXIT_FAILED if doctor.has_failed(findings) else EXIT_FINE


def _understood(arguments: Sequence[str], environment: Mapping[str, str]) -> options.Options:
    """Return what a server that is started with these arguments is told.

    Raises:
        InvalidInputError: it would not serve.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            given = _parse(arguments)
    except SystemExit:
        reason = said.getvalue().strip().rpartition("\n")[2].partition("error: ")[2]
        takes = f"what {PROGRAM} serves with ({reason or 'this ends at once'})"
        raise InvalidInputError(Problem("args", " ".join(arguments), takes)) from None
    if given.command is not None:
        takes = "no command: without one it serves"
        raise InvalidInputError(Problem("args", " ".join(arguments), takes))
    return _options(given, environment)


def _print_completion(given: argparse.Namespace) -> int:
    import shtab

    _say(shtab.complete(_parser(), shell=given.shell))
    return EXIT_FINE


def _split(name: str) -> tuple[str, str | None]:
    setting, dot, entry = name.partition(".")
    return setting, entry if dot else None


def _assignments(words: list[str]) -> dict[str, SettingChangeValue]:
    if len(words) == 2 and "=" not in words[0]:
        words = ["=".join(words)]
    changes: dict[str, SettingChangeValue] = {}
    mappings: dict[str, str | None] = {}
    named: set[tuple[str, str | None]] = set()
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidInputError(Problem("setting", word, "NAME=VALUE"))
        setting, entry = _split(name)
        setting = settings_rules.full_name(setting)
        if (setting, entry) in named:
            raise InvalidInputError(Problem("setting", word, "each setting once"))
        named.add((setting, entry))
        if entry is None:
            changes[setting] = settings_rules.parse(setting, text)
        elif setting == settings_rules.MAPPINGS:
            mappings[entry] = None if text == "null" else text
        else:
            raise InvalidInputError(Problem("setting", name, f"{setting} without a part"))
    if mappings:
        whole = changes.get(settings_rules.MAPPINGS, {})
        if isinstance(whole, Mapping):
            changes[settings_rules.MAPPINGS] = {**whole, **mappings}
    return changes


def _path(text: str) -> Path:
    try:
        return expanded(text, "it")
    except InvalidInputError as refused:
        (problem,) = refused.problems
        raise argparse.ArgumentTypeError(f"got {text[:200]!a}, takes {problem.takes}") from None


def _folder(text: str) -> str:
    folder = _path(text).resolve()
    if folder.is_dir() and is_printable(str(folder)):
        return str(folder)
    raise argparse.ArgumentTypeError(
        f"got {text[:200]!a}, takes a folder that exists, of a printable name"
    )


def _file(text: str) -> Path:
    if text and is_printable(text):
        return _path(text).absolute()
    raise argparse.ArgumentTypeError(f"got {text[:200]!a}, takes a file of a printable name")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        takes = "a date or time such as 2026-11-01 or 2026-11-01T09:00+01:00"
        raise argparse.ArgumentTypeError(f"got {text[:60]!a}, takes {takes}") from None


def _whole_number(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,100}", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"got {text[:60]!a}, takes a whole number")


def _seconds(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    raise argparse.ArgumentTypeError(f"got {text[:60]!a}, takes a number of seconds")


def _limit(text: str) -> int:
    number = _whole_number(text)
    if 1 <= number <= 1_000_000:
        return number
    raise argparse.ArgumentTypeError(f"got {number}, takes a whole number from 1 to 1000000")


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--db",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the ledger (default: ${options.DATABASE_VARIABLE}, else ~/.immunos/db/immunos.db)",
    )
    shared.add_argument(
        "--session",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help=f"the budget session (default: ${options.SESSION_VARIABLE}, "
        f"else {options.DEFAULT_SESSION})",
    )
    shared.add_argument(
        "--ollama-host",
        metavar="ADDRESS",
        default=argparse.SUPPRESS,
        help=f"the local engine (default: ${options.OLLAMA_VARIABLE}, else 127.0.0.1:11434)",
    )
    shared.add_argument(
        "--ollama-check",
        metavar="on|off",
        default=argparse.SUPPRESS,
        help="whether decisions look at what the engine has (default: "
        f"${options.OLLAMA_CHECK_VARIABLE}, else on)",
    )
    shared.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one line of JSON"
    )
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Routes work between Claude and local Ollama models under one token budget. "
        "Without a command it serves MCP over standard input and output.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
        allow_abbrev=False,
    )
    parser.add_argument(
        "--telemetry",
        metavar="ADDRESS",
        help="while serving, take in Claude Code's OpenTelemetry export there: on, off or HOST:PORT"
        f" (default: ${options.TELEMETRY_VARIABLE}, else off; on is 127.0.0.1:"
        f"{options.TELEMETRY_PORT})",
    )
    parser.add_argument(
        "--no-delegate",
        action="store_true",
        default=False,
        help="while serving, leave delegate_task out",
    )
    parser.add_argument(
        "--allow-path",
        action="append",
        default=[],
        metavar="PATH",
        help="while serving, a folder or file that delegated tasks may read, beside the project's",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, help_text: str, example: str, command: object) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog=f"example:\n  {PROGRAM} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[shared],
            allow_abbrev=False,
        )
        added.set_defaults(command=command)
        return added

    route = add(
        "route",
        "decide which model does a task",
        "route --task-type code_review --classification routine --tokens 3000",
        _route,
    )
    route.add_argument("--task-type", required=True, help="kind of task, such as code_review")
    route.add_argument("--classification", required=True, choices=[*map(str, Classification)])
    route.add_argument("--tokens", type=_whole_number, metavar="N", help="estimated tokens")

    explain = add(
        "explain",
        "tell how a decision came about, and what would have given another",
        "explain 7",
        _explain,
    )
    explain.add_argument("decision_id", type=_whole_number, metavar="DECISION")

    record = add(
        "record",
        "add a model response's tokens to the session",
        "record --model claude-sonnet-4.5 --input 1200 --output 300 --decision-id 7 "
        "--outcome success",
        _record,
    )
    record.add_argument("--model", required=True)
    record.add_argument(
        "--input", required=True, type=_whole_number, metavar="N", help="input tokens"
    )
    record.add_argument(
        "--output", required=True, type=_whole_number, metavar="N", help="output tokens"
    )
    record.add_argument(
        "--cache-creation", type=_whole_number, metavar="N", help="cache creation input tokens"
    )
    record.add_argument(
        "--cache-read", type=_whole_number, metavar="N", help="cache read input tokens"
    )
    record.add_argument(
        "--decision-id",
        type=_whole_number,
        metavar="ID",
        help="the routing decision that this response belongs to",
    )
    record.add_argument(
        "--outcome", choices=[*map(str, Outcome)], help="how that decision turned out"
    )
    record.add_argument("--request-id", metavar="ID", help="makes repeating the command harmless")
    record.add_argument("--seconds", type=_seconds, metavar="N", help="how long the model worked")

    outcome = add(
        "outcome",
        "say what became of a decision, where no usage is reported",
        "outcome 7 failure",
        _outcome,
    )
    outcome.add_argument("decision_id", type=_whole_number, metavar="DECISION")
    outcome.add_argument("outcome", choices=[*map(str, Outcome)])
    outcome.add_argument("--seconds", type=_seconds, metavar="N", help="how long the model worked")

    add("status", "show where the session stands", "status --json", _status)

    add(
        "models",
        "show which local models are mapped, installed, loaded and missing",
        "models",
        _models,
    )

    config = add("config", "show and change the settings", "config get", _config_get)
    config.set_defaults(name=None)
    actions = config.add_subparsers(title="actions", metavar="ACTION")

    def add_action(
        name: str, help_text: str, example: str, command: object
    ) -> argparse.ArgumentParser:
        added = actions.add_parser(
            name,
            help=help_text,
            epilog=f"example:\n  {PROGRAM} config {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[shared],
            allow_abbrev=False,
        )
        added.set_defaults(command=command)
        return added

    get = add_action("get", "show one setting or all", "get session_limit", _config_get)
    get.add_argument("name", nargs="?", metavar="NAME")
    set_ = add_action(
        "set",
        "change settings, all or none",
        "set token_warning_threshold=100000 task_mappings.translate=qwen2.5:7b",
        _config_set,
    )
    set_.add_argument("assignments", nargs="+", metavar="NAME=VALUE")
    set_.add_argument("--dry-run", action="store_true", help="only show what it would do")
    unset = add_action(
        "unset",
        "return settings to their defaults, or remove task mappings",
        "unset session_limit task_mappings.debug",
        _config_unset,
    )
    unset.add_argument("names", nargs="+", metavar="NAME")
    preset = add_action(
        "preset",
        "map the default task types to models for your memory, or list what there is",
        "preset 16gb --dry-run",
        _config_preset,
    )
    preset.add_argument("preset", nargs="?", metavar="NAME")
    preset.add_argument("--dry-run", action="store_true", help="only show what it would do")
    changes = add_action("history", "show who changed what and when", "history", _config_history)
    changes.add_argument("--limit", type=_limit, default=20, metavar="N")

    reset = add("reset", "close the session and open the next", 'reset --reason "new day"', _reset)
    reset.add_argument("--reason", metavar="TEXT", help="kept with the closed session")

    history = add(
        "history", "show the newest decisions or sessions", "history sessions --limit 5", _history
    )
    history.add_argument("what", nargs="?", choices=["decisions", "sessions"], default="decisions")
    history.add_argument("--limit", type=_limit, default=20, metavar="N")

    replay = add(
        "replay",
        "run the logged tasks through the policy with other settings, and change nothing",
        "replay --set auto_switch_threshold=160000 --since 2026-11-01",
        _replay,
    )
    replay.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what differs from the settings of the time; may be given again (none: nothing does)",
    )
    replay.add_argument("--since", type=_moment, metavar="TIME", help="leave earlier decisions out")
    replay.add_argument(
        "--limit", type=_limit, default=20, metavar="N", help="how many differing ones to list"
    )

    sync = add(
        "sync",
        "read the history in Claude Code's transcripts",
        "sync --since 2026-11-01",
        _sync,
    )
    span = sync.add_mutually_exclusive_group(required=True)
    span.add_argument("--since", type=_moment, metavar="TIME", help="read back to this moment")
    span.add_argument("--all", action="store_true", help="read everything there is")

    prune = add(
        "prune",
        "replace old detail by sums that keep every total exact",
        "prune --keep-days 90 --dry-run",
        _prune,
    )
    prune.add_argument(
        "--keep-days",
        required=True,
        type=_whole_number,
        metavar="N",
        help="how many whole days (UTC) before today stay in detail",
    )
    prune.add_argument("--dry-run", action="store_true", help="only say how much it would be")

    add(
        "statusline",
        "print Claude Code's status line for the JSON on standard input",
        "statusline < input.json",
        _status_line,
    )

    bind = add(
        "bind",
        "let a session count one project's measured usage alone",
        "bind --session shop ~/code/shop",
        _bind,
    )
    bind.add_argument(
        "folder", nargs="?", type=_folder, metavar="FOLDER", help="none: count all projects again"
    )

    delegate = add(
        "delegate",
        "hand a task over to the routed local model",
        'delegate "Summarize the errors" --task-type summarize --path app.log',
        _delegate,
    )
    delegate.add_argument("prompt", help="what to do")
    delegate.add_argument("--task-type", required=True, help="kind of task, such as code_review")
    delegate.add_argument(
        "--classification", choices=[*map(str, Classification)], default=Classification.ROUTINE
    )
    delegate.add_argument(
        "--path",
        action="append",
        default=[],
        metavar="FILE",
        help="a file or pattern that it is about; may be given again",
    )
    delegate.add_argument("--instructions", metavar="TEXT", help="how to do it")
    delegate.add_argument("--decision-id", type=_whole_number, metavar="ID")
    delegate.add_argument("--max-output-tokens", type=_whole_number, metavar="N")
    delegate.add_argument("--output", metavar="FILE", help="a new file for the result")

    install = add(
        "install",
        "set a client up for the router, or undo it",
        "install claude-code --print",
        _install,
    )
    install.add_argument(
        "client", choices=["claude-code", "claude-desktop", "vscode", "cursor", "codex"]
    )
    install.add_argument("--print", action="store_true", help="only show what would change")
    install.add_argument("--yes", action="store_true", help="apply it without asking")
    install.add_argument("--uninstall", action="store_true", help="take it out again")
    install.add_argument(
        "--telemetry",
        dest="telemetry_export",
        action="store_true",
        help="claude-code: also switch on its OpenTelemetry export to the router",
    )

    report = add(
        "report",
        "report on all tokens, costs, decisions, models and sessions of the ledger",
        "report --since 2026-11-01 --open",
        _report,
    )
    report.add_argument(
        "--since", type=_moment, metavar="TIME", help="leave out what was before this moment"
    )
    report.add_argument(
        "--format",
        choices=["text", "json", "csv", "html"],
        help="default: text; --json is --format json",
    )
    report.add_argument(
        "--output",
        type=_file,
        metavar="FILE",
        help="write it to a new file, or in the place of an earlier report",
    )
    report.add_argument(
        "--open",
        action="store_true",
        help="show it as a page in the browser (default file: reports/report.html beside the ledger)",
    )

    export = add(
        "export",
        "write the rows of the ledger for other programs",
        "export --table decision usage --since 2026-11-01 > rows.jsonl",
        _export,
    )
    export.add_argument("--format", choices=["jsonl", "csv"], help="default: jsonl")
    export.add_argument(
        "--table",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME",
        help="these tables alone; csv takes exactly one",
    )
    export.add_argument(
        "--since", type=_moment, metavar="TIME", help="leave out rows of an earlier time"
    )
    export.add_argument("--output", type=_file, metavar="FILE", help="a new file for the rows")

    add("doctor", "look for what may be wrong, and say how to mend it", "doctor", _doctor)

    completion = add(
        "completion",
        "print a completion script for a shell",
        "completion bash > ~/.local/share/bash-completion/completions/immunos-mcp",
        _print_completion,
    )
    completion.add_argument("shell", choices=["bash", "zsh", "fish", "tcsh"])
    return parser
