"""Viewers: what they like, how that drifts, whom they come back to, and what they are in the mood for."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.simulator.config import WorldConfig
from roomrec.simulator.streamers import Streamers, near, newcomers, unit
from roomrec.simulator.words import DEVICES, REGIONS

NUM_FAVOURITES: Final = 6
"""Streamers a viewer is attached to."""

MOOD_MS: Final = 3 * 3_600_000
"""A mood lasts this long, so most sessions have one mood and some have two."""

PREFERENCE_SHARES: Final = np.array([0.4, 0.3, 0.2, 0.1])
"""How often a viewer is in the mood for each of four preferred categories."""

_CHUNK = 4_096


class Viewers(NamedTuple):
    """All viewers that ever appear, U of them, by number. Tastes and moods are functions of time, not state."""

    joined_day: npt.NDArray[np.int64]
    """[U] first day on the platform"""
    preferred: npt.NDArray[np.int64]
    """[U, 4] categories, best first"""
    taste_from: npt.NDArray[np.float32]
    """[U, D] the taste on day 0"""
    taste_to: npt.NDArray[np.float32]
    """[U, D] orthogonal to it: where the taste turns to"""
    turn_per_day: npt.NDArray[np.float32]
    """[U] radians"""
    mood_offset_ms: npt.NDArray[np.int64]
    """[U] when in the MOOD_MS cycle the mood changes"""
    favourite: npt.NDArray[np.int64]
    """[U, F] streamers"""
    attachment: npt.NDArray[np.float32]
    """[U, F] what a favourite adds to the utility of a room"""
    favourite_from_day: npt.NDArray[np.int64]
    """[U, F] first day of the attachment"""
    activity: npt.NDArray[np.float64]
    """[U] chance of coming on a day"""
    hour: npt.NDArray[np.float64]
    """[U] usual hour of the evening session"""
    spending: npt.NDArray[np.float32]
    """[U] standard deviations: readiness to buy"""
    region: npt.NDArray[np.int64]
    """[U]"""
    device: npt.NDArray[np.int64]
    """[U]"""


def make_viewers(
    config: WorldConfig, streamers: Streamers, centroids: npt.NDArray[np.float32], rng: np.random.Generator
) -> Viewers:
    """Draw the viewers of a world, those of the first day first."""
    joined_day = newcomers(config.num_viewers, config.new_viewer_rate, config)
    num = len(joined_day)
    preferred = np.argsort(rng.gumbel(size=(num, config.num_categories)), axis=1)[:, ::-1][:, :4]
    wishes = centroids[preferred]
    taste_from = near(np.einsum("k,ukd->ud", PREFERENCE_SHARES, wishes), 0.35, rng)
    aim = near(np.einsum("k,ukd->ud", PREFERENCE_SHARES[::-1], wishes), 0.35, rng)
    taste_to = unit(aim - np.sum(aim * taste_from, axis=1, keepdims=True) * taste_from)
    favourite = _draw_favourites(taste_from, streamers, rng)
    discovered = rng.integers(0, 20, size=favourite.shape)
    discovered[:, :3] = 0
    spread = 0.7
    return Viewers(
        joined_day=joined_day,
        preferred=preferred,
        taste_from=taste_from,
        taste_to=taste_to,
        turn_per_day=rng.normal(scale=config.taste_drift, size=num).astype(np.float32),
        mood_offset_ms=rng.integers(MOOD_MS, size=num),
        favourite=favourite,
        attachment=rng.uniform(2.5, 5.5, size=favourite.shape).astype(np.float32),
        favourite_from_day=np.maximum(joined_day[:, None] + discovered, streamers.joined_day[favourite]),
        activity=np.clip(config.daily_active_rate * np.exp(spread * rng.normal(size=num) - spread**2 / 2), 0.01, 0.95),
        hour=rng.normal(20.0, 1.2, size=num),
        spending=rng.normal(size=num).astype(np.float32),
        region=rng.integers(len(REGIONS), size=num),
        device=rng.integers(len(DEVICES), size=num),
    )


def tastes(viewers: Viewers, user: npt.NDArray[np.int64], day: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the taste of each viewer on each day, unit vectors ``[n, D]``."""
    angle = (viewers.turn_per_day[user] * day)[:, None]
    turned = np.cos(angle) * viewers.taste_from[user] + np.sin(angle) * viewers.taste_to[user]
    return np.asarray(turned, dtype=np.float32)


def moods(
    viewers: Viewers, user: npt.NDArray[np.int64], at_ms: npt.NDArray[np.int64], *, seed: int
) -> npt.NDArray[np.int64]:
    """Return the category each viewer is in the mood for at each instant, ``[n]``."""
    block = (at_ms + viewers.mood_offset_ms[user]) // MOOD_MS
    draw = _hash_uniform(user.astype(np.uint64), block.astype(np.uint64), seed)
    place = np.searchsorted(np.cumsum(PREFERENCE_SHARES)[:-1], draw, side="right")
    return viewers.preferred[user, place]


def _hash_uniform(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]:
    """Uniform [0, 1) from two numbers and the seed (splitmix64): random access without keeping a state."""
    mixed = (first << np.uint64(32)) ^ second ^ (np.uint64(seed % 2**31) << np.uint64(17))
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed.astype(np.float64) / 2.0**64


def _draw_favourites(
    taste: npt.NDArray[np.float32], streamers: Streamers, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Streamers close to the taste, popular ones more often; fewer streamers than favourites repeat."""
    rows = []
    for start in range(0, len(taste), _CHUNK):
        chunk = taste[start : start + _CHUNK]
        score = 4.0 * chunk @ streamers.latent.T + 0.7 * streamers.popularity
        # minus the log of an exponential is Gumbel noise: the best six are a draw without replacement
        score -= np.log(np.maximum(rng.standard_exponential(score.shape, dtype=np.float32), 1e-30))
        best = min(NUM_FAVOURITES, score.shape[1])
        rows.append(np.argpartition(-score, best - 1, axis=1)[:, :best])
    favourite = np.concatenate(rows).astype(np.int64)
    if favourite.shape[1] < NUM_FAVOURITES:
        favourite = np.resize(favourite.T, (NUM_FAVOURITES, len(taste))).T
    return np.ascontiguousarray(favourite)
