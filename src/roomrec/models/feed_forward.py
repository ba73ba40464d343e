"""The position-wise half of a transformer block."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from roomrec.models.dropout import Dropout


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
        self.dropout = Dropout(dropout_rate)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Transform each event on its own, ``[B, L, D]`` to ``[B, L, D]``."""
        out: Tensor = self.narrow(self.dropout(F.gelu(self.widen(x_BLD))))
        return out


class SwiGLU(nn.Module):
    """A gated hidden layer: one projection, through SiLU, decides how much of another passes.

    Args:
        embedding_dim: D.
        hidden_dim: Width of both projections.
        dropout_rate: Share of hidden values dropped in training.

    Reference:
        Shazeer 2020 (GLU Variants Improve Transformer), equation 6.
    """

    def __init__(self, *, embedding_dim: int, hidden_dim: int, dropout_rate: float) -> None:
        super().__init__()
        self.widen = nn.Linear(embedding_dim, 2 * hidden_dim, bias=False)
        self.narrow = nn.Linear(hidden_dim, embedding_dim, bias=False)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Transform each event on its own, ``[B, L, D]`` to ``[B, L, D]``."""
        gate, value = self.widen(x_BLD).chunk(2, dim=-1)
        out: Tensor = self.narrow(self.dropout(F.silu(gate) * value))
        return out
