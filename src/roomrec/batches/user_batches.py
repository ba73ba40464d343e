"""Batches of whole users: everything a user chose in training is his target at once.

Legend: B users, E positives, C items, N negatives.
"""

import numpy as np
import torch

from roomrec.batches.batch import ChosenItems, TwoTowerBatch
from roomrec.batches.collate import lay_out
from roomrec.batches.jagged import join_users_and_items
from roomrec.batches.negatives import NegativeSampler, known_items
from roomrec.batches.sampler import Examples, LengthBuckets
from roomrec.errors import ConfigurationError, DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.histories import Histories, block_bounds, cut_block
from roomrec.sequences.windows import NOTHING_TO_LEARN, train_stops, train_targets


class UserBatches:
    """The training batches of a model with user ids, each a pure function of seed, epoch and step.

    Items that one user chose share their softmax denominator, so a log of many events a user costs as little as one of
    as many users. The history is all that the user has in the train split, targets included: what a target says of its
    user is in his own vector anyway.

    Args:
        dataset: What to learn from.
        negatives: Where the items of the denominator come from: a sampler whose draw everybody shares.
        max_sequence_length: L, the most events of a history, the newest.
        batch_size: Users of a batch.
        seed: Fixes order and negatives.

    Raises:
        ConfigurationError: If the sampler draws for each positive by itself.
        DatasetError: If no user has a target, or not every item could have been chosen wherever another was.
    """

    batch_type = TwoTowerBatch
    candidates_type = ChosenItems

    def __init__(
        self,
        *,
        dataset: ProcessedDataset,
        negatives: NegativeSampler,
        max_sequence_length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        if not negatives.shared:
            raise ConfigurationError(
                "batches of whole users compare everybody with the same items, and these negatives depend on the "
                "positive: choose negatives=uniform or negatives=popularity, or a model with one target an example "
                "(model=two_tower or model=sasrec, with batches of their own)"
            )
        kinds = np.unique(dataset.items.kind[known_items(dataset.items)])
        if dataset.knows_availability or len(kinds) > 1:
            has = "knows what was available when" if dataset.knows_availability else "has rooms beside products"
            raise DatasetError(
                "batches of whole users compare everybody with the same items, whenever and wherever, but the log "
                f"{has}: choose model=two_tower or model=sasrec, with batches of their own"
            )
        self._histories = dataset.histories
        self._items = dataset.items
        self._negatives = negatives
        self._max_sequence_length = max_sequence_length
        self._seed = seed
        users = UserBlocks(dataset.histories)
        if not users.counts.sum():
            raise DatasetError(NOTHING_TO_LEARN)
        self._buckets = LengthBuckets(users, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return len(self._buckets)

    def batch(self, epoch: int, step: int) -> TwoTowerBatch:
        """Return one batch.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        histories = self._histories
        rng = np.random.default_rng((self._seed, epoch, step))
        row, stop = self._buckets.batch(epoch, step)
        events = lay_out(histories.offsets[row], stop)
        chosen = train_targets(histories, events.place)
        of_user, item = events.example[chosen], histories.item_index[events.place[chosen]].astype(np.int64)
        someone = events.place[chosen][:1]  # what is shared is drawn for any one of them
        negatives = self._negatives.sample(
            item[:1], histories.occurred_at_ms[someone], histories.room_item_index[someone].astype(np.int64), rng
        )
        distinct, place = np.unique(np.concatenate([item, negatives.item]), return_inverse=True)
        every_item = negatives.real is None
        return TwoTowerBatch(
            features=join_users_and_items(
                histories,
                row=row,
                stretches=lay_out(np.maximum(histories.offsets[row], stop - self._max_sequence_length), stop),
                items=self._items,
                item_index=distinct,
            ),
            num_users=len(row),
            candidates=ChosenItems(
                positive=torch.from_numpy(place[: len(item)]),
                positive_user=torch.from_numpy(of_user),
                negative=None if every_item else torch.from_numpy(place[len(item) :]),
                negative_log_q=None if every_item else torch.from_numpy(negatives.negative_log_q),
            ),
        )


class UserBlocks:
    """All users with a training target; columns: the row, and one past the newest training event.

    Users are not bucketed by length, since nothing is padded: a batch of long histories alone would pull by itself.

    Args:
        histories: Everybody's events.
    """

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._bounds = block_bounds(histories.offsets)
        self.counts = np.array([len(self.block(number).length) for number in range(len(self._bounds) - 1)])

    def block(self, number: int) -> Examples:
        """Return the users of a block, in order."""
        cut = cut_block(self._histories, int(self._bounds[number]), int(self._bounds[number + 1]))
        offsets = cut.histories.offsets
        seen = np.concatenate([[0], np.cumsum(train_targets(cut.histories))])
        row = np.flatnonzero(seen[offsets[1:]] > seen[offsets[:-1]])
        stop = train_stops(cut.histories)[row]
        return Examples(np.zeros(len(row), dtype=np.int64), (row + cut.first_row, stop + cut.first_event))
