"""Multi-head causal self-attention over histories.

Legend: B batch, L sequence, Q queries (L, or 1 for the newest only), D embedding, H heads; of one viewer T events seen
before, S new ones, Z all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

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


@runtime_checkable
class ExtendableBlock(Protocol):
    """A block whose outputs never change once later events come, so that new events need only what was kept of old."""

    num_cached: int
    """Tensors ``[T, D]`` that are kept of the events seen before"""

    def extend(
        self, x_SD: Tensor, past: Sequence[Tensor], *, newest_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Transform the new events of one viewer.

        Args:
            x_SD: The new events, at least one, oldest first.
            past: ``num_cached`` tensors ``[T, D]``: what earlier calls returned, joined; T may be 0.
            newest_only: Compute the last place alone; what is kept is that of all new events.

        Returns:
            ``[Q, D]``, as ``forward`` gives for these places of the whole history; and ``num_cached`` tensors
            ``[S, D]`` to put behind ``past``.
        """


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

    def extend(
        self, x_SD: Tensor, past: Sequence[Tensor], *, newest_only: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend from new events to all; arguments and result as in ``ExtendableBlock.extend``.

        Cached are keys and values.
        """
        past_key_TD, past_value_TD = past
        key_SD, value_SD = self.key_value(x_SD).chunk(2, dim=-1)
        query_QD = self.query(x_SD[-1:] if newest_only else x_SD)
        key_HZd = split_heads_of_one(torch.cat([past_key_TD, key_SD]), self.num_heads)
        value_HZd = split_heads_of_one(torch.cat([past_value_TD, value_SD]), self.num_heads)
        query_HQd = split_heads_of_one(query_QD, self.num_heads) * key_HZd.shape[-1] ** -0.5
        logits_HQZ = query_HQd @ key_HZd.transpose(-1, -2)
        if not newest_only:
            later_QZ = distances(past_key_TD, x_SD) < 0
            logits_HQZ = logits_HQZ.masked_fill(later_QZ, float("-inf"))
        mixed_HQd = logits_HQZ.softmax(dim=-1) @ value_HZd
        mixed: Tensor = self.out(mixed_HQd.transpose(0, 1).flatten(1))
        return mixed, (key_SD, value_SD)


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


def split_heads_of_one(x_ZD: Tensor, num_heads: int) -> Tensor:
    """Return ``[H, Z, D / H]``."""
    return x_ZD.reshape(x_ZD.shape[0], num_heads, x_ZD.shape[1] // num_heads).transpose(0, 1)


def distances(past_TD: Tensor, new_SD: Tensor) -> Tensor:
    """Count the places from each event to each new one, ``[S, T + S]`` int64, negative where it comes later.

    Example:
        >>> distances(torch.zeros(1, 8), torch.zeros(2, 8))
        tensor([[ 1,  0, -1],
                [ 2,  1,  0]])
    """
    length = past_TD.shape[0] + new_SD.shape[0]
    place_Z = torch.arange(length, device=new_SD.device)
    return place_Z[past_TD.shape[0] :, None] - place_Z[None, :]


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
