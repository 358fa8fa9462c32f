"""Claude Code's transcripts: their folders and format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants.follower import Follower
from immunos_mcp.assistants.other_logs import OtherLogs
from immunos_mcp.assistants.transcripts import TranscriptFolders, TranscriptFormat
from immunos_mcp.options import NoHomeError, home_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from immunos_mcp.assistants.claude_code.conversation_lines import ConversationLines
    from immunos_mcp.ledger.connections.ledger import Ledger
    from immunos_mcp.options import Options


TOTAL_MARK = b'"cacheCreationInputTokens"'
"""Bytes that every line with a conversation's total contains; long and rare ones are found fastest."""


def _reader(path: str, context: str) -> ConversationLines:
    # Most refreshes of the status line find nothing to read.
    from immunos_mcp.assistants.claude_code.conversation_lines import ConversationLines

    return ConversationLines(path, context)


def _last_moment(part: bytes) -> datetime | None:
    from immunos_mcp.assistants.claude_code.conversation_lines import last_moment

    return last_moment(part)


FORMAT = TranscriptFormat(
    client="claude-code",
    mark=b'"usage":',
    reader=_reader,
    total_mark=TOTAL_MARK,
    last_moment=_last_moment,
)


def transcript_folders(
    options: Options, environment: Mapping[str, str] = os.environ
) -> TranscriptFolders | None:
    """Return Claude Code's transcript folders: in ``CLAUDE_CONFIG_DIR``, or else the usual ones.

    ``None``: the options disable reading transcripts.
    """
    if not options.read_transcripts:
        return None
    return TranscriptFolders(
        tuple(folder / "projects" for folder in config_folders(environment)), FORMAT
    )


def config_folders(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders that may be Claude Code's, whether they exist or not.

    Claude Code takes ``CLAUDE_CONFIG_DIR`` literally. Other programs take a list there, and a ``~``
    that no shell has replaced; reading more folders does no harm.
    """
    configured = environment.get("CLAUDE_CONFIG_DIR")
    try:
        if not configured:
            home = home_folder()
            return (home / ".claude", home / ".config" / "claude")
    except NoHomeError:
        return ()
    parts = [part.strip() for part in configured.split(",")]
    named = (configured, *(os.path.expanduser(part) for part in parts if part))  # noqa: PTH111
    return tuple(dict.fromkeys(Path(each) for each in named))


def transcript_follower(
    ledger: Ledger, options: Options, environment: Mapping[str, str] = os.environ
) -> Follower | None:
    """Return a follower of Claude Code's transcripts and other assistants' logs; ``None``: the options disable it."""
    folders = transcript_folders(options, environment)
    return None if folders is None else Follower(ledger, folders, OtherLogs(environment))
