"""What a model receives: named tensors with a shape under each.

Legend: B examples, L sequence, P target positions, E positives, N negatives, C distinct candidates,
W places of a bag.
"""

from __future__ import annotations  # so that only those who build a TwoTowerBatch import torchrec, which takes seconds

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor


class HistoryBatch(NamedTuple):
    """Inputs of a user encoder, int64, padded with 0; ``event_type`` is 0 exactly on padding.

    Padding stands on the left, except in the windows of ``SequenceBatch``.
    """

    event_type: Tensor
    """[B, L]"""
    streamer_index: Tensor
    """[B, L]"""
    product_index: Tensor
    """[B, L]"""
    time_gap_bucket: Tensor
    """[B, L]"""
    watch_time_bucket: Tensor
    """[B, L]"""
    age_s: Tensor
    """[B, L] seconds before the newest event"""
    user_index: Tensor
    """[B]"""


class ItemBatch(NamedTuple):
    """Inputs of an item encoder, int64, bags padded on the right with 0."""

    streamer: Tensor
    """[C]"""
    product: Tensor
    """[C, W]"""
    category: Tensor
    """[C]"""
    title: Tensor
    """[C, W]"""
    price_band: Tensor
    """[C]"""
    attributes: Tensor
    """[C, W]"""


class CandidateBatch(NamedTuple):
    """Which of the C distinct items are scored for each of the P targets.

    ``log_q`` is the logarithm of the rate at which the sampler offers an item, up to a constant; all 0 where the
    sampler is uniform.
    """

    positive: Tensor
    """[P] int64 places among the C items"""
    negative: Tensor | None
    """[N] (shared by all targets) or [P, N], int64 places among the C items; None: all C of them"""
    real: Tensor | None
    """[P, N] bool; False for padding and for a negative that happens to be the positive; None: only that"""
    positive_log_q: Tensor
    """[P] float32"""
    negative_log_q: Tensor
    """[N] or [P, N] float32"""
    sampling_rate: float
    """N over the number of negatives that could have been drawn"""


class ChosenItems(NamedTuple):
    """Everything B users chose, and the items of the softmax that all of them share."""

    positive: Tensor
    """[E] int64 places among the C items"""
    positive_user: Tensor
    """[E] int64 rows of the B users, ascending"""
    negative: Tensor | None
    """[N] int64 places among the C items; None: all C of them"""
    negative_log_q: Tensor | None
    """[N] float32; None where all items are offered"""


class SequenceBatch(NamedTuple):
    """Windows with the places at which the next event is a target; padding stands on the right."""

    history: HistoryBatch
    """[B, L]"""
    target_place: Tensor
    """[P] int64 places in the flattened [B * L]"""
    items: ItemBatch
    """[C]"""
    candidates: CandidateBatch
    """[P, N]"""


class TwoTowerBatch(NamedTuple):
    """Examples with one target each, P = B, or all of a user's: users and the C items are rows of one jagged tensor."""

    features: KeyedJaggedTensor
    """stride B + C: the first B rows are users, the others items"""
    num_users: int
    """B"""
    candidates: CandidateBatch | ChosenItems
    """[P, N], or what each user chose"""
