"""Claude Code: its setup, transcripts and telemetry."""
