"""The readers of other assistants' logs survive anything, and return only what the ledger can store."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated
from other_logs import (
    Response,
    cline_document,
    cline_message,
    codex_head,
    codex_limits,
    codex_record,
    codex_total,
    copilot_record,
    copilot_start,
    gemini_message,
    pi_message,
    qwen_response,
)

from immunos_mcp.assistants import transcript_reading
from immunos_mcp.assistants.cline import messages
from immunos_mcp.assistants.codex import rollouts
from immunos_mcp.assistants.copilot import events
from immunos_mcp.assistants.gemini import chats as gemini_chats
from immunos_mcp.assistants.pi import sessions
from immunos_mcp.assistants.qwen import chats as qwen_chats
from immunos_mcp.assistants.transcripts import Transcript
from immunos_mcp.domain import MAXIMUM_TOKENS

if TYPE_CHECKING:
    from immunos_mcp.assistants.transcripts import LogFormat

ONE, TWO = Response("r1"), Response("r2", 220, 100, 15, 0)
CODEX = [
    *codex_head(),
    codex_record(ONE),
    codex_total(ONE, **codex_limits(5, 6)),
    codex_record(TWO),
]
OLD_CODEX = [*codex_head(version="0.125.0"), codex_total(ONE), codex_total(ONE, TWO)]
GEMINI = [json.dumps(gemini_message(each)) + "\n" for each in (ONE, TWO)]
GEMINI_DOCUMENT = json.dumps({"messages": [gemini_message(each) for each in (ONE, TWO)]}, indent=2)
LOGS: dict[str, tuple[LogFormat, str]] = {
    "codex": (rollouts.FORMAT, "".join(CODEX)),
    "old codex": (rollouts.FORMAT, "".join(OLD_CODEX)),
    "gemini": (gemini_chats.FORMAT, "".join(GEMINI)),
    "old gemini": (gemini_chats.FORMAT, GEMINI_DOCUMENT),
    "qwen": (qwen_chats.FORMAT, qwen_response(ONE) + qwen_response(TWO)),
    "copilot": (events.FORMAT, copilot_start() + copilot_record(ONE) + copilot_record(TWO)),
    "pi": (sessions.FORMAT, pi_message(ONE) + pi_message(TWO)),
    "cline": (messages.FORMAT, cline_document(cline_message(ONE), cline_message(TWO))),
}


@pytest.mark.parametrize(("log_format", "log"), LOGS.values(), ids=LOGS)
@settings(max_examples=30)
@given(drawn=st.data())
def test_whatever_a_log_holds_is_read_or_reported(
    log_format: LogFormat, log: str, drawn: st.DataObject
) -> None:
    content = drawn.draw(mutated([log.encode()]))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "log").with_suffix(".json" if log == GEMINI_DOCUMENT else ".jsonl")
        file.write_bytes(content)
        found = Transcript(str(file), 1, len(content), 1)
        batches = list(transcript_reading.read(found, log_format, None))
    usage = [each for batch in batches for each in batch.usage]
    assert all(0 <= count <= 2 * MAXIMUM_TOKENS for each in usage for count in each[3:7])
    for text in (part for each in usage for part in (each.message_id, each.model, each.folder)):
        # Half a surrogate pair cannot be stored.
        (text or "").encode()
    if content == log.encode():
        assert (len(usage), batches[-1].position.unread_lines) == (2, 0)
