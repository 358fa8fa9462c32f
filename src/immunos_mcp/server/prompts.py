"""The prompt that delegates a task, for servers that can."""

from __future__ import annotations

import mcp_types as mcp
from mcp.shared.exceptions import MCPError

DELEGATE = mcp.Prompt(
    name="delegate",
    title="Delegate to a local model",
    description="Delegate a task to a local model.",
    arguments=[mcp.PromptArgument(name="task", description="What to do", required=True)],
)


async def list_prompts(
    _context: object, _params: mcp.PaginatedRequestParams | None
) -> mcp.ListPromptsResult:
    """List the one prompt."""
    return mcp.ListPromptsResult(prompts=[DELEGATE])


async def get_prompt(_context: object, params: mcp.GetPromptRequestParams) -> mcp.GetPromptResult:
    """Return the request that the user's command stands for."""
    if params.name != DELEGATE.name:
        raise MCPError(mcp.INVALID_PARAMS, f"Unknown prompt: {params.name[:64]!a}")
    task = (params.arguments or {}).get("task", "").strip()
    if not task:
        raise MCPError(mcp.INVALID_PARAMS, "task: is required; must be a description of the task")
    request = (
        "Have a local model do the following with delegate_task, and tell me its result. Give the"
        f" files it is about in paths and do not read them yourself. If that fails, or the answer's"
        f" provider is claude, do it yourself.\n\n{task}"
    )
    return mcp.GetPromptResult(
        messages=[
            mcp.PromptMessage(role="user", content=mcp.TextContent(type="text", text=request))
        ]
    )
