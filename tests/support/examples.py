"""How many examples a property test tries where each of them fills a ledger."""

from __future__ import annotations

from hypothesis import settings

assert settings.default is not None

on_ledgers = settings(max_examples=settings.default.max_examples // 5)
"""A share of the profile's, so that a longer exploration is longer here too."""
