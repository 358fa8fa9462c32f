"""The pi coding agent, which is no MCP client."""
