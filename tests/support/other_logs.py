"""What assistants other than Claude Code write of their usage, as far as it is read."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from transcript_lines import NOON

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "/home/dev/shop"


@dataclass(frozen=True)
class Response:
    """A response, in tokens of the neutral form: input includes the cache, output the reasoning."""

    name: str
    tokens_in: int = 100
    cached: int = 40
    out: int = 9
    reasoning: int = 4
    at: datetime = NOON

    @property
    def kinds(self) -> tuple[int, int, int, int]:
        """Its four kinds of tokens as the ledger has them."""
        return (self.tokens_in - self.cached, self.out, 0, self.cached)


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _codex(kind: str, payload: dict[str, Any], at: datetime = NOON) -> str:
    return json.dumps({"timestamp": _stamp(at), "type": kind, "payload": payload}) + "\n"


def codex_head(
    thread: str = "t1", version: str = "0.171.0", model: str = "gpt-x", **meta: Any
) -> list[str]:
    """Spell the beginning of a thread's file."""
    return [
        _codex("session_meta", {"id": thread, "cwd": FOLDER, "cli_version": version, **meta}),
        codex_turn(None, model),
    ]


def codex_turn(turn: str | None, model: str = "gpt-x") -> str:
    """Spell the beginning of a turn."""
    return _codex("turn_context", {"cwd": FOLDER, "model": model, "turn_id": turn})


def _codex_usage(*responses: Response) -> dict[str, int]:
    return {
        "input_tokens": sum(each.tokens_in for each in responses),
        "cached_input_tokens": sum(each.cached for each in responses),
        "cache_write_input_tokens": 0,
        "output_tokens": sum(each.out for each in responses),
        "reasoning_output_tokens": sum(each.reasoning for each in responses),
    }


def codex_record(response: Response, thread: str = "t1", session: str = "t1") -> str:
    """Spell the record of one response."""
    payload = {
        "thread_id": thread,
        "session_id": session,
        "response_id": response.name,
        "usage": _codex_usage(response),
        "thread_token_usage": {"input_tokens": 999_999},
    }
    return _codex("token_usage_record", payload, response.at)


def codex_total(*responses: Response, **more: Any) -> str:
    """Spell the total of a thread after its last response."""
    info = {
        "total_token_usage": _codex_usage(*responses),
        "last_token_usage": _codex_usage(responses[-1]),
    }
    return _codex("event_msg", {"type": "token_count", "info": info, **more}, responses[-1].at)


def codex_limits(
    five_hour: float | None, seven_day: float | None = None, **more: Any
) -> dict[str, Any]:
    """Return a plan's limits as Codex notes them; ``None``: the reply did not say."""
    used = {"primary": (five_hour, 300), "secondary": (seven_day, 10_080)}
    resets_at = int((NOON + timedelta(hours=4)).timestamp())
    limits = {
        name: None
        if percent is None
        else {"used_percent": percent, "window_minutes": minutes, "resets_at": resets_at}
        for name, (percent, minutes) in used.items()
    }
    return {"rate_limits": {"limit_id": "codex", **limits, **more}}


def gemini_message(response: Response) -> dict[str, Any]:
    """Return a message as Gemini's log has it."""
    return {
        "id": response.name,
        "timestamp": _stamp(response.at),
        "type": "gemini",
        "content": 'it says "tokens" and "gemini"',
        "model": "gemini-x",
        "tokens": {
            "input": response.tokens_in,
            "cached": response.cached,
            "output": response.out - response.reasoning,
            "thoughts": response.reasoning,
            "tool": 0,
        },
    }


def gemini_chat(home: Path, session: str = "s1", project: str = "shop") -> Path:
    """Begin a chat's file, and return it."""
    folder = home / ".gemini" / "tmp" / project
    (folder / "chats").mkdir(parents=True, exist_ok=True)
    (folder / ".project_root").write_text(f"{FOLDER}\n", encoding="utf-8")
    file = folder / "chats" / f"session-{session}.jsonl"
    file.write_text(json.dumps({"sessionId": session, "kind": "main"}) + "\n", encoding="utf-8")
    return file


