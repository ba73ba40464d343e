"""Ranking metrics in numpy, one idea per file."""
