"""Qwen Code: its setup."""
