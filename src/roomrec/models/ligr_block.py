"""The block of eSASRec: a pre-norm transformer whose residuals pass learned gates.

Legend: B batch, L sequence, D embedding.
"""

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
        x_BQD = kept_BQD + self.dropout(seen_BQD) * torch.sigmoid(self.attention_gate(kept_BQD))
        refined_BQD = self.dropout(self.feed_forward(self.feed_forward_norm(x_BQD)))
        gated: Tensor = x_BQD + refined_BQD * torch.sigmoid(self.feed_forward_gate(x_BQD))
        return gated
