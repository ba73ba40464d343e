"""Batches of a two-tower model: one target each, with the events before it, or all others where there is no order."""

import numpy as np

from roomrec.batches.batch import TwoTowerBatch
from roomrec.batches.candidates import collate_candidates
from roomrec.batches.collate import Stretches, lay_out
from roomrec.batches.jagged import join_users_and_items
from roomrec.batches.negatives import NegativeSampler
from roomrec.batches.sampler import LengthBuckets
from roomrec.errors import DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.windows import NOTHING_TO_LEARN, train_stops, train_targets


class TargetBatches:
    """The training batches of a two-tower model, each a pure function of seed, epoch and step.

    In a log with order the history of a target is what came before it. In one without, it is everything else the user
    has in the train split, since any of it may have come before.

    Args:
        dataset: What to learn from.
        negatives: Where negatives come from.
        max_sequence_length: L, the most events of a history: the newest, or a random sample where there is no order.
        batch_size: Targets of a batch.
        seed: Fixes order, samples and negatives.

    Raises:
        DatasetError: If no target has a history.
    """

    def __init__(
        self,
        *,
        dataset: ProcessedDataset,
        negatives: NegativeSampler,
        max_sequence_length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        histories = dataset.histories
        self._histories = histories
        self._items = dataset.items
        self._ordered = dataset.ordered
        self._negatives = negatives
        self._max_sequence_length = max_sequence_length
        self._seed = seed
        stops = train_stops(histories)
        place = np.flatnonzero(train_targets(histories))
        row = np.searchsorted(histories.offsets, place, side="right") - 1
        stop = place if dataset.ordered else stops[row]
        length = stop - histories.offsets[row] - (0 if dataset.ordered else 1)
        kept = length > 0
        if not kept.any():
            raise DatasetError(NOTHING_TO_LEARN)
        self._place, self._row, self._stop = place[kept], row[kept], stop[kept]
        self._buckets = LengthBuckets(np.minimum(length[kept], max_sequence_length), batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return len(self._buckets)

    def batch(self, epoch: int, step: int) -> TwoTowerBatch:
        """Return one batch.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        rng = np.random.default_rng((self._seed, epoch, step))
        chosen = self._buckets.batch(epoch, step)
        place, row, stop = self._place[chosen], self._row[chosen], self._stop[chosen]
        start = self._histories.offsets[row]
        if self._ordered:
            stretches = lay_out(np.maximum(start, stop - self._max_sequence_length), stop)
        else:
            stretches = sample_others(lay_out(start, stop), place, max_length=self._max_sequence_length, rng=rng)
        positive = self._histories.item_index[place].astype(np.int64)
        room = self._histories.room_item_index[place].astype(np.int64)
        negatives = self._negatives.sample(positive, self._histories.occurred_at_ms[place], room, rng)
        distinct, candidates = collate_candidates(positive, negatives)
        return TwoTowerBatch(
            features=join_users_and_items(
                self._histories, row=row, stretches=stretches, items=self._items, item_index=distinct
            ),
            num_users=len(chosen),
            candidates=candidates,
        )


def sample_others(
    stretches: Stretches,
    place: np.ndarray[tuple[int], np.dtype[np.int64]],
    *,
    max_length: int,
    rng: np.random.Generator,
) -> Stretches:
    """Leave out the target of each stretch and keep at most ``max_length`` of the others, chosen at random.

    Args:
        stretches: B stretches that each hold their target.
        place: Place of each target in the flat histories, shape ``[B]``.
        max_length: The most events to keep of a stretch.
        rng: Where the randomness comes from.

    Example:
        >>> stretches = lay_out(np.array([4, 0]), np.array([7, 2]))
        >>> sample_others(stretches, np.array([5, 0]), max_length=9, rng=np.random.default_rng(0)).place
        array([4, 6, 1])
    """
    kept = stretches.place != place[stretches.example]
    if (stretches.length - 1 > max_length).any():
        # Number the others of each stretch in a random order and keep the first max_length.
        lottery = np.where(kept, rng.random(len(kept)), 2.0)
        order = np.lexsort((lottery, stretches.example))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = stretches.nth
        kept &= rank < max_length
    example = stretches.example[kept]
    length = np.bincount(example, minlength=len(stretches.length)).astype(np.int64)
    nth = np.arange(len(example)) - np.repeat(np.cumsum(length) - length, length)
    return Stretches(stretches.place[kept], example, nth, length)
