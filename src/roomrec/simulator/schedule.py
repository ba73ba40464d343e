"""The rooms of one day and what they list: a pure function of the world and the day, past the end of the log too."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.simulator.config import DAY_MS, WorldConfig
from roomrec.simulator.population import Population
from roomrec.simulator.streamers import Products, draw_titles, near
from roomrec.simulator.words import OCCASION_WORDS

MAX_LISTED: Final = 12
"""Most products a room lists."""

PIN_EVERY_MS: Final = 12 * 60_000
"""How often another product is pinned; the first one is pinned after ``FIRST_PIN_MS``."""

FIRST_PIN_MS: Final = 65_000
"""When the first product is pinned, counted from the start of the room."""

STOCK_PER_DAILY_VIEWER: Final = 1.0
"""Median stock of a product, relative to the daily viewers per streamer: about one listing in ten sells out."""

NO_PRODUCT: Final = -1
"""Fills the places of a room that lists fewer products."""

_HOUR_MS = 3_600_000
_LAST_END_MS = DAY_MS - 180_000
_MIN_ROOM_MS = _HOUR_MS
_LISTED_AT_START = 6


class Rooms(NamedTuple):
    """The rooms of one day, R of them, by streamer; a streamer has at most one a day, which ends before midnight."""

    day: int
    """counted from the first day of the world"""
    streamer: npt.NDArray[np.int64]
    """[R] ascending"""
    start_ms: npt.NDArray[np.int64]
    """[R]"""
    end_ms: npt.NDArray[np.int64]
    """[R]"""
    category: npt.NDArray[np.int64]
    """[R]"""
    latent: npt.NDArray[np.float32]
    """[R, D] unit vectors"""
    popularity: npt.NDArray[np.float32]
    """[R] standard deviations"""
    title: list[str]
    """[R]"""
    of_streamer: npt.NDArray[np.int64]
    """[S] the streamer's room, or -1"""
    product: npt.NDArray[np.int64]
    """[R, MAX_LISTED] in order of listing, NO_PRODUCT at the end"""
    listed_ms: npt.NDArray[np.int64]
    """[R, MAX_LISTED]"""
    unlisted_ms: npt.NDArray[np.int64]
    """[R, MAX_LISTED] the end of the room where it is never taken off"""
    stock: npt.NDArray[np.int64]
    """[R, MAX_LISTED] pieces when listed"""
    pinned: npt.NDArray[np.int64]
    """[R, pins] place in ``product`` pinned in each period, -1 for none"""


