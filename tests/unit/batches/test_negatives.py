"""Samplers of negatives."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from roomrec.batches.negatives import (
    AvailableNegatives,
    InBatchNegatives,
    MixedNegatives,
    PopularityNegatives,
    UniformNegatives,
    count_targets,
)
from roomrec.features.as_of import AvailabilityTimeline
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop

LIVE_EVENING_MS = 1_767_225_600_000 + 19 * 3_600_000 + 60_000  # day 0, 19:01: rooms 2, 3 and 4 of items 2.. are live


@pytest.fixture(scope="module")
def shop(markov_dataset) -> ProcessedDataset:
    return ProcessedDataset.open(markov_dataset)


@pytest.fixture(scope="module")
def live(live_dataset) -> ProcessedDataset:
    return ProcessedDataset.open(live_dataset)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_uniform_draws_every_known_item_equally_often_and_nothing_else(shop):
    sampler, moment, generator = UniformNegatives(dataset=shop, num_negatives=10), np.array([0]), rng()
    drawn = [sampler.sample(np.array([2]), moment, moment, generator).item for _ in range(1_200)]
    items, counts = np.unique(np.concatenate(drawn), return_counts=True)
    assert items.tolist() == list(range(2, 14))
    assert counts.min() > 880
    assert counts.max() < 1120


def test_uniform_offers_every_item_once_where_there_are_no_more(shop):
    drawn = UniformNegatives(dataset=shop, num_negatives=12).sample(np.array([2]), np.array([0]), np.array([0]), rng())
    assert drawn.item.tolist() == list(range(2, 14))
    assert drawn.real is None
    assert drawn.sampling_rate == 1.0


def test_accidental_hits_do_not_count(shop):
    drawn = UniformNegatives(dataset=shop, num_negatives=11).sample(
        np.array([2, 5]), np.array([0, 0]), np.array([0, 0]), rng()
    )
    assert drawn.item.shape == (11,)
    assert drawn.real.shape == (2, 11)
    assert drawn.sampling_rate == pytest.approx(11 / 12)
    assert (drawn.real[0] == (drawn.item != 2)).all()
    assert (drawn.real[1] == (drawn.item != 5)).all()


def test_popularity_draws_by_count_and_says_at_which_rate(shop):
    sampler = PopularityNegatives(dataset=shop, num_negatives=100_000, exponent=1.0)
    drawn = sampler.sample(np.array([2]), np.array([0]), np.array([0]), rng())
    share = np.bincount(drawn.item, minlength=14) / 100_000
    counts = count_targets(shop)
    np.testing.assert_allclose(share, counts / counts.sum(), atol=0.005)
    first = drawn.item[0]
    assert np.exp(drawn.negative_log_q[0]) == pytest.approx(counts[first] / counts.sum(), rel=1e-5)


def test_available_draws_only_what_was_live_then(live):
    sampler = AvailableNegatives(dataset=live, num_negatives=40, num_room_negatives=0, otherwise=None)
    hour = 3_600_000
    drawn = sampler.sample(
        np.array([2, 5]), np.array([LIVE_EVENING_MS, LIVE_EVENING_MS + hour]), np.array([2, 5]), rng()
    )
    assert drawn.item.shape == (2, 40)
    assert set(drawn.item[0]) == {2, 3, 4}
    assert set(drawn.item[1]) == {5, 6, 7}
    assert (drawn.real[0] == (drawn.item[0] != 2)).all()


def test_a_product_chosen_in_a_room_meets_its_neighbours():
    """Items 2 and 3 are sold in room 10, 4 and 5 in room 11, all the time."""
    kind = np.array([0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1], dtype=np.int8)
    sold = np.array([[2, 10], [3, 10], [4, 11], [5, 11], [10, 10], [11, 11]])
    timeline = AvailabilityTimeline(sold[:, 0], sold[:, 1], np.zeros(6, np.int64), np.full(6, 1_000))
    dataset = SimpleNamespace(items=SimpleNamespace(kind=kind), availability=timeline, knows_availability=True)
    sampler = AvailableNegatives(dataset=dataset, num_negatives=60, num_room_negatives=20, otherwise=None)
    drawn = sampler.sample(np.array([2, 4, 2, 10]), np.full(4, 5), np.array([10, 11, 0, 10]), rng())
    assert set(drawn.item[0, :20]) == {2, 3}
    assert set(drawn.item[1, :20]) == {4, 5}
    assert set(drawn.item[0, 20:]) == set(drawn.item[2]) == {2, 3, 4, 5}
    assert set(drawn.item[3]) == {10, 11}
    with pytest.raises(ValueError, match="num_room_negatives is 9"):
        AvailableNegatives(dataset=dataset, num_negatives=4, num_room_negatives=9, otherwise=None)


def test_available_falls_back_in_a_log_without_times(shop):
    otherwise = partial(UniformNegatives, num_negatives=9)
    sampler = AvailableNegatives(dataset=shop, num_negatives=4, num_room_negatives=1, otherwise=otherwise)
    assert sampler.sample(np.array([2, 3]), np.array([0, 0]), np.array([0, 0]), rng()).item.shape == (9,)


def test_in_batch_offers_the_positives_to_each_other(shop):
    drawn = InBatchNegatives(dataset=shop, num_negatives=10).sample(
        np.array([2, 5, 2]), np.zeros(3), np.zeros(3), rng()
    )
    assert drawn.item.tolist() == [2, 5, 2]
    assert drawn.real.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    assert drawn.positive_log_q.tolist() == drawn.negative_log_q.tolist()


def test_mixed_offers_draws_and_positives_at_the_rate_of_both(tmp_path):
    # Training targets are products 0, 0, 0 and 1 of four, items 2, 2, 2 and 3 of 2 to 5.
    shop = ProcessedDataset.open(write_shop(tmp_path / "shop", [[0, 0, 3, 3], [0, 1, 2, 2]], num_products=4))
    positive, moment = np.array([2, 3]), np.array([0, 0])
    drawn = MixedNegatives(dataset=shop, num_negatives=4, uniform_share=0.5).sample(positive, moment, moment, rng())
    assert drawn.item.shape == (4,)
    assert drawn.item[2:].tolist() == [2, 3]
    assert set(drawn.item[:2]) <= {2, 3, 4, 5}
    # Half by a quarter each, half by count: item 2 comes at 1/8 + 3/8, item 3 at 1/8 + 1/8.
    np.testing.assert_allclose(drawn.positive_log_q, np.log([0.5, 0.25]), rtol=1e-6)
    np.testing.assert_allclose(drawn.negative_log_q[2:], np.log([0.5, 0.25]), rtol=1e-6)
    assert (drawn.real == (drawn.item != positive[:, None])).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_mixture_needs_both(shop, share):
    with pytest.raises(ValueError, match=f"uniform_share is {share}"):
        MixedNegatives(dataset=shop, num_negatives=4, uniform_share=share)


def test_in_batch_leaves_out_rooms_of_another_hour(live):
    hour = 3_600_000
    at_ms = np.array([LIVE_EVENING_MS, LIVE_EVENING_MS, LIVE_EVENING_MS + hour])
    drawn = InBatchNegatives(dataset=live, num_negatives=10).sample(
        np.array([2, 3, 5]), at_ms, np.array([2, 3, 5]), rng()
    )
    assert drawn.real.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
