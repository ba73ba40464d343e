"""Multi-head causal self-attention over left-padded sequences.

Legend: B batch, L sequence, Q queries (L, or 1 for the newest only), D embedding, H heads.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class CausalSelfAttention(nn.Module):
    """Each event looks at itself and at the real events before it.

    Args:
        embedding_dim: D, a multiple of ``num_heads``.
        num_heads: H.
        dropout_rate: Share of attention weights dropped in training.

    Raises:
        ValueError: If ``embedding_dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, *, embedding_dim: int, num_heads: int, dropout_rate: float) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            raise ValueError(f"embedding_dim {embedding_dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout_rate = dropout_rate
        self.query = nn.Linear(embedding_dim, embedding_dim)
        self.key_value = nn.Linear(embedding_dim, 2 * embedding_dim)
        self.out = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, query_BQD: Tensor, x_BLD: Tensor, may_attend_B1QL: Tensor) -> Tensor:
        """Attend from some events to all.

        Args:
            query_BQD: The events that ask, the newest Q of ``x_BLD``.
            x_BLD: All events.
            may_attend_B1QL: True where a query may look; every row must hold at least one True.

        Returns:
            ``[B, Q, D]``.
        """
        query = self._split_heads(self.query(query_BQD))
        key, value = self.key_value(x_BLD).chunk(2, dim=-1)
        mixed_BHQd = F.scaled_dot_product_attention(
            query,
            self._split_heads(key),
            self._split_heads(value),
            attn_mask=may_attend_B1QL,
            dropout_p=self.dropout_rate if self.training else 0.0,
        )
        mixed: Tensor = self.out(mixed_BHQd.transpose(1, 2).flatten(2))
        return mixed

    def _split_heads(self, x_BLD: Tensor) -> Tensor:
        batch_size, length, width = x_BLD.shape
        return x_BLD.reshape(batch_size, length, self.num_heads, width // self.num_heads).transpose(1, 2)


def causal_mask(mask_BL: Tensor) -> Tensor:
    """Return who may look at whom, ``[B, 1, L, L]``: real events not later than oneself, and always oneself.

    Padding looks at itself, so that no row is empty and softmax never divides zero by zero; nobody looks at padding.

    Args:
        mask_BL: True means real.

    Example:
        >>> causal_mask(torch.tensor([[False, True, True]]))[0, 0].int()
        tensor([[1, 0, 0],
                [0, 1, 0],
                [0, 1, 1]], dtype=torch.int32)
    """
    place_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
    earlier_LL = place_L[None, :] <= place_L[:, None]
    itself_LL = place_L[None, :] == place_L[:, None]
    return ((earlier_LL & mask_BL[:, None, :]) | itself_LL)[:, None]
