"""How many examples a property test tries where one costs much, or where there are many such tests."""

from __future__ import annotations

from hypothesis import settings

assert settings.default is not None

on_ledgers = settings(max_examples=settings.default.max_examples // 5)
"""Where each example fills a ledger: a share of the profile's, so that an exploration is longer too."""

of_histories = settings.default.max_examples // 3
"""How many histories of up to 30 steps on a ledger are tried."""
