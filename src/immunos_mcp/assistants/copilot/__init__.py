"""Copilot CLI: its setup."""
