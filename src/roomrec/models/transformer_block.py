"""The block of SASRec: attention and feed-forward, normalised before or after.

Legend: B batch, L sequence, D embedding.
"""

from torch import Tensor, nn

from roomrec.models.attention import CausalSelfAttention, Scope
from roomrec.models.dropout import Dropout
from roomrec.models.feed_forward import FeedForward


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each with normalisation and a residual.

    Args:
        embedding_dim: D.
        max_sequence_length: Not used: attention has no positions of its own.
        dropout_rate: In the feed-forward and on both residuals.
        num_heads: Attention heads.
        hidden_dim: Width of the feed-forward.
        norm_first: Normalise before each half (pre-norm) instead of after its residual (post-norm).

    Reference:
        Kang & McAuley 2018 (SASRec), section III-B.
    """

    def __init__(
        self,
        *,
        embedding_dim: int,
        max_sequence_length: int,
        dropout_rate: float,
        num_heads: int,
        hidden_dim: int,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = CausalSelfAttention(embedding_dim=embedding_dim, num_heads=num_heads)
        self.feed_forward = FeedForward(embedding_dim=embedding_dim, hidden_dim=hidden_dim, dropout_rate=dropout_rate)
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x_BLD: Tensor, scope: Scope, *, newest_only: bool = False) -> Tensor:
        """Transform events.

        Args:
            x_BLD: All events.
            scope: Who may look at whom.
            newest_only: Compute the last place alone.

        Returns:
            ``[B, L, D]``, or ``[B, 1, D]`` for the newest only.
        """
        kept_BQD = x_BLD[:, -1:] if newest_only else x_BLD
        if self.norm_first:
            seen_BQD = self.attention(self.attention_norm(x_BLD), scope, newest_only=newest_only)
            x_BQD = kept_BQD + self.dropout(seen_BQD)
            refined: Tensor = x_BQD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BQD)))
            return refined
        x_BQD = self.attention_norm(kept_BQD + self.dropout(self.attention(x_BLD, scope, newest_only=newest_only)))
        normed: Tensor = self.feed_forward_norm(x_BQD + self.dropout(self.feed_forward(x_BQD)))
        return normed
