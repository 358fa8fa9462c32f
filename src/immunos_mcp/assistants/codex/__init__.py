"""Codex: its setup."""
