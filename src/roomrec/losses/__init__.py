"""Losses, one idea per file."""
