"""Tastes drift slowly, moods last hours, and both are functions of time."""

import numpy as np
import pytest

from roomrec.simulator.viewers import MOOD_MS, moods, tastes


def test_tastes_are_unit_vectors_that_turn_by_the_same_angle_every_day(tiny_world):
    viewers = tiny_world.population.viewers._replace(turn_per_day=np.full(440, np.pi / 6, dtype=np.float32))
    user = np.array([5, 5, 5])
    taste = tastes(viewers, user, np.array([0, 2, 3]))
    assert np.linalg.norm(taste, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert taste[0] @ taste.T == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)


def test_a_mood_lasts_three_hours(tiny_world):
    viewers = tiny_world.population.viewers._replace(mood_offset_ms=np.zeros(440, dtype=np.int64))
    user = np.zeros(3, dtype=np.int64)
    start = 600_000 * MOOD_MS
    first, same, _ = moods(viewers, user, np.array([start, start + MOOD_MS - 1, start + MOOD_MS]), seed=3)
    assert first == same


def test_moods_are_preferred_categories_the_best_most_often(tiny_world):
    viewers = tiny_world.population.viewers
    user = np.full(8_000, 7)
    mood = moods(viewers, user, np.arange(8_000) * MOOD_MS, seed=3)
    shares = [np.mean(mood == category) for category in viewers.preferred[7]]
    assert shares == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.02)


def test_moods_of_two_viewers_are_unrelated(tiny_world):
    viewers = tiny_world.population.viewers._replace(preferred=np.tile(np.arange(4), (440, 1)))
    at_ms = np.arange(4_000) * MOOD_MS
    one, two = (moods(viewers, np.full(4_000, user), at_ms, seed=3) for user in (1, 2))
    assert np.mean(one == two) == pytest.approx(0.4**2 + 0.3**2 + 0.2**2 + 0.1**2, abs=0.04)


def test_few_streamers_are_everybodys_favourites():
    from roomrec.simulator.config import WorldConfig
    from roomrec.simulator.population import make_population

    viewers = make_population(WorldConfig(num_days=1, num_viewers=5, num_streamers=2)).viewers
    assert viewers.favourite.shape == (5, 6)
    assert set(viewers.favourite.ravel().tolist()) == {0, 1}
