"""Vocabulary, feature specification and the transforms both training and serving use."""
