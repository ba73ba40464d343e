"""The block of BSARec made causal: attention beside a filter that splits a history into slow and fast changes.

Legend: B batch, L sequence, Q queries (L, or 1 for the newest only), D embedding, H heads; of one
viewer T events seen before, S new ones, Z all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roomrec.models.attention import CausalSelfAttention, Scope, distances, split_heads, split_heads_of_one
from roomrec.models.dropout import Dropout
from roomrec.models.feed_forward import FeedForward


class FrequencyBlock(nn.Module):
    """Mixes what attention sees with a low-pass of the past and the rest of each event, then transforms it.

    The low-pass is a moving average over earlier events whose weights, by head and by distance, are learned and sum to
    one: what a viewer keeps coming back to. What it leaves, the fast part, is scaled for each dimension, so that a
    short history can keep its last turn.

    Args:
        embedding_dim: D, a multiple of ``num_heads``.
        max_sequence_length: L at most.
        dropout_rate: In the feed-forward and on both residuals.
        num_heads: Attention heads, and low-pass filters.
        hidden_dim: Width of the feed-forward.
        filter_share: How much of the mixture comes from the filter, from 0 to 1; the rest from attention.

    Raises:
        ValueError: If ``filter_share`` is outside, or ``embedding_dim`` is not a multiple of ``num_heads``.

    Reference:
        Shin et al. 2024 (BSARec), section 4. Deliberate differences: their low-pass is a Fourier transform of the whole
        sequence, in which each place sees the future, so only the newest can be trained; a causal average trains all
        places at once. Pre-norm.
    """

    num_cached = 3

    def __init__(
        self,
        *,
        embedding_dim: int,
        max_sequence_length: int,
        dropout_rate: float,
        num_heads: int,
        hidden_dim: int,
        filter_share: float,
    ) -> None:
        super().__init__()
        if not 0.0 <= filter_share <= 1.0:
            raise ValueError(f"filter_share must be from 0 to 1, received {filter_share}")
        self.num_heads = num_heads
        self.max_sequence_length = max_sequence_length
        self.filter_share = filter_share
        self.attention = CausalSelfAttention(embedding_dim=embedding_dim, num_heads=num_heads)
        self.feed_forward = FeedForward(embedding_dim=embedding_dim, hidden_dim=hidden_dim, dropout_rate=dropout_rate)
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout_rate)
        self.distance_logit = nn.Parameter(torch.zeros(num_heads, max_sequence_length))
        self.fast_scale = nn.Parameter(torch.ones(embedding_dim))

    def forward(self, x_BLD: Tensor, scope: Scope, *, newest_only: bool = False) -> Tensor:
        """Transform events; arguments and result as in ``TransformerBlock.forward``."""
        first = x_BLD.shape[1] - 1 if newest_only else 0
        normed_BLD = self.attention_norm(x_BLD)
        filtered_BQD = self._filter(normed_BLD[:, first:], self._average(normed_BLD, scope, first))
        seen_BQD = self.attention(normed_BLD, scope, newest_only=newest_only)
        return self._add(x_BLD[:, first:], filtered_BQD, seen_BQD)

    def extend(
        self, x_SD: Tensor, past: Sequence[Tensor], *, newest_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Transform new events; arguments and result as in ``ExtendableBlock.extend``.

        Cached are keys, values and the normalised events.
        """
        *past_attended, past_normed_TD = past
        normed_SD = self.attention_norm(x_SD)
        first = x_SD.shape[0] - 1 if newest_only else 0
        filtered_QD = self._filter(normed_SD[first:], self._average_new(past_normed_TD, normed_SD, first))
        seen_QD, cached = self.attention.extend(normed_SD, past_attended, newest_only=newest_only)
        return self._add(x_SD[first:], filtered_QD, seen_QD), (*cached, normed_SD)

    def _filter(self, normed: Tensor, slow: Tensor) -> Tensor:
        """Put the slow and the scaled fast part of events together, ``[..., D]``."""
        return slow + self.fast_scale.square() * (normed - slow)

    def _add(self, kept: Tensor, filtered: Tensor, seen: Tensor) -> Tensor:
        """Add the mixture of filter and attention, then what the feed-forward makes of it, ``[..., D]``."""
        mixed = self.filter_share * filtered + (1.0 - self.filter_share) * seen
        x = kept + self.dropout(mixed)
        refined: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return refined

    def _average(self, normed_BLD: Tensor, scope: Scope, first: int) -> Tensor:
        """Average each event with those before it, ``[B, Q, D]``."""
        place_L = torch.arange(normed_BLD.shape[1], device=normed_BLD.device)
        distance_QL = place_L[first:, None] - place_L[None, :]
        may_attend = distance_QL >= 0 if scope.may_attend_B1LL is None else scope.may_attend_B1LL[:, :, first:]
        logits_HQL = self.distance_logit[:, distance_QL.clamp(0, self.max_sequence_length - 1)]
        # Where padding stands on the right the weights are the same for everybody, [H, Q, L]; else [B, H, Q, L].
        weights = logits_HQL.masked_fill(~may_attend, float("-inf")).softmax(dim=-1)
        averaged_BHQd: Tensor = weights.to(normed_BLD.dtype) @ split_heads(normed_BLD, self.num_heads)
        return averaged_BHQd.transpose(1, 2).flatten(2)

    def _average_new(self, past_TD: Tensor, new_SD: Tensor, first: int) -> Tensor:
        """Average each new event with those before it, ``[Q, D]``."""
        distance_QZ = distances(past_TD, new_SD)[first:]
        logits_HQZ = self.distance_logit[:, distance_QZ.clamp(0, self.max_sequence_length - 1)]
        weights_HQZ = logits_HQZ.masked_fill(distance_QZ < 0, float("-inf")).softmax(dim=-1)
        averaged_HQd: Tensor = weights_HQZ @ split_heads_of_one(torch.cat([past_TD, new_SD]), self.num_heads)
        return averaged_HQd.transpose(0, 1).flatten(1)
