"""Codex's configuration file and entry, in its format of 2026."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from immunos_mcp.assistants import NAME, toml_edit
from immunos_mcp.assistants.configuration import Assistant, Configuration, Entry
from immunos_mcp.assistants.documents import member
from immunos_mcp.assistants.findings import Finding, Verdict
from immunos_mcp.options import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from immunos_mcp.assistants.configuration import Setup
    from immunos_mcp.assistants.findings import AssistantState


def configurations(setup: Setup) -> tuple[Configuration, ...]:
    """Return its configuration file with our entry."""
    folder = Path(setup.environment.get("CODEX_HOME") or home_folder() / ".codex").absolute()
    # Codex sends its first request after a second without a server that is not required.
    entry = Entry(("mcp_servers", NAME), {**setup.launch.server(), "required": True})
    return (Configuration(folder / "config.toml", (entry,), syntax=toml_edit),)


def findings(state: AssistantState) -> Iterator[Finding]:
    """Check that variables of the shell are in the entry: Codex passes no others to a server."""
    if not state.is_ours:
        return
    own = member(state.server, ("env",))
    own = own if isinstance(own, dict) else {}
    lacking = sorted(
        name
        for name in state.context.environment
        if name.startswith("IMMUNOS_") and name not in own
    )
    if lacking:
        seen = f"{', '.join(lacking)} set here, but Codex does not pass the shell's variables on"
        remedy = f"put them in an env table of mcp_servers.{NAME} in its config.toml"
        yield Finding("codex", Verdict.WARN, seen, remedy)


ASSISTANT = Assistant(
    "codex", "Codex", configurations, program="codex", patience=1.0, findings=findings
)
