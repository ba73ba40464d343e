"""Who was available when."""

import numpy as np
import pytest

from roomrec.features.as_of import PRODUCT_KIND, ROOM_KIND, AvailabilityTimeline

HOUR = 3_600_000


@pytest.fixture
def evening() -> AvailabilityTimeline:
    """Rooms 10 (0-3 h) and 11 (2-4 h); product 2 in room 10, sold out 1-2 h, and in room 11; product 3 never."""
    rows = [
        (10, 10, 0, 3 * HOUR),
        (11, 11, 2 * HOUR, 4 * HOUR),
        (2, 10, 0, HOUR),
        (2, 10, 2 * HOUR, 3 * HOUR),
        (2, 11, 2 * HOUR, 4 * HOUR),
        (3, 11, 3 * HOUR, 3 * HOUR),
    ]
    return AvailabilityTimeline(*(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)))


@pytest.mark.parametrize(
    ("at_ms", "rooms", "products"),
    [
        (-1, [], []),
        (0, [10], [2]),
        (HOUR, [10], []),
        (2 * HOUR, [10, 11], [2]),
        (3 * HOUR - 1, [10, 11], [2]),
        (3 * HOUR, [11], [2]),
        (4 * HOUR, [], []),
        (400 * HOUR, [], []),
    ],
)
def test_available_at(evening, at_ms, rooms, products):
    assert evening.available_at(at_ms, kind=ROOM_KIND).tolist() == rooms
    assert evening.available_at(at_ms, kind=PRODUCT_KIND).tolist() == products
    everything = np.array([2, 3, 10, 11, 12])
    expected = [item in rooms + products for item in everything.tolist()]
    assert evening.is_available(everything, np.full(5, at_ms)).tolist() == expected


def test_an_end_is_exact_also_between_round_minutes():
    room = np.array([2])
    timeline = AvailabilityTimeline(room, room, np.array([61_001]), np.array([61_503]))
    asked = [61_000, 61_001, 61_502, 61_503]
    assert [timeline.available_at(at_ms, kind=ROOM_KIND).tolist() for at_ms in asked] == [[], [2], [2], []]
    assert timeline.is_available(np.full(4, 2), np.array(asked)).tolist() == [False, True, True, False]
    samples = timeline.sample_available(
        np.array(asked), np.full(4, ROOM_KIND), num_samples=1, rng=np.random.default_rng(0)
    )
    assert samples.tolist() == [[0], [2], [2], [0]]


def test_products_of_one_room(evening):
    assert evening.available_at(int(2.5 * HOUR), kind=PRODUCT_KIND, room_item_index=10).tolist() == [2]
    assert evening.available_at(int(3.5 * HOUR), kind=PRODUCT_KIND, room_item_index=10).tolist() == []
    assert evening.available_at(int(3.5 * HOUR), kind=PRODUCT_KIND, room_item_index=11).tolist() == [2]


def test_samples_are_available_and_uniform(evening):
    rng = np.random.default_rng(7)
    at_ms = np.array([0, 2 * HOUR, 5 * HOUR, HOUR, 2 * HOUR])
    kind = np.array([ROOM_KIND, ROOM_KIND, ROOM_KIND, PRODUCT_KIND, 0])
    samples = evening.sample_available(at_ms, kind, num_samples=4_000, rng=rng)
    assert set(samples[0]) == {10}
    assert set(samples[1]) == {10, 11}
    assert abs((samples[1] == 10).mean() - 0.5) < 0.05
    assert not samples[2:].any(), "nothing is live after the end, the product is sold out, and kind 0 is no kind"


def test_samples_in_a_room_are_what_that_room_sells_then(evening):
    at_ms = np.array([0, HOUR, int(2.5 * HOUR), int(3.5 * HOUR), 0, 0])
    room = np.array([10, 10, 11, 10, 0, 99])
    samples = evening.sample_in_room(at_ms, room, num_samples=5, rng=np.random.default_rng(0))
    assert samples.tolist() == [[2] * 5, [0] * 5, [2] * 5, [0] * 5, [0] * 5, [0] * 5]


def test_a_short_life_in_a_crowded_bucket_is_still_drawn():
    rooms = np.arange(2, 202)
    start = np.zeros(200, dtype=np.int64)
    end = np.where(rooms == 2, 500_000, 1)
    timeline = AvailabilityTimeline(rooms, rooms, start, end)
    samples = timeline.sample_available(
        np.array([400_000]), np.array([ROOM_KIND]), num_samples=50, rng=np.random.default_rng(0)
    )
    assert samples.tolist() == [[2] * 50]


def test_an_empty_timeline_has_nothing():
    nothing = np.empty(0, dtype=np.int64)
    timeline = AvailabilityTimeline(nothing, nothing, nothing, nothing)
    assert timeline.available_at(0, kind=ROOM_KIND).tolist() == []
    assert timeline.is_available(np.array([2]), np.array([0])).tolist() == [False]
    samples = timeline.sample_available(
        np.array([0]), np.array([ROOM_KIND]), num_samples=2, rng=np.random.default_rng(0)
    )
    assert samples.tolist() == [[0, 0]]


def test_lengths_must_agree():
    one, two = np.zeros(1, dtype=np.int64), np.zeros(2, dtype=np.int64)
    with pytest.raises(ValueError, match="lengths 1, 1, 1, 2"):
        AvailabilityTimeline(one, one, one, two)
