"""Batches of tensors: what a model sees at one step."""
