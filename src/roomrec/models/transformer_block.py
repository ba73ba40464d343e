"""The block of SASRec: attention and feed-forward, normalised before or after.

Legend: B batch, L sequence, D embedding; of one viewer T events seen before, S new ones.
"""

from collections.abc import Sequence

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

    num_cached = 2

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
        asked_BLD = self.attention_norm(x_BLD) if self.norm_first else x_BLD
        return self._add(kept_BQD, self.attention(asked_BLD, scope, newest_only=newest_only))

    def extend(
        self, x_SD: Tensor, past: Sequence[Tensor], *, newest_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Transform new events; arguments and result as in ``ExtendableBlock.extend``."""
        kept_QD = x_SD[-1:] if newest_only else x_SD
        asked_SD = self.attention_norm(x_SD) if self.norm_first else x_SD
        seen_QD, cached = self.attention.extend(asked_SD, past, newest_only=newest_only)
        return self._add(kept_QD, seen_QD), cached

    def _add(self, kept: Tensor, seen: Tensor) -> Tensor:
        """Add what attention saw, then what the feed-forward makes of it, ``[..., D]``."""
        if self.norm_first:
            x = kept + self.dropout(seen)
            refined: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
            return refined
        x = self.attention_norm(kept + self.dropout(seen))
        normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normed
