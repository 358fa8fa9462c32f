"""Delegation of tasks to local models."""