def rooms_of_day(population: Population, day: int) -> Rooms:
    """Draw the rooms of a day.

    Args:
        population: Who may go live and what they may list.
        day: Counted from the first day; any day from 0.
    """
    config, centroids, streamers, products, _ = population
    rng = np.random.default_rng([config.seed, 101, day])
    day_start = config.start_at_ms + day * DAY_MS
    live = streamers.weekly[:, (day_start // DAY_MS) % 7] ^ (rng.random(len(streamers.hour)) < 0.05)
    live &= streamers.joined_day <= day
    live |= streamers.joined_day == day
    if not live.any():
        live[0] = True
    streamer = np.flatnonzero(live)
    num = len(streamer)
    start = day_start + ((streamers.hour[streamer] + rng.uniform(-0.25, 0.25, size=num)) * _HOUR_MS).astype(np.int64)
    length = (np.clip(rng.gamma(6.0, 0.5, size=num), 1.0, 5.0) * _HOUR_MS).astype(np.int64)
    end = np.minimum(start + np.maximum(length, _MIN_ROOM_MS), day_start + _LAST_END_MS)
    main = rng.random(num) < 0.8
    category = np.where(main, streamers.category[streamer], streamers.second_category[streamer])
    of_streamer = np.full(len(streamers.hour), -1, dtype=np.int64)
    of_streamer[streamer] = np.arange(num)
    product, listed, unlisted, stock = _listings(
        config, products, rng, day=day, of_streamer=of_streamer, start=start, end=end
    )
    occasions = rng.integers(len(OCCASION_WORDS), size=num).tolist()
    return Rooms(
        day=day,
        streamer=streamer,
        start_ms=start,
        end_ms=end,
        category=category,
        latent=near(0.5 * streamers.latent[streamer] + 0.5 * centroids[category], 0.4, rng),
        popularity=(streamers.popularity[streamer] + rng.normal(scale=0.3, size=num)).astype(np.float32),
        title=[
            f"{title} {OCCASION_WORDS[word]}"
            for title, word in zip(draw_titles(category, 3, rng), occasions, strict=True)
        ],
        of_streamer=of_streamer,
        product=product,
        listed_ms=listed,
        unlisted_ms=unlisted,
        stock=stock,
        pinned=_pins(rng, product=product, listed=listed, unlisted=unlisted, start=start, end=end),
    )


def pin_times(rooms: Rooms) -> npt.NDArray[np.int64]:
    """Return when each period of ``rooms.pinned`` begins, ``[R, pins]``."""
    return rooms.start_ms[:, None] + FIRST_PIN_MS + PIN_EVERY_MS * np.arange(rooms.pinned.shape[1])


def _listings(
    config: WorldConfig,
    products: Products,
    rng: np.random.Generator,
    *,
    day: int,
    of_streamer: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], ...]:
    """Which products each room lists, from when to when, and how many pieces there are."""
    num = len(start)
    new_bonus = np.where(products.joined_day == day, 2.0, 0.0)
    key = 0.5 * products.quality + rng.gumbel(size=len(products.quality)) + new_bonus
    sellable = np.flatnonzero((of_streamer[products.streamer] >= 0) & (products.joined_day <= day))
    room = of_streamer[products.streamer[sellable]]
    order = np.lexsort((-key[sellable], room))
    sellable, room = sellable[order], room[order]
    place = np.arange(len(room)) - np.searchsorted(room, room)
    most = rng.integers(6, MAX_LISTED + 1, size=num)
    chosen = place < most[room]
    product = np.full((num, MAX_LISTED), NO_PRODUCT, dtype=np.int64)
    product[room[chosen], place[chosen]] = sellable[chosen]
    length = (end - start)[:, None]
    early = np.sort(rng.integers(0, 55_000, size=product.shape), axis=1)
    late = np.sort((rng.uniform(0.03, 0.6, size=product.shape) * length).astype(np.int64) + 60_000, axis=1)
    listed = start[:, None] + np.where(np.arange(MAX_LISTED) < _LISTED_AT_START, early, late)
    room_end = np.broadcast_to(end[:, None], listed.shape)
    taken_off = (listed + (room_end - listed) * rng.uniform(0.4, 0.95, size=listed.shape)).astype(np.int64)
    unlisted = np.where(rng.random(listed.shape) < 0.15, taken_off, room_end)
    median = config.stock_per_product
    if median is None:
        median = max(
            2, round(STOCK_PER_DAILY_VIEWER * config.num_viewers * config.daily_active_rate / config.num_streamers)
        )
    stock = np.maximum(np.exp(rng.normal(np.log(median), 0.8, size=listed.shape)), 1.0).astype(np.int64)
    return product, listed, unlisted, stock


def _pins(
    rng: np.random.Generator,
    *,
    product: npt.NDArray[np.int64],
    listed: npt.NDArray[np.int64],
    unlisted: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """A product on the list for each period; a room that is over pins nothing."""
    num_pins = int(np.max(end - start) // PIN_EVERY_MS) + 1
    at = start[:, None] + FIRST_PIN_MS + PIN_EVERY_MS * np.arange(num_pins)
    pinnable = (product[:, None] != NO_PRODUCT) & (listed[:, None] < at[:, :, None])
    pinnable &= unlisted[:, None] > at[:, :, None]
    draw = np.where(pinnable, rng.random(pinnable.shape), -1.0)
    pinned = np.argmax(draw, axis=2)
    return np.where(pinnable.any(axis=2) & (at < end[:, None] - 1_000), pinned, -1)
