"""The registry entry of Claude Code."""

from __future__ import annotations

from immunos_mcp.assistants.claude_code import configuration, doctor
from immunos_mcp.assistants.configuration import Assistant

ASSISTANT = Assistant(
    "claude-code",
    "Claude Code",
    configuration.configurations,
    program="claude",
    patience=2.5,
    has_plugin=configuration.has_plugin,
    findings=doctor.findings,
    log_findings=doctor.log_findings,
    takes_url=True,
)
