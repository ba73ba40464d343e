"""Order of batches."""

import numpy as np
import pytest

from roomrec.batches.sampler import LengthBuckets


def test_every_example_is_drawn_once_an_epoch():
    buckets = LengthBuckets(np.arange(10), batch_size=3, seed=0)
    drawn = np.concatenate([buckets.batch(0, step) for step in range(4)])
    assert len(buckets) == 4
    assert sorted(drawn) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_batch_depends_only_on_seed_epoch_and_step():
    length = np.arange(100) % 7
    read_through = LengthBuckets(length, batch_size=8, seed=3)
    wanted = [read_through.batch(epoch, step) for epoch in range(2) for step in range(13)]
    at_once = LengthBuckets(length, batch_size=8, seed=3).batch(1, 5)
    np.testing.assert_array_equal(at_once, wanted[13 + 5])


def test_seeds_and_epochs_differ():
    length = np.ones(1000, dtype=np.int64)
    one = LengthBuckets(length, batch_size=100, seed=0)
    other = LengthBuckets(length, batch_size=100, seed=1)
    assert one.batch(0, 0).tolist() != other.batch(0, 0).tolist()
    assert one.batch(0, 0).tolist() != one.batch(1, 0).tolist()


def test_lengths_in_a_batch_are_alike():
    length = np.random.default_rng(0).integers(1, 101, size=4000)
    buckets = LengthBuckets(length, batch_size=40, seed=0)
    spread = [np.ptp(length[buckets.batch(0, step)]) for step in range(len(buckets))]
    assert max(spread) <= 5


@pytest.mark.parametrize(("length", "batch_size"), [([], 4), ([1], 0)])
def test_nothing_to_batch_is_refused(length, batch_size):
    with pytest.raises(ValueError, match=r"length is empty|batch_size"):
        LengthBuckets(np.array(length, dtype=np.int64), batch_size=batch_size, seed=0)