def gemini_document(home: Path, *responses: Response, session: str = "s1") -> Path:
    """Write a chat as earlier versions did, which rewrote a document after each message."""
    file = gemini_chat(home, session, "4f2a").with_suffix(".json")
    file.with_suffix(".jsonl").unlink()
    messages = [{"id": "u1", "type": "user", "timestamp": _stamp(NOON)}]
    messages += [gemini_message(each) for each in responses]
    document = {"sessionId": session, "projectHash": "4f2a", "messages": messages}
    file.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return file


def codex_rollout(home: Path, thread: str = "t1") -> Path:
    """Name a thread's file, and make its folder."""
    folder = home / ".codex" / "sessions" / "2026" / "01" / "15"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"rollout-2026-01-15T12-00-00-{thread}.jsonl"


def qwen_chat(home: Path, session: str = "q1") -> Path:
    """Name a session's file, and make its folder."""
    return _file(home / ".qwen" / "projects" / "-home-dev-shop" / "chats" / f"{session}.jsonl")


def qwen_response(response: Response, session: str = "q1") -> str:
    """Spell the two lines of one response."""
    line = {"uuid": response.name, "sessionId": session, "timestamp": _stamp(response.at)}
    event = {
        "event.name": "qwen-code.api_response",
        "event.timestamp": _stamp(response.at),
        "response_id": response.name,
        "model": "qwen-x",
        "input_token_count": response.tokens_in,
        "output_token_count": response.out,
        "cached_content_token_count": response.cached,
        "thoughts_token_count": response.reasoning,
    }
    said = {"type": "system", "cwd": FOLDER, "systemPayload": {"uiEvent": event}}
    again = {"type": "assistant", "usageMetadata": {"promptTokenCount": response.tokens_in}}
    return json.dumps({**line, **said}) + "\n" + json.dumps({**line, **again}) + "\n"


def copilot_events(home: Path, session: str = "c1") -> Path:
    """Name a session's file, and make its folder."""
    return _file(home / ".copilot" / "session-state" / session / "events.jsonl")


def copilot_event(kind: str, content: dict[str, Any], at: datetime = NOON) -> str:
    """Spell an event."""
    line = {"type": f"session.{kind}", "data": content, "id": "e1", "timestamp": _stamp(at)}
    return json.dumps(line) + "\n"


def copilot_start() -> str:
    """Spell the first event of a session."""
    return copilot_event("start", {"context": {"cwd": FOLDER}})


def copilot_record(response: Response) -> str:
    """Spell the record of one response."""
    usage = {
        "model": "copilot-x",
        "inputTokens": response.tokens_in,
        "outputTokens": response.out,
        "cacheReadTokens": response.cached,
        "cacheWriteTokens": 0,
        "reasoningTokens": response.reasoning,
        "apiCallId": response.name,
    }
    return copilot_event("usage_record", {"usage": usage}, response.at)


def pi_session(home: Path, session: str = "p1", **header: Any) -> Path:
    """Begin a session's file, and return it."""
    file = _file(home / ".pi" / "agent" / "sessions" / "--home-dev-shop--" / f"{session}.jsonl")
    first = {"type": "session", "id": session, "timestamp": _stamp(NOON), "cwd": FOLDER, **header}
    file.write_text(json.dumps(first) + "\n", encoding="utf-8")
    return file


def pi_message(response: Response, line: str = "7ace39d4", **more: Any) -> str:
    """Spell the line of one response."""
    usage = {
        "input": response.tokens_in - response.cached,
        "output": response.out,
        "cacheRead": response.cached,
        "cacheWrite": 0,
        "totalTokens": response.tokens_in + response.out,
    }
    said = {"role": "assistant", "model": "pi-x", "usage": usage, "responseId": response.name}
    message = {**said, **more}
    return (
        json.dumps(
            {"type": "message", "id": line, "timestamp": _stamp(response.at), "message": message}
        )
        + "\n"
    )


def cline_messages(home: Path, agent: str = "s1") -> Path:
    """Name the document of a session or of one of its subagents, and make its session."""
    file = _file(home / ".cline" / "data" / "sessions" / "s1" / f"{agent}.messages.json")
    file.with_name("s1.json").write_text(json.dumps({"cwd": FOLDER}), encoding="utf-8")
    return file


