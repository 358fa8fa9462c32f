"""Local engines."""
