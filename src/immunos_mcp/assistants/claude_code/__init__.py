"""Claude Code: its transcripts and its telemetry."""