def cline_message(response: Response) -> dict[str, Any]:
    """Return a message as Cline's log has it."""
    return {
        "id": response.name,
        "role": "assistant",
        "content": [{"type": "text", "text": 'it says "metrics" and {"role": 1}'}],
        "ts": int(response.at.timestamp() * 1000),
        "modelInfo": {"id": "cline-x"},
        "metrics": {
            "inputTokens": response.tokens_in,
            "outputTokens": response.out,
            "cacheReadTokens": response.cached,
            "cacheWriteTokens": 0,
        },
    }


def cline_document(*messages: dict[str, Any]) -> str:
    """Spell a document."""
    asked: dict[str, Any] = {"id": "u1", "role": "user", "content": [], "ts": 1}
    return json.dumps({"version": 1, "sessionId": "s1", "messages": [asked, *messages]}, indent=1)


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def opencode_tokens(response: Response) -> dict[str, Any]:
    """Return a response's tokens as opencode notes them."""
    return {
        "input": response.tokens_in - response.cached,
        "output": response.out - response.reasoning,
        "reasoning": response.reasoning,
        "cache": {"read": response.cached, "write": 0},
    }


def opencode_message(response: Response, *, is_complete: bool = True) -> dict[str, Any]:
    """Return a message as opencode stores it."""
    created = int(response.at.timestamp() * 1000)
    so_far = {"input": 1, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    return {
        "role": "assistant",
        "providerID": "fake",
        "modelID": "big-x",
        "path": {"cwd": FOLDER},
        "tokens": opencode_tokens(response) if is_complete else so_far,
        "time": {"created": created, **({"completed": created + 5} if is_complete else {})},
    }


def opencode_file(home: Path, name: str, response: Response, *earlier: Response) -> Path:
    """Write a message as versions before 1.2 did, whose last step is a response after ``earlier`` ones."""
    storage = home / ".local" / "share" / "opencode" / "storage"
    for number, step in enumerate((*earlier, response)):
        part = {"type": "step-finish", "tokens": opencode_tokens(step)}
        _file(storage / "part" / name / f"prt_{number}.json").write_text(json.dumps(part, indent=2))
    file = _file(storage / "message" / "ses_1" / f"{name}.json")
    file.write_text(json.dumps({"id": name, **opencode_message(response)}, indent=2))
    return file


class OpencodeDatabase:
    """opencode's database, as far as it is read."""

    def __init__(self, home: Path) -> None:
        self.file = home / ".local" / "share" / "opencode" / "opencode.db"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute(
                "CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER,"
                " time_updated INTEGER, data TEXT)"
            )

    def put(
        self,
        row: str,
        response: Response,
        session: str = "ses_1",
        *,
        is_complete: bool = True,
        updated: datetime | None = None,
    ) -> None:
        """Store or change the row of a response."""
        message = opencode_message(response, is_complete=is_complete)
        self.put_text(row, json.dumps(message), session, updated or response.at)

    def put_text(self, row: str, data: str, session: str = "ses_1", at: datetime = NOON) -> None:
        """Store or change a row."""
        changed = int((at + timedelta(milliseconds=7)).timestamp() * 1000)
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(
                "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?)",
                (row, session, changed, changed, data),
            )

    def put_new(
        self, row: str, response: Response, session: str = "ses_2", *, is_spelled_out: bool = False
    ) -> None:
        """Store the row of a response as version 2 does."""
        message = opencode_message(response)
        model = {"id": message.pop("modelID"), "providerID": message.pop("providerID")}
        for name in ("role", "path"):
            del message[name]
        if is_spelled_out:
            message["time"] = {
                name: _stamp(datetime.fromtimestamp(at / 1000, UTC))
                for name, at in message["time"].items()
            }
        changed = int((response.at + timedelta(milliseconds=7)).timestamp() * 1000)
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS session_v2 (id TEXT PRIMARY KEY, directory TEXT)"
            )
            connection.execute("INSERT OR IGNORE INTO session_v2 VALUES (?, ?)", (session, FOLDER))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS session_message (id TEXT PRIMARY KEY, session_id TEXT,"
                " type TEXT, seq INTEGER, time_created INTEGER, time_updated INTEGER, data TEXT)"
            )
            connection.executemany(
                "INSERT INTO session_message VALUES (?, ?, ?, 1, ?, ?, ?)",
                [
                    (f"{row}_asked", session, "user", changed, changed, '{"text": "x"}'),
                    (
                        row,
                        session,
                        "assistant",
                        changed,
                        changed,
                        json.dumps({**message, "model": model}),
                    ),
                ],
            )
