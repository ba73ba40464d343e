"""Embedding tables split over processes, by TorchRec."""
