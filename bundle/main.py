"""Starts the server inside an MCP bundle."""

from immunos_mcp.__main__ import main

main()
