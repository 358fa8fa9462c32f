"""Cursor: how it is set up."""
