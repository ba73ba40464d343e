"""Searching settings of training."""
