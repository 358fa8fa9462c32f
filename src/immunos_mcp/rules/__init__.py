"""The rules: pure functions of values."""
