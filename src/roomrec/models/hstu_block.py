"""The block of HSTU: pointwise attention with a bias for distance in places and in time, gated.

Legend: B batch, L sequence, Q queries (L, or 1 for the newest only), D embedding, H heads.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from roomrec.models.attention import Scope, split_heads
from roomrec.models.dropout import Dropout

_NUM_TIME_BUCKETS = 34
"""0 for the same second, then 1 + floor(log2(seconds)): the last begins at 136 years."""


class HstuBlock(nn.Module):
    """Attention weights are SiLU of logits over the longest length: no softmax, so a history's size leaves its mark.

    Args:
        embedding_dim: D, a multiple of ``num_heads``.
        max_sequence_length: L at most; weights are divided by it, and it bounds the table of distances.
        dropout_rate: On what the gate lets through.
        num_heads: H.

    Raises:
        ValueError: If ``embedding_dim`` is not a multiple of ``num_heads``.

    Reference:
        Zhai et al. 2024 (HSTU), equations 1 to 3; biases are by head, and time differences are in powers of two.
    """

    def __init__(self, *, embedding_dim: int, max_sequence_length: int, dropout_rate: float, num_heads: int) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            raise ValueError(f"embedding_dim {embedding_dim} must be a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.max_sequence_length = max_sequence_length
        self.norm = nn.LayerNorm(embedding_dim)
        self.gate_query = nn.Linear(embedding_dim, 2 * embedding_dim, bias=False)
        self.key_value = nn.Linear(embedding_dim, 2 * embedding_dim, bias=False)
        self.mixed_norm = nn.LayerNorm(embedding_dim)
        self.out = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = Dropout(dropout_rate)
        self.distance_bias = nn.Embedding(max_sequence_length, num_heads)
        self.time_bias = nn.Embedding(_NUM_TIME_BUCKETS, num_heads)
        nn.init.zeros_(self.distance_bias.weight)
        nn.init.zeros_(self.time_bias.weight)

    def forward(self, x_BLD: Tensor, scope: Scope, *, newest_only: bool = False) -> Tensor:
        """Transform events; arguments and result as in ``TransformerBlock.forward``."""
        length = x_BLD.shape[1]
        first = length - 1 if newest_only else 0
        normed_BLD = self.norm(x_BLD)
        gate_BQD, query_BQD = F.silu(self.gate_query(normed_BLD[:, first:])).chunk(2, dim=-1)
        key_BLD, value_BLD = F.silu(self.key_value(normed_BLD)).chunk(2, dim=-1)
        place_L = torch.arange(length, device=x_BLD.device)
        distance_QL = place_L[first:, None] - place_L[None, :]
        if scope.may_attend_B1LL is None:
            may_attend = (distance_QL >= 0)[None, None]
        else:
            may_attend = scope.may_attend_B1LL[:, :, first:]
        logits_BHQL = split_heads(query_BQD, self.num_heads) @ split_heads(key_BLD, self.num_heads).transpose(-1, -2)
        elapsed_BQL = (scope.age_BL[:, None, :] - scope.age_BL[:, first:, None]).clamp(min=0)
        bias_QLH = self.distance_bias(distance_QL.clamp(0, self.max_sequence_length - 1))
        bias_BQLH = bias_QLH + self.time_bias(time_buckets(elapsed_BQL))
        weight_BHQL = F.silu(logits_BHQL + bias_BQLH.permute(0, 3, 1, 2)) / self.max_sequence_length
        mixed_BHQd = (weight_BHQL * may_attend).to(value_BLD.dtype) @ split_heads(value_BLD, self.num_heads)
        mixed_BQD = self.mixed_norm(mixed_BHQd.transpose(1, 2).flatten(2))
        added: Tensor = x_BLD[:, first:] + self.out(self.dropout(mixed_BQD * gate_BQD))
        return added


def time_buckets(seconds: Tensor) -> Tensor:
    """Bucket time differences of at least 0: 0 for none, then 1 + floor(log2(seconds)), int64.

    Example:
        >>> time_buckets(torch.tensor([0, 1, 3, 60]))
        tensor([0, 1, 2, 6])
    """
    bucket = torch.log2(seconds.clamp(min=1).double() + 0.5).floor().long() + 1
    return torch.where(seconds > 0, bucket, 0).clamp(max=_NUM_TIME_BUCKETS - 1)
