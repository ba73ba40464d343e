"""Order of batches."""

import itertools

import numpy as np
import pytest

from roomrec.batches.sampler import Examples, LengthBuckets


class NumberedBlocks:
    """Examples numbered from 0, with given lengths, in blocks of given sizes."""

    def __init__(self, length, counts=None) -> None:
        self._length = np.asarray(length, dtype=np.int64)
        self.counts = np.array([len(self._length)] if counts is None else counts)
        self.asked: list[int] = []

    def block(self, number: int) -> Examples:
        self.asked.append(number)
        stop = int(self.counts[: number + 1].sum())
        numbers = np.arange(stop - self.counts[number], stop)
        return Examples(self._length[numbers], (numbers, numbers * 10))


def drawn(buckets: LengthBuckets, epoch: int) -> list[list[int]]:
    return [buckets.batch(epoch, step)[0].tolist() for step in range(len(buckets))]


@pytest.mark.parametrize("counts", [None, [3, 0, 5, 2]])
def test_every_example_is_drawn_once_an_epoch(counts):
    buckets = LengthBuckets(NumberedBlocks(np.arange(10), counts), batch_size=3, seed=0)
    batches = drawn(buckets, 0)
    assert sorted(map(len, batches)) == [1, 3, 3, 3]
    assert sorted(itertools.chain(*batches)) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_columns_of_a_batch_belong_together():
    buckets = LengthBuckets(NumberedBlocks(np.arange(10), [4, 6]), batch_size=3, seed=0)
    number, tenfold = buckets.batch(0, 1)
    assert (number * 10).tolist() == tenfold.tolist()


def test_a_batch_depends_only_on_seed_epoch_and_step():
    length = np.arange(1000) % 7
    read_through = LengthBuckets(NumberedBlocks(length, [250] * 4), batch_size=4, seed=3, max_pool=200)
    wanted = [drawn(read_through, epoch) for epoch in range(2)]
    at_once = LengthBuckets(NumberedBlocks(length, [250] * 4), batch_size=4, seed=3, max_pool=200)
    assert at_once.batch(1, 130)[0].tolist() == wanted[1][130]
    assert at_once.batch(0, 3)[0].tolist() == wanted[0][3]


def test_how_examples_are_cut_into_blocks_does_not_matter_while_they_fit_in_one_pool():
    length = np.arange(100) % 7
    whole = LengthBuckets(NumberedBlocks(length), batch_size=8, seed=3)
    blocks = LengthBuckets(NumberedBlocks(length, [30, 50, 20]), batch_size=8, seed=3)
    assert drawn(whole, 1) == drawn(blocks, 1)


def test_what_does_not_fit_streams_through_pools():
    # 20 blocks of 100; a pool takes one stretch of fifty batches of four, 200 examples: two blocks, or parts of three.
    blocks = NumberedBlocks(np.ones(2000), [100] * 20)
    buckets = LengthBuckets(blocks, batch_size=4, seed=0, max_pool=1)
    assert len(buckets) == 500
    epochs = [drawn(buckets, epoch) for epoch in range(2)]
    for batches in epochs:
        assert sorted(itertools.chain(*batches)) == list(range(2000))
    assert len(blocks.asked) == 2 * 20
    first_pools = [{number // 100 for batch in batches[:50] for number in batch} for batches in epochs]
    assert [len(blocks_met) for blocks_met in first_pools] == [2, 2]
    assert first_pools[0] != first_pools[1]
    assert epochs[0][0] != sorted(epochs[0][0])


def test_a_pool_may_begin_and_end_inside_blocks():
    blocks = NumberedBlocks(np.ones(1000), [333, 333, 334])
    buckets = LengthBuckets(blocks, batch_size=2, seed=5, max_pool=300)
    assert sorted(itertools.chain(*drawn(buckets, 0))) == list(range(1000))
    assert len(buckets) == 500


def test_seeds_and_epochs_differ():
    blocks = NumberedBlocks(np.ones(1000))
    one = LengthBuckets(blocks, batch_size=100, seed=0)
    other = LengthBuckets(blocks, batch_size=100, seed=1)
    assert one.batch(0, 0)[0].tolist() != other.batch(0, 0)[0].tolist()
    assert one.batch(0, 0)[0].tolist() != one.batch(1, 0)[0].tolist()


def test_lengths_in_a_batch_are_alike():
    length = np.random.default_rng(0).integers(1, 101, size=4000)
    buckets = LengthBuckets(NumberedBlocks(length), batch_size=40, seed=0)
    spread = [np.ptp(length[batch]) for batch in drawn(buckets, 0)]
    assert max(spread) <= 5


@pytest.mark.parametrize(("length", "batch_size"), [([], 4), ([1], 0)])
def test_nothing_to_batch_is_refused(length, batch_size):
    with pytest.raises(ValueError, match=r"hold no example|batch_size"):
        LengthBuckets(NumberedBlocks(length), batch_size=batch_size, seed=0)
