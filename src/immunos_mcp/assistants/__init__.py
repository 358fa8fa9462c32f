"""The AI assistants: their logs, and how to set them up."""

NAME = "immunos"
"""The name of our server in every assistant's configuration."""
