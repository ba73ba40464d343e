"""Batches of a two-tower model: one target each, with the events before it, or all others where there is no order."""

import numpy as np

from roomrec.batches.batch import CandidateBatch, TwoTowerBatch
from roomrec.batches.candidates import collate_candidates
from roomrec.batches.collate import Stretches, lay_out
from roomrec.batches.jagged import join_users_and_items
from roomrec.batches.negatives import NegativeSampler
from roomrec.batches.sampler import Examples, LengthBuckets
from roomrec.errors import DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.histories import Histories, block_bounds, cut_block
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

    batch_type = TwoTowerBatch
    candidates_type = CandidateBatch

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
        targets = TargetBlocks(histories, ordered=dataset.ordered, max_sequence_length=max_sequence_length)
        if not targets.counts.sum():
            raise DatasetError(NOTHING_TO_LEARN)
        self._buckets = LengthBuckets(targets, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return len(self._buckets)

    def batch(self, epoch: int, step: int) -> TwoTowerBatch:
        """Return one batch.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        rng = np.random.default_rng((self._seed, epoch, step))
        place, row, stop = self._buckets.batch(epoch, step)
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
            num_users=len(place),
            candidates=candidates,
        )


class TargetBlocks:
    """All training targets that have a history; columns: the target's place, its user's row, where its history stops.

    Args:
        histories: Everybody's events.
        ordered: Whether a history stops at its target, or holds all else that the user has in the train split.
        max_sequence_length: L, the most events of a history.
    """

    def __init__(self, histories: Histories, *, ordered: bool, max_sequence_length: int) -> None:
        self._histories = histories
        self._ordered = ordered
        self._max_sequence_length = max_sequence_length
        self._bounds = block_bounds(histories.offsets)
        self.counts = np.array([len(self.block(number).length) for number in range(len(self._bounds) - 1)])

    def block(self, number: int) -> Examples:
        """Return the targets of a block, in order."""
        cut = cut_block(self._histories, int(self._bounds[number]), int(self._bounds[number + 1]))
        place = np.flatnonzero(train_targets(cut.histories))
        row = np.searchsorted(cut.histories.offsets, place, side="right") - 1
        stop = place if self._ordered else train_stops(cut.histories)[row]
        length = stop - cut.histories.offsets[row] - (0 if self._ordered else 1)
        kept = length > 0
        place, row, stop = (column[kept] for column in (place, row, stop))
        return Examples(
            np.minimum(length[kept], self._max_sequence_length),
            (place + cut.first_event, row + cut.first_row, stop + cut.first_event),
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
