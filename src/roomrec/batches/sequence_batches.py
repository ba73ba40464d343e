"""Batches of a sequential model: windows of histories in which every place predicts the next event."""

import numpy as np
import torch

from roomrec.batches.batch import SequenceBatch
from roomrec.batches.candidates import collate_candidates
from roomrec.batches.collate import collate_histories, collate_items, lay_out, left_padded_places
from roomrec.batches.negatives import NegativeSampler
from roomrec.batches.sampler import LengthBuckets
from roomrec.errors import DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.windows import NOTHING_TO_LEARN, cut_windows, train_stops, train_targets, with_targets


class SequenceBatches:
    """The training batches of a sequential model, each a pure function of seed, epoch and step.

    The dataset shifts; the model and the loss never do.

    Args:
        dataset: What to learn from.
        negatives: Where negatives come from.
        max_sequence_length: L, the most inputs of a window.
        batch_size: Windows of a batch.
        seed: Fixes order and negatives.

    Raises:
        DatasetError: If no training event follows another.
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
        self._negatives = negatives
        self._seed = seed
        self._target = train_targets(histories)
        windows = cut_windows(histories.offsets[:-1], train_stops(histories), max_sequence_length=max_sequence_length)
        self._windows = with_targets(windows, self._target)
        if not len(self._windows.row):
            raise DatasetError(NOTHING_TO_LEARN)
        self._buckets = LengthBuckets(self._windows.stop - self._windows.start, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return len(self._buckets)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """Return one batch.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        chosen = self._buckets.batch(epoch, step)
        row, start, stop = (column[chosen] for column in self._windows)
        stretches = lay_out(start, stop - 1)
        follower = stretches.place + 1
        has_target = self._target[follower]
        follower = follower[has_target]
        positive = self._histories.item_index[follower].astype(np.int64)
        rng = np.random.default_rng((self._seed, epoch, step))
        room = self._histories.room_item_index[follower].astype(np.int64)
        negatives = self._negatives.sample(positive, self._histories.occurred_at_ms[follower], room, rng)
        distinct, candidates = collate_candidates(positive, negatives)
        return SequenceBatch(
            history=collate_histories(self._histories, row=row, start=start, stop=stop - 1),
            target_place=torch.from_numpy(left_padded_places(stretches)[has_target]),
            items=collate_items(self._items, distinct),
            candidates=candidates,
        )
