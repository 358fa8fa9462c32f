"""The program: ``immunos-mcp`` and ``python -m immunos_mcp``."""

import sys


def main() -> int:
    """Run the command line; the status line, which runs at every refresh, without its parser."""
    if sys.argv[1:] == ["statusline"]:
        from immunos_mcp.claude_code import status_line

        return status_line.main()
    from immunos_mcp import cli

    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
