"""Batches of a sequential model: windows of histories in which every place predicts the next event."""

import numpy as np
import torch

from roomrec.batches.batch import CandidateBatch, SequenceBatch
from roomrec.batches.candidates import collate_candidates
from roomrec.batches.collate import collate_histories, collate_items, lay_out, places_in_batch, round_up_length
from roomrec.batches.negatives import NegativeSampler
from roomrec.batches.sampler import Examples, LengthBuckets
from roomrec.errors import DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.histories import Histories, block_bounds, cut_block
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

    batch_type = SequenceBatch
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
        self._negatives = negatives
        self._seed = seed
        self._max_sequence_length = max_sequence_length
        windows = WindowBlocks(histories, max_sequence_length=max_sequence_length)
        if not windows.counts.sum():
            raise DatasetError(NOTHING_TO_LEARN)
        self._buckets = LengthBuckets(windows, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return len(self._buckets)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        """Return one batch.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        row, start, stop = self._buckets.batch(epoch, step)
        stretches = lay_out(start, stop - 1)
        length = round_up_length(int(stretches.length.max()), at_most=self._max_sequence_length)
        follower = stretches.place + 1
        has_target = train_targets(self._histories, follower)
        follower = follower[has_target]
        positive = self._histories.item_index[follower].astype(np.int64)
        rng = np.random.default_rng((self._seed, epoch, step))
        room = self._histories.room_item_index[follower].astype(np.int64)
        negatives = self._negatives.sample(positive, self._histories.occurred_at_ms[follower], room, rng)
        distinct, candidates = collate_candidates(positive, negatives)
        return SequenceBatch(
            history=collate_histories(self._histories, row=row, start=start, stop=stop - 1, pad_right_to=length),
            target_place=torch.from_numpy(places_in_batch(stretches, pad_right_to=length)[has_target]),
            items=collate_items(self._items, distinct),
            candidates=candidates,
        )


class WindowBlocks:
    """The windows of all training histories, cut when they are asked for; columns are those of ``Windows``.

    Args:
        histories: Everybody's events.
        max_sequence_length: L, the most inputs of a window.
    """

    def __init__(self, histories: Histories, *, max_sequence_length: int) -> None:
        self._histories = histories
        self._max_sequence_length = max_sequence_length
        self._bounds = block_bounds(histories.offsets)
        self.counts = np.array([len(self.block(number).length) for number in range(len(self._bounds) - 1)])

    def block(self, number: int) -> Examples:
        """Return the windows of a block, users in order."""
        cut = cut_block(self._histories, int(self._bounds[number]), int(self._bounds[number + 1]))
        windows = with_targets(
            cut_windows(
                cut.histories.offsets[:-1],
                train_stops(cut.histories),
                max_sequence_length=self._max_sequence_length,
            ),
            train_targets(cut.histories),
        )
        length = windows.stop - windows.start
        return Examples(
            length, (windows.row + cut.first_row, windows.start + cut.first_event, windows.stop + cut.first_event)
        )
