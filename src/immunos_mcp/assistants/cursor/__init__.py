"""Cursor: its setup."""
