"""The block of eSASRec: a pre-norm transformer whose residuals pass learned gates.

Legend: B batch, L sequence, D embedding; of one viewer T events seen before, S new ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roomrec.models.attention import CausalSelfAttention, Scope
from roomrec.models.dropout import Dropout
from roomrec.models.feed_forward import SwiGLU


class LigrBlock(nn.Module):
    """Self-attention and SwiGLU; what each adds is scaled by a sigmoid of what was there.

    Args:
        embedding_dim: D.
        max_sequence_length: Not used: attention has no positions of its own.
        dropout_rate: In the feed-forward and on both residuals.
        num_heads: Attention heads.
        hidden_dim: Width of the feed-forward.

    Reference:
        Borisyuk et al. 2024 (LiGR) for the gates, Shazeer 2020 for SwiGLU, both together as in eSASRec (2025).
    """

    num_cached = 2

    def __init__(
        self, *, embedding_dim: int, max_sequence_length: int, dropout_rate: float, num_heads: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.attention = CausalSelfAttention(embedding_dim=embedding_dim, num_heads=num_heads)
        self.feed_forward = SwiGLU(embedding_dim=embedding_dim, hidden_dim=hidden_dim, dropout_rate=dropout_rate)
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.attention_gate = nn.Linear(embedding_dim, embedding_dim)
        self.feed_forward_gate = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x_BLD: Tensor, scope: Scope, *, newest_only: bool = False) -> Tensor:
        """Transform events; arguments and result as in ``TransformerBlock.forward``."""
        kept_BQD = x_BLD[:, -1:] if newest_only else x_BLD
        seen_BQD = self.attention(self.attention_norm(x_BLD), scope, newest_only=newest_only)
        return self._add(kept_BQD, seen_BQD)

    def extend(
        self, x_SD: Tensor, past: Sequence[Tensor], *, newest_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Transform new events; arguments and result as in ``ExtendableBlock.extend``."""
        kept_QD = x_SD[-1:] if newest_only else x_SD
        seen_QD, cached = self.attention.extend(self.attention_norm(x_SD), past, newest_only=newest_only)
        return self._add(kept_QD, seen_QD), cached

    def _add(self, kept: Tensor, seen: Tensor) -> Tensor:
        """Add what attention saw, then what the feed-forward makes of it, through the gates, ``[..., D]``."""
        x = kept + self.dropout(seen) * torch.sigmoid(self.attention_gate(kept))
        refined = self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        gated: Tensor = x + refined * torch.sigmoid(self.feed_forward_gate(x))
        return gated
