"""Run the command line with ``python -m immunos_mcp``."""

from immunos_mcp.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
