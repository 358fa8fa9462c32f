"""Checks of delegated answers: deterministic, cheap, and chosen by task type and by the caller."""
