"""Streamers and their products: who sells what, how well liked it is, and since when."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.events.schema import ATTRIBUTE_SEPARATOR
from roomrec.simulator.config import SPARE_DAYS, WorldConfig
from roomrec.simulator.words import CATEGORY_WORDS, REGIONS, STYLE_WORDS

LATENT_DIM: Final = 16
"""Length of every taste and item vector."""

_TYPICAL_HOURS = np.array([9, 11, 13, 15, 17, 18, 19, 20])
_HOUR_SHARES = np.array([0.07, 0.08, 0.08, 0.08, 0.14, 0.22, 0.23, 0.10])
_MIN_CATALOGUE = 6
_NUM_STYLES = 3


class Streamers(NamedTuple):
    """All streamers that ever appear, S of them, by number."""

    joined_day: npt.NDArray[np.int64]
    """[S] first day on which the streamer may start a room"""
    category: npt.NDArray[np.int64]
    """[S] what most rooms are about"""
    second_category: npt.NDArray[np.int64]
    """[S] what the other rooms are about"""
    latent: npt.NDArray[np.float32]
    """[S, D] unit vectors"""
    popularity: npt.NDArray[np.float32]
    """[S] standard deviations from the mean"""
    weekly: npt.NDArray[np.bool_]
    """[S, 7] weekdays with a room"""
    hour: npt.NDArray[np.float64]
    """[S] usual hour of the start"""
    region: npt.NDArray[np.int64]
    """[S]"""


class Products(NamedTuple):
    """All products that ever appear, P of them, ordered by streamer."""

    joined_day: npt.NDArray[np.int64]
    """[P] first day on which the product may be listed"""
    streamer: npt.NDArray[np.int64]
    """[P] ascending: one streamer sells a product"""
    category: npt.NDArray[np.int64]
    """[P]"""
    latent: npt.NDArray[np.float32]
    """[P, D] unit vectors"""
    quality: npt.NDArray[np.float32]
    """[P] standard deviations from the mean"""
    price_cents: npt.NDArray[np.int64]
    """[P]"""
    title: list[str]
    """[P]"""


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scale vectors to length one along the last axis."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def near(centres: npt.NDArray[np.floating], spread: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw unit vectors around centres; ``spread`` is the length of the noise relative to the centre."""
    return unit(centres + rng.normal(scale=spread / np.sqrt(LATENT_DIM), size=centres.shape))


def make_streamers(config: WorldConfig, centroids: npt.NDArray[np.float32], rng: np.random.Generator) -> Streamers:
    """Draw the streamers of a world, those of the first day first."""
    joined_day = newcomers(config.num_streamers, config.new_streamer_rate, config)
    num = len(joined_day)
    category = rng.integers(config.num_categories, size=num)
    second = (category + rng.integers(1, config.num_categories, size=num)) % config.num_categories
    return Streamers(
        joined_day=joined_day,
        category=category,
        second_category=second,
        latent=near(0.8 * centroids[category] + 0.2 * centroids[second], 0.7, rng),
        popularity=rng.normal(size=num).astype(np.float32),
        weekly=rng.random((num, 7)) < rng.uniform(0.5, 1.0, size=(num, 1)),
        hour=rng.choice(_TYPICAL_HOURS, p=_HOUR_SHARES, size=num) + rng.uniform(-0.5, 0.5, size=num),
        region=rng.integers(len(REGIONS), size=num),
    )


def make_products(
    config: WorldConfig, streamers: Streamers, centroids: npt.NDArray[np.float32], rng: np.random.Generator
) -> Products:
    """Draw every streamer's catalogue: what is there when the streamer joins, and what comes later."""
    num_streamers = len(streamers.joined_day)
    initial = np.maximum(rng.poisson(config.products_per_streamer, size=num_streamers), _MIN_CATALOGUE)
    horizon = config.num_days + SPARE_DAYS
    days_left = np.maximum(horizon - streamers.joined_day - 1, 0)
    later = rng.poisson(config.products_per_streamer * config.new_product_rate * days_left)
    streamer = np.repeat(np.arange(num_streamers), initial + later)
    nth = np.arange(len(streamer)) - np.repeat(np.cumsum(initial + later) - (initial + later), initial + later)
    joined = streamers.joined_day[streamer]
    arrival = joined + 1 + np.floor(rng.random(len(streamer)) * days_left[streamer]).astype(np.int64)
    own = rng.random(len(streamer)) < 0.85
    category = np.where(own, streamers.category[streamer], streamers.second_category[streamer])
    typical_price = np.exp(rng.normal(np.log(3_000), 0.6, size=config.num_categories))
    price = typical_price[category] * np.exp(rng.normal(scale=0.5, size=len(streamer)))
    return Products(
        joined_day=np.where(nth < initial[streamer], joined, arrival),
        streamer=streamer,
        category=category,
        latent=near(centroids[category], 0.8, rng),
        quality=rng.normal(size=len(streamer)).astype(np.float32),
        price_cents=np.maximum(price / 100, 1).astype(np.int64) * 100 - 10,
        title=draw_titles(category, 2, rng),
    )


def newcomers(num_first_day: int, daily_rate: float, config: WorldConfig) -> npt.NDArray[np.int64]:
    """Return the day each one joins: 0 for the first ``num_first_day``, then a steady stream, ascending.

    Example:
        >>> newcomers(4, 0.5, WorldConfig(num_days=1, num_viewers=4))[:7]
        array([0, 0, 0, 0, 1, 1, 2])
    """
    horizon = config.num_days + SPARE_DAYS
    so_far = np.floor(num_first_day * daily_rate * np.arange(horizon) + 1e-9).astype(np.int64)
    arriving = np.diff(so_far, prepend=0)
    return np.concatenate([np.zeros(num_first_day, dtype=np.int64), np.repeat(np.arange(horizon), arriving)])


def draw_titles(category: npt.NDArray[np.int64], num_words: int, rng: np.random.Generator) -> list[str]:
    """Draw titles of words typical of each category."""
    words = list(CATEGORY_WORDS.values())
    places = np.argsort(rng.random((len(category), len(words[0]))), axis=1)[:, :num_words]
    return [" ".join(words[c][p] for p in row) for c, row in zip(category.tolist(), places.tolist(), strict=True)]


def styles(latent: npt.NDArray[np.float32]) -> list[str]:
    """Name the directions in which vectors reach furthest, as the attributes of an event.

    It says part of what viewers go by, and more than the category does.

    Args:
        latent: Vectors of rooms or products, shape ``[n, D]``.

    Returns:
        For each vector its ``_NUM_STYLES`` styles, furthest first.

    Example:
        >>> styles(np.array([[0.0, -0.9, 0.3, -0.4]], dtype=np.float32))
        ['firm|machine-made|bright']
    """
    furthest = np.argsort(-np.abs(latent), axis=1, kind="stable")[:, :_NUM_STYLES]
    negative = np.take_along_axis(latent, furthest, axis=1) < 0
    return [
        ATTRIBUTE_SEPARATOR.join(STYLE_WORDS[direction][end] for direction, end in zip(*row, strict=True))
        for row in zip(furthest.tolist(), negative.tolist(), strict=True)
    ]
