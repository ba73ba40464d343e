"""Choices follow utilities."""

import numpy as np
import pytest

from roomrec.simulator.truth import all_room_utility, choose, room_utility, sigmoid


def test_choices_follow_the_softmax_of_utilities():
    utility = np.log(np.tile([[3.0, 1.0, 96.0]], (20_000, 1)))
    allowed = np.tile([[True, True, False]], (20_000, 1))
    choice = choose(utility, allowed, np.random.default_rng(0))
    assert np.bincount(choice, minlength=3) / 20_000 == pytest.approx([0.75, 0.25, 0.0], abs=0.01)


def test_where_nothing_is_allowed_nothing_is_chosen():
    assert choose(np.zeros((1, 2)), np.zeros((1, 2), dtype=bool), np.random.default_rng(0)).tolist() == [-1]


def test_chances_from_log_odds():
    assert sigmoid(np.array([0.0, np.log(3), -np.log(9)])).tolist() == pytest.approx([0.5, 0.75, 0.1])


def test_a_favourite_is_worth_its_attachment_from_its_day_on(tiny_world):
    population = tiny_world.population
    viewers = population.viewers
    rooms = tiny_world.rooms(3)
    user = np.arange(400)
    at_ms = np.full(400, rooms.start_ms[0])
    stranger = population._replace(viewers=viewers._replace(attachment=np.zeros_like(viewers.attachment)))
    gained = all_room_utility(population, rooms, user=user, at_ms=at_ms) - all_room_utility(
        stranger, rooms, user=user, at_ms=at_ms
    )
    for viewer in (0, 1, 2):
        expected = np.zeros(len(rooms.streamer))
        for streamer, worth, since in zip(
            viewers.favourite[viewer], viewers.attachment[viewer], viewers.favourite_from_day[viewer], strict=True
        ):
            expected[rooms.streamer == streamer] = worth if since <= 3 else 0
        assert gained[viewer] == pytest.approx(expected, abs=1e-5)


def test_all_rooms_at_once_equal_some_rooms(tiny_world):
    rooms = tiny_world.rooms(2)
    user, at_ms = np.array([3, 9]), np.array([rooms.start_ms[0], rooms.start_ms[1]])
    every = np.tile(np.arange(len(rooms.streamer)), (2, 1))
    assert room_utility(tiny_world.population, rooms, user=user, at_ms=at_ms, room=every) == pytest.approx(
        all_room_utility(tiny_world.population, rooms, user=user, at_ms=at_ms), abs=1e-5
    )
