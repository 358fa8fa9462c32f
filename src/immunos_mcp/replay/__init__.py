"""The log decided again."""
