"""A server on the same SDK with one no-op tool, as the baseline of comparisons.

The tool accepts the arguments of ``route_task`` and answers with constant fields of the same kind.
"""

from __future__ import annotations

from typing import Literal

from mcp.server.mcpserver import MCPServer


def build_server() -> MCPServer:
    """Build the server like the SDK's examples."""
    server = MCPServer("no-op")

    @server.tool()
    def no_op(
        task_type: str,
        classification: Literal["routine", "creative", "critical"],
        estimated_tokens: int | None = None,
        session: str | None = None,
    ) -> dict[str, str | int]:  # pyright: ignore[reportUnusedFunction]  # the server has it
        """Answer."""
        _ = (task_type, classification, estimated_tokens, session)
        return {"model": "none", "reason": "no_op", "decision_id": 1}

    return server


if __name__ == "__main__":
    build_server().run("stdio")
