"""Codex: how it is set up."""
