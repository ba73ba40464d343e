"""The position-wise half of a transformer block."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Two linear layers with GELU between.

    Args:
        embedding_dim: D.
        hidden_dim: Width between the layers.
        dropout_rate: Share of hidden values dropped in training.
    """

    def __init__(self, *, embedding_dim: int, hidden_dim: int, dropout_rate: float) -> None:
        super().__init__()
        self.widen = nn.Linear(embedding_dim, hidden_dim)
        self.narrow = nn.Linear(hidden_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Transform each event on its own, ``[B, L, D]`` to ``[B, L, D]``."""
        out: Tensor = self.narrow(self.dropout(F.gelu(self.widen(x_BLD))))
        return out
