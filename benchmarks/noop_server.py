"""A server on the same SDK with one tool that does nothing: what everything is compared with.

It takes the arguments of ``route_task`` and answers with fields of the same kind, out of memory.
"""

from __future__ import annotations

from typing import Literal

from mcp.server.mcpserver import MCPServer


def build_server() -> MCPServer:
    """Build the server as the SDK's own examples do."""
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
