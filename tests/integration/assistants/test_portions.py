"""What is stored of all assistants' logs is the same, read at once or as they grow, in any order of files."""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples import on_ledgers
from hypothesis import given
from hypothesis import strategies as st
from other_homes import Home
from other_logs import (
    Response,
    codex_head,
    codex_record,
    codex_rollout,
    codex_total,
    codex_turn,
    copilot_events,
    copilot_record,
    copilot_start,
    gemini_chat,
    gemini_message,
    pi_message,
    pi_session,
    qwen_chat,
    qwen_response,
)
from transcript_lines import NOON, Answer, transcript

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

RESPONSES = [
    Response(f"r{n}", 100 + 13 * n, 10 * n, 8 + n, n, NOON + timedelta(seconds=50 * n))
    for n in range(5)
]

STORED = (
    "message_id, assistant, measured_at, model, folder, input_tokens, output_tokens,"
    " cache_creation_input_tokens, cache_read_input_tokens, request_id, service_tier"
)


def answers(response: Response) -> list[str]:
    """Spell a response as Claude Code does: its first line has the first counts, its last one all."""
    so_far = Answer(response.name, response.tokens_in, 1, at=response.at, model="claude-fable-5")
    whole = Answer(
        response.name, response.tokens_in, response.out, at=response.at + timedelta(seconds=40)
    )
    return [f"{each.line()}\n" for each in (so_far, so_far, whole)]


def written(home: Path) -> dict[Path, bytes]:
    """Return the logs of a home, each by its file."""
    one, *_ = RESPONSES
    claude = [line for each in RESPONSES for line in answers(each)]
    old = [codex_total(*RESPONSES[: n + 1]) for n in range(5)]
    turns = [codex_turn("turn1"), old[0], old[0], *old[1:3], codex_turn("turn2"), *old[3:]]
    pi, gemini = pi_session(home), gemini_chat(home)
    said = [json.dumps(gemini_message(each)) + "\n" for each in RESPONSES]
    logs: dict[Path, list[str]] = {
        transcript(home / "projects"): claude,
        transcript(home / "projects", "-home-dev-shop/fork.jsonl"): [
            *claude[:-3],
            *answers(Response("fork", at=NOON + timedelta(minutes=9))),
        ],
        codex_rollout(home): [*codex_head(), *map(codex_record, RESPONSES), *old],
        codex_rollout(home, "t2"): [*codex_head("t2", "0.125.0"), *turns],
        gemini: [gemini.read_text(), *said, said[0], json.dumps({"$set": {"messages": []}}) + "\n"],
        qwen_chat(home): [*map(qwen_response, RESPONSES)],
        copilot_events(home): [copilot_start(), *map(copilot_record, RESPONSES)],
        pi: [pi.read_text(), *map(pi_message, RESPONSES), pi_message(one)],
    }
    for file in logs:
        file.unlink(missing_ok=True)
    return {file: "".join(lines).encode() for file, lines in logs.items()}


def append(portions: Mapping[Path, bytes]) -> None:
    for file, portion in portions.items():
        with file.open("ab") as opened:
            opened.write(portion)


def stored(folder: Path, *, portions: int, random: Random) -> set[tuple[Any, ...]]:
    """Return the rows of a ledger that reads all logs after each portion."""
    place = Home(folder)
    rest = written(folder)
    for _ in range(portions - 1):
        file = random.choice(sorted(rest))
        length = random.randint(0, len(rest[file]))
        append({file: rest[file][:length]})
        rest[file] = rest[file][length:]
        place.sync()
    append(rest)
    assert place.sync().unread_lines is None
    rows = set(place.rows(STORED))
    place.ledger.close()
    return rows


@on_ledgers
@given(st.integers(2, 5), st.randoms(use_true_random=False))
def test_what_is_stored_does_not_depend_on_when_it_was_read(portions: int, random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        at_once = stored(home, portions=1, random=random)
        assert len(at_once) == 6 + 5 * 6
        for file in (*home.rglob("*.jsonl"), *home.glob("ledger.db*")):
            file.unlink()
        assert stored(home, portions=portions, random=random) == at_once
