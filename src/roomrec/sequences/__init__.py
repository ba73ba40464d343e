"""Histories, windows and splits."""
