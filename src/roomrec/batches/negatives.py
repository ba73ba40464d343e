"""What a positive is compared with: one sampler per class, chosen by Hydra.

Legend: P positives, N negatives.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from roomrec.errors import DatasetError
from roomrec.features.as_of import PRODUCT_KIND
from roomrec.ids import FIRST_INDEX, PAD_INDEX
from roomrec.sequences.dataset import ItemTable, ProcessedDataset
from roomrec.sequences.histories import blocks_of
from roomrec.sequences.windows import train_targets

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class SampledNegatives(NamedTuple):
    """Negatives of P positives, either shared by all or drawn for each."""

    item: Int64Array
    """[N] shared, or [P, N]; PAD where nothing could be drawn"""
    real: npt.NDArray[np.bool_] | None
    """[P, N] False for padding, accidental hits, items of another kind than the positive, and what was not live; None:
    ``item`` holds every item once, and all but the positive count"""
    positive_log_q: Float32Array
    """[P] log of the rate at which the sampler offers the positive; 0 for a uniform sampler"""
    negative_log_q: Float32Array
    """[N] or [P, N]"""
    sampling_rate: float
    """N over the number of negatives that could have been drawn"""


class NegativeSampler(Protocol):
    """Draws negatives; a pure function of its arguments."""

    @property
    def shared(self) -> bool:
        """Whether the same draw does for everybody, whatever the positives."""
        ...

    def sample(
        self, positive: Int64Array, at_ms: Int64Array, room: Int64Array, rng: np.random.Generator
    ) -> SampledNegatives:
        """Draw negatives for positives ``[P]`` chosen at ``at_ms`` ``[P]`` inside ``room`` ``[P]`` (PAD: nowhere)."""
        ...


class UniformNegatives:
    """Uniform over the items that training knows, one draw shared by the whole batch; every item if there are no more.

    Args:
        dataset: Where the items come from.
        num_negatives: N.
    """

    shared = True

    def __init__(self, *, dataset: ProcessedDataset, num_negatives: int) -> None:
        self._kind = dataset.items.kind
        self._known = np.flatnonzero(known_items(dataset.items))
        if len(self._known) < 2:
            raise DatasetError(
                f"the dataset knows {len(self._known)} items, and training needs 2 at least: preprocess more data, "
                f"or lower vocabulary.min_count"
            )
        self._one_kind = len(np.unique(self._kind[self._known])) == 1
        self._num_negatives = num_negatives

    def sample(
        self, positive: Int64Array, at_ms: Int64Array, room: Int64Array, rng: np.random.Generator
    ) -> SampledNegatives:
        """Draw N items for all positives; see ``NegativeSampler``."""
        if self._num_negatives >= len(self._known) and self._one_kind:
            nothing = np.zeros(len(positive), dtype=np.float32)
            return SampledNegatives(self._known, None, nothing, np.zeros(len(self._known), dtype=np.float32), 1.0)
        item = self._known[rng.integers(len(self._known), size=self._num_negatives)]
        return _shared(item, positive, self._kind, num_possible=len(self._known))


class PopularityNegatives:
    """Drawn by how often an item was chosen in training, to a power; shared by the whole batch and logQ-corrected.

    Args:
        dataset: Where the items and their counts come from.
        num_negatives: N.
        exponent: 0 is uniform over the items ever chosen, 1 is by count.
    """

    shared = True

    def __init__(self, *, dataset: ProcessedDataset, num_negatives: int, exponent: float) -> None:
        self._kind = dataset.items.kind
        weight = np.where(count_targets(dataset) > 0, np.maximum(count_targets(dataset), 1.0) ** exponent, 0.0)
        self._upto = np.cumsum(weight)
        self._log_q = _log_rate(weight)
        self._num_possible = int(np.count_nonzero(weight))
        self._num_negatives = num_negatives

    def sample(
        self, positive: Int64Array, at_ms: Int64Array, room: Int64Array, rng: np.random.Generator
    ) -> SampledNegatives:
        """Draw N items for all positives; see ``NegativeSampler``."""
        drawn = rng.random(self._num_negatives) * self._upto[-1]
        item = np.searchsorted(self._upto, drawn, side="right")
        return _shared(item, positive, self._kind, num_possible=self._num_possible)._replace(
            positive_log_q=self._log_q[positive], negative_log_q=self._log_q[item]
        )


class InBatchNegatives:
    """The positives of the batch serve each other as negatives, logQ-corrected by how often they are positives.

    In a live log a positive of another moment counts only where it was available at this one's.

    Args:
        dataset: Where the counts and the timeline come from.
        num_negatives: N, the most positives to use; a larger batch is subsampled.
    """

    shared = False

    def __init__(self, *, dataset: ProcessedDataset, num_negatives: int) -> None:
        self._kind = dataset.items.kind
        self._log_q = _log_rate(count_targets(dataset))
        self._num_possible = int(np.count_nonzero(count_targets(dataset)))
        self._availability = dataset.availability if dataset.knows_availability else None
        self._num_negatives = num_negatives

    def sample(
        self, positive: Int64Array, at_ms: Int64Array, room: Int64Array, rng: np.random.Generator
    ) -> SampledNegatives:
        """Take up to N positives; see ``NegativeSampler``."""
        item = positive
        if len(positive) > self._num_negatives:
            item = rng.choice(positive, size=self._num_negatives, replace=False)
        negatives = _shared(item, positive, self._kind, num_possible=self._num_possible)
        real = negatives.real
        assert real is not None
        if self._availability is not None:
            there = self._availability.is_available(np.tile(item, len(positive)), np.repeat(at_ms, len(item)))
            real = real & there.reshape(real.shape)
        return negatives._replace(real=real, positive_log_q=self._log_q[positive], negative_log_q=self._log_q[item])


class MixedNegatives:
    """Some drawn uniformly, the others positives of the batch, corrected by the rate at which both together offer.

    The batch alone never offers what nobody chose, so rare items would go unjudged; uniform draws are mostly easy.

    Args:
        dataset: Where the items and their counts come from.
        num_negatives: N.
        uniform_share: Share of the negatives that are drawn uniformly, strictly between 0 and 1.

    Raises:
        ValueError: If the share is not between 0 and 1.

    Reference:
        Yang et al. 2020 (Mixed Negative Sampling), section 3.2.
    """

    shared = False

    def __init__(self, *, dataset: ProcessedDataset, num_negatives: int, uniform_share: float) -> None:
        if not 0 < uniform_share < 1:
            raise ValueError(f"uniform_share is {uniform_share}: expected more than 0 and less than 1")
        self._kind = dataset.items.kind
        known = known_items(dataset.items)
        self._known = np.flatnonzero(known)
        self._uniform_rate = known / max(len(self._known), 1)
        counts = count_targets(dataset)
        self._in_batch_rate = counts / max(counts.sum(), 1.0)
        self._num_uniform = min(max(round(num_negatives * uniform_share), 1), num_negatives)
        self._num_in_batch = num_negatives - self._num_uniform

    def sample(
        self, positive: Int64Array, at_ms: Int64Array, room: Int64Array, rng: np.random.Generator
    ) -> SampledNegatives:
        """Draw items and take positives for all; see ``NegativeSampler``."""
        drawn = self._known[rng.integers(len(self._known), size=self._num_uniform)]
        taken = positive
        if len(positive) > self._num_in_batch:
            taken = rng.choice(positive, size=self._num_in_batch, replace=False)
        item = np.concatenate([drawn, taken])
        share = len(drawn) / len(item)
        log_q = [
            np.log(share * self._uniform_rate[some] + (1 - share) * self._in_batch_rate[some]).astype(np.float32)
            for some in (positive, item)
        ]
        return _shared(item, positive, self._kind, num_possible=len(self._known))._replace(
            positive_log_q=log_q[0], negative_log_q=log_q[1]
        )


class AvailableNegatives:
    """Drawn for each positive from what was available when it was chosen, where the log knows that.

    What was not live could not be chosen, so it says nothing about taste. Draws are uniform over availabilities, hence
    there is no logQ correction. A product chosen inside a room is also compared with its neighbours there, among which
    the viewer chose.

    Args:
        dataset: Where the timeline comes from.
        num_negatives: Negatives of each positive in a log that knows availability.
        num_room_negatives: How many of a product's negatives are sold in the same room; the others anywhere.
        otherwise: Makes the sampler that is used in a log that does not.

    Raises:
        ValueError: If more are to come from the room than there are.
    """

    def __init__(
        self,
        *,
        dataset: ProcessedDataset,
        num_negatives: int,
        num_room_negatives: int,
        otherwise: Callable[..., NegativeSampler],
    ) -> None:
        if not 0 <= num_room_negatives <= num_negatives:
            raise ValueError(
                f"num_room_negatives is {num_room_negatives}, expected 0 to num_negatives ({num_negatives})"
            )
        self._kind = dataset.items.kind.astype(np.int64)
        self._availability = dataset.availability
        self._num_negatives = num_negatives
        self._num_room_negatives = num_room_negatives
        self._sampling_rate = num_negatives / max(self._availability.mean_number(), 1.0)
        self._otherwise = None if dataset.knows_availability else otherwise(dataset=dataset)

    @property
    def shared(self) -> bool:
        """Whether the same draw does for everybody: that of the sampler for logs without availability may."""
        return self._otherwise is not None and self._otherwise.shared

    def sample(
        self, positive: Int64Array, at_ms: Int64Array, room: Int64Array, rng: np.random.Generator
    ) -> SampledNegatives:
        """Draw N items for each positive; see ``NegativeSampler``."""
        if self._otherwise is not None:
            return self._otherwise.sample(positive, at_ms, room, rng)
        kind = self._kind[positive]
        item = self._availability.sample_available(at_ms, kind, num_samples=self._num_negatives, rng=rng)
        inside = np.flatnonzero((kind == PRODUCT_KIND) & (room != PAD_INDEX))
        item[inside, : self._num_room_negatives] = self._availability.sample_in_room(
            at_ms[inside], room[inside], num_samples=self._num_room_negatives, rng=rng
        )
        return SampledNegatives(
            item=item,
            real=(item != PAD_INDEX) & (item != positive[:, None]),
            positive_log_q=np.zeros(len(positive), dtype=np.float32),
            negative_log_q=np.zeros(item.shape, dtype=np.float32),
            sampling_rate=self._sampling_rate,
        )


def known_items(items: ItemTable) -> npt.NDArray[np.bool_]:
    """Say for each item whether its own id (a product's) or its streamer's (a room's) is in the vocabulary, ``[V]``."""
    own = np.where(items.kind == PRODUCT_KIND, items.product[:, 0], items.streamer)
    return np.asarray((items.kind > 0) & (own >= FIRST_INDEX))


def count_targets(dataset: ProcessedDataset) -> npt.NDArray[np.float64]:
    """Count how often each item is a target in training, shape ``[V]``."""
    counts = np.zeros(len(dataset.items.kind), dtype=np.int64)
    for block in blocks_of(dataset.histories):
        chosen = block.histories.item_index[train_targets(block.histories)]
        counts += np.bincount(chosen, minlength=len(counts))
    return counts.astype(np.float64)


def _log_rate(weight: npt.NDArray[np.float64]) -> Float32Array:
    """Log of the share of each item; items that are never offered get the smallest share, which is never used."""
    least = weight[weight > 0].min() if (weight > 0).any() else 1.0
    return np.asarray(np.log(np.maximum(weight, least) / max(weight.sum(), 1.0)), dtype=np.float32)


def _shared(
    item: Int64Array, positive: Int64Array, kind: npt.NDArray[np.integer], *, num_possible: int
) -> SampledNegatives:
    return SampledNegatives(
        item=item,
        real=(item != positive[:, None]) & (kind[item] == kind[positive][:, None]),
        positive_log_q=np.zeros(len(positive), dtype=np.float32),
        negative_log_q=np.zeros(len(item), dtype=np.float32),
        sampling_rate=len(item) / max(num_possible, 1),
    )
