"""What a viewer truly likes: the utility that every simulated choice follows."""

from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.simulator.population import Population
from roomrec.simulator.schedule import Rooms
from roomrec.simulator.viewers import NUM_FAVOURITES, moods, tastes

TASTE_WEIGHT: Final = 3.0
"""Utility of a room or product that fits the taste exactly."""

MOOD_WEIGHT: Final = 3.2
"""Utility of the category the viewer is in the mood for."""

POPULARITY_WEIGHT: Final = 0.5
"""Utility of one standard deviation of a room's popularity."""

QUALITY_WEIGHT: Final = 0.6
"""Utility of one standard deviation of a product's quality."""

PRICE_WEIGHT: Final = 0.4
"""Utility lost when a price is e times the typical 30.00."""

TYPICAL_UTILITY: Final = 2.0
"""Utility of a room that a viewer would typically enter: behaviour is scaled around it."""

_TYPICAL_PRICE_CENTS = 3_000.0


def room_utility(
    population: Population,
    rooms: Rooms,
    *,
    user: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
    room: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return the utility of some rooms to each viewer.

    Args:
        population: The world's population.
        rooms: The rooms of the day.
        user: Viewers ``[n]``.
        at_ms: Instants ``[n]``.
        room: Rooms by number in ``rooms``, ``[n, k]``.

    Returns:
        ``[n, k]`` float32.
    """
    viewers = population.viewers
    day = population.day_of(at_ms)
    taste = tastes(viewers, user, day)
    utility = TASTE_WEIGHT * np.einsum("nd,nkd->nk", taste, rooms.latent[room])
    utility += POPULARITY_WEIGHT * rooms.popularity[room]
    mood = moods(viewers, user, at_ms, seed=population.config.seed)
    utility += MOOD_WEIGHT * (rooms.category[room] == mood[:, None])
    attachment = np.where(viewers.favourite_from_day[user] <= day[:, None], viewers.attachment[user], 0)
    streamer = rooms.streamer[room]
    for place in range(NUM_FAVOURITES):
        utility += attachment[:, place, None] * (streamer == viewers.favourite[user, place, None])
    return np.asarray(utility, dtype=np.float32)


def all_room_utility(
    population: Population,
    rooms: Rooms,
    *,
    user: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return the utility of every room of the day to each viewer, ``[n, R]`` float32, live or not."""
    viewers = population.viewers
    day = population.day_of(at_ms)
    utility = TASTE_WEIGHT * (tastes(viewers, user, day) @ rooms.latent.T)
    utility += POPULARITY_WEIGHT * rooms.popularity
    mood = moods(viewers, user, at_ms, seed=population.config.seed)
    utility += np.float32(MOOD_WEIGHT) * (rooms.category == mood[:, None])
    for place in range(NUM_FAVOURITES):
        favourite_room = rooms.of_streamer[viewers.favourite[user, place]]
        attached = np.flatnonzero((favourite_room >= 0) & (viewers.favourite_from_day[user, place] <= day))
        utility[attached, favourite_room[attached]] += viewers.attachment[user[attached], place]
    return np.asarray(utility, dtype=np.float32)


def product_utility(
    population: Population,
    *,
    user: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
    product: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return the utility of some products to each viewer, ``[n, k]`` float32; arguments as ``room_utility``."""
    viewers = population.viewers
    taste = tastes(viewers, user, population.day_of(at_ms))
    utility = TASTE_WEIGHT * np.einsum("nd,nkd->nk", taste, population.products.latent[product])
    utility += QUALITY_WEIGHT * population.products.quality[product]
    utility -= PRICE_WEIGHT * np.log(population.products.price_cents[product] / _TYPICAL_PRICE_CENTS)
    mood = moods(viewers, user, at_ms, seed=population.config.seed)
    utility += MOOD_WEIGHT * (population.products.category[product] == mood[:, None])
    return np.asarray(utility, dtype=np.float32)


def choose(
    utility: npt.NDArray[np.floating], allowed: npt.NDArray[np.bool_], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw one place of each row from the softmax of its utilities over the allowed places; -1 if none is allowed."""
    best = np.max(utility, axis=1, keepdims=True, initial=-np.inf, where=allowed)
    weight = np.exp(np.where(allowed, utility - np.where(np.isfinite(best), best, 0), -np.inf))
    total = np.cumsum(weight, axis=1, dtype=np.float64)
    # a little below 1, so that rounding cannot lead past the last allowed place
    draw = rng.random((len(utility), 1)) * (1 - 1e-12) * total[:, -1:]
    return np.where(allowed.any(axis=1), np.argmax(total > draw, axis=1), -1)


def sigmoid(log_odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn log-odds into chances."""
    return 1.0 / (1.0 + np.exp(-log_odds))
