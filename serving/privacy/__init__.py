"""Viewers' ids replaced by pseudonyms, and viewers erased."""
