"""Replays the log: decides logged tasks again, with other settings."""
