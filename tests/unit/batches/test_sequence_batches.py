"""Batches of windows."""

import numpy as np
import pytest
import torch

from roomrec.batches.negatives import UniformNegatives
from roomrec.batches.sequence_batches import SequenceBatches
from roomrec.errors import DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop


def batches(path, users, **kwargs) -> SequenceBatches:
    dataset = ProcessedDataset.open(write_shop(path / "dataset", users, num_products=9))
    negatives = UniformNegatives(dataset=dataset, num_negatives=3)
    return SequenceBatches(dataset=dataset, negatives=negatives, seed=0, **kwargs)


def test_each_place_predicts_the_next_training_event(tmp_path):
    # The last two events of a user are validation and test: training sees products 3, 1, 4 (indices 5, 3, 6).
    source = batches(tmp_path, [[3, 1, 4, 8, 8]], max_sequence_length=5, batch_size=1)
    batch = source.batch(0, 0)
    assert batch.history.product_index.tolist() == [[5, 3]]
    assert batch.target_place.tolist() == [0, 1]
    items = batch.items.product[:, 0][batch.candidates.positive]
    assert items.tolist() == [3, 6]


def test_long_histories_become_windows_that_share_one_event(tmp_path):
    source = batches(tmp_path, [[0, 1, 2, 3, 4, 8, 8]], max_sequence_length=3, batch_size=2)
    batch = source.batch(0, 0)
    rows = sorted(batch.history.product_index.tolist())
    assert rows == [[2, 0, 0], [3, 4, 5]]
    assert sorted(batch.items.product[:, 0][batch.candidates.positive].tolist()) == [3, 4, 5, 6]


def test_a_batch_is_the_same_however_it_is_reached(tmp_path):
    users = np.random.default_rng(0).integers(9, size=(20, 8)).tolist()
    source = batches(tmp_path, users, max_sequence_length=4, batch_size=4)
    first = source.batch(1, 3)
    source.batch(0, 0)
    again = source.batch(1, 3)
    for one, other in zip(first.history + first.candidates[:5], again.history + again.candidates[:5], strict=True):
        assert torch.equal(one, other)


def test_users_with_one_training_event_are_not_enough(tmp_path):
    with pytest.raises(DatasetError, match="train split has no user"):
        batches(tmp_path, [[1, 2, 3], [4, 5, 6]], max_sequence_length=4, batch_size=4)
