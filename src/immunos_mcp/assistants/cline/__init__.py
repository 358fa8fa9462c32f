"""The Cline CLI."""
