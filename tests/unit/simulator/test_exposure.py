"""The logging policy shows live rooms with the propensity it writes down."""

import numpy as np
import pytest

from roomrec.simulator.exposure import live_minutes, show_slates
from roomrec.simulator.rows import of_type

MINUTE_MS = 60_000
DAY_START_MS = 1_767_225_600_000


@pytest.fixture(scope="module")
def two_rooms(tiny_world):
    """Rooms 0 and 1 of day 0: one from minute 600, one from minute 610, both to minute 700."""
    rooms = tiny_world.rooms(0)
    start = np.full(len(rooms.streamer), 1_300)
    end = np.full(len(rooms.streamer), 1_301)
    start[:2], end[:2] = [600, 610], 700
    popularity = np.zeros(len(rooms.streamer), dtype=np.float32)
    popularity[1] = np.log(3) / 0.8
    return rooms._replace(
        start_ms=DAY_START_MS + start * MINUTE_MS, end_ms=DAY_START_MS + end * MINUTE_MS, popularity=popularity
    )


@pytest.mark.parametrize(
    ("minute", "rooms"), [(599, []), (600, [0]), (609, [0]), (610, [0, 1]), (698, [0, 1]), (699, []), (700, [])]
)
def test_a_room_can_be_entered_in_whole_minutes_with_one_to_spare(two_rooms, minute, rooms):
    minutes = live_minutes(two_rooms, 0.4)
    assert np.flatnonzero(minutes.live[minute]).tolist() == rooms
    assert minutes.room[minutes.first[minute] : minutes.first[minute + 1]].tolist() == rooms


def test_propensity_mixes_popularity_and_chance(two_rooms):
    minutes = live_minutes(two_rooms, 0.4)
    entries = slice(minutes.first[650], minutes.first[651])
    assert minutes.propensity[entries] == pytest.approx([0.6 * 0.25 + 0.4 * 0.5, 0.6 * 0.75 + 0.4 * 0.5])


def test_slots_are_filled_as_often_as_the_propensity_says(tiny_world, two_rooms):
    rng = np.random.default_rng(0)
    user = np.zeros(20_000, dtype=np.int64)
    at_ms = np.full(20_000, DAY_START_MS + 650 * MINUTE_MS)
    population = tiny_world.population
    _, (shown, _) = show_slates(
        population, two_rooms, live_minutes(two_rooms, 0.4), rng, user=user, at_ms=at_ms, num_requests=0
    )
    assert set(shown.position.tolist()) == {0, 1}
    first = shown.room[of_type(shown, "impression") & (shown.position == 0)]
    assert len(first) == 20_000
    assert np.bincount(first)[:2] / 20_000 == pytest.approx([0.35, 0.65], abs=0.015)
    assert sorted({round(float(value), 3) for value in shown.propensity}) == [0.35, 0.65]
