"""How deeply the JSON values in a line may be nested. Pure."""

MOST_LEVELS = 500
"""Objects nested more deeply are not read: parsers recurse, and how far depends on their caller."""


def is_too_deep(line: bytes | bytearray) -> bool:
    """Return whether the values in a line are nested more deeply than is read."""
    if line.count(b"{") + line.count(b"[") <= MOST_LEVELS:
        return False
    from immunos_mcp.assistants.json_objects import levels  # hardly any line comes here

    return levels(line) > MOST_LEVELS
