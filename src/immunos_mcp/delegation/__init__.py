"""Tasks handed over to local models."""
