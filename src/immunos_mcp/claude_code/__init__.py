"""What is particular to Claude Code: its transcripts, its status line and its hooks."""
