"""Programs that spend tokens: where their logs are, and how they are set up."""

NAME = "immunos"
"""The router's name in every assistant's configuration."""
