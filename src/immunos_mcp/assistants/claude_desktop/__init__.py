"""Claude Desktop: its setup."""
