"""Multi-head causal self-attention over histories.

Legend: B batch, L sequence, Q queries (L, or 1 for the newest only), D embedding, H heads.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Scope(NamedTuple):
    """Who may look at whom in a batch of histories, and when each event happened."""

    may_attend_B1LL: Tensor | None
    """True where an event may look; every row holds at least one True. None: at itself and at everything before it,
    which is right for real events where padding stands on the right, and needs no mask in memory"""
    age_BL: Tensor
    """Seconds before the newest event of the history, int64"""


class CausalSelfAttention(nn.Module):
    """Each event looks at itself and at the real events before it.

    Attention weights are not dropped: fused kernels cannot, and the residual dropout around this does as well.

    Args:
        embedding_dim: D, a multiple of ``num_heads``.
        num_heads: H.

    Raises:
        ValueError: If ``embedding_dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, *, embedding_dim: int, num_heads: int) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            raise ValueError(f"embedding_dim {embedding_dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(embedding_dim, embedding_dim)
        self.key_value = nn.Linear(embedding_dim, 2 * embedding_dim)
        self.out = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, x_BLD: Tensor, scope: Scope, *, newest_only: bool = False) -> Tensor:
        """Attend from all events to all, or from the newest alone.

        Args:
            x_BLD: All events.
            scope: Who may look at whom.
            newest_only: Let only the last place ask.

        Returns:
            ``[B, Q, D]``.
        """
        asking_BQD = x_BLD[:, -1:] if newest_only else x_BLD
        may_attend = scope.may_attend_B1LL
        if newest_only and may_attend is not None:
            may_attend = may_attend[:, :, -1:]
        key_BLD, value_BLD = self.key_value(x_BLD).chunk(2, dim=-1)
        mixed_BHQd = _attend(
            split_heads(self.query(asking_BQD), self.num_heads),
            split_heads(key_BLD, self.num_heads),
            split_heads(value_BLD, self.num_heads),
            may_attend,
            is_causal=may_attend is None and not newest_only,
        )
        mixed: Tensor = self.out(mixed_BHQd.transpose(1, 2).flatten(2))
        return mixed


def _attend(query: Tensor, key: Tensor, value: Tensor, may_attend: Tensor | None, *, is_causal: bool) -> Tensor:
    """Attention of ``[B, H, L, d]``, on a CPU always in float32.

    There PyTorch's fused kernel takes five times as long in bfloat16 at 50 events, and twice at 200.
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return _attend(query.float(), key.float(), value.float(), may_attend, is_causal=is_causal)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=may_attend, is_causal=is_causal)


def split_heads(x_BLD: Tensor, num_heads: int) -> Tensor:
    """Return ``[B, H, L, D / H]``."""
    batch_size, length, width = x_BLD.shape
    return x_BLD.reshape(batch_size, length, num_heads, width // num_heads).transpose(1, 2)


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
