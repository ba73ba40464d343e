"""The truth as tables: what an evaluation may compare a model with, and a model may never see."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from roomrec.simulator.arrow import CATEGORY_NAMES, product_id, room_id, streamer_id, user_id
from roomrec.simulator.config import DAY_MS
from roomrec.simulator.population import Population
from roomrec.simulator.schedule import Rooms
from roomrec.simulator.viewers import tastes


def viewer_truth(population: Population, day: int) -> pa.Table:
    """Return ``day``, ``user_id``, ``taste`` and ``favourites`` (streamers) of all viewers so far."""
    viewers = population.viewers
    user = np.flatnonzero(viewers.joined_day <= day)
    active = viewers.favourite_from_day[user] <= day
    favourites = [
        [streamer_id(streamer) for streamer in np.sort(row[mask]).tolist()]
        for row, mask in zip(viewers.favourite[user], active, strict=True)
    ]
    return pa.table(
        {
            "day": pa.array(np.full(len(user), day)),
            "user_id": [user_id(number) for number in user.tolist()],
            "taste": _vectors(tastes(viewers, user, np.full(len(user), day))),
            "favourites": pa.array(favourites, pa.list_(pa.string())),
        }
    )


def streamer_truth(population: Population) -> pa.Table:
    """Return ``streamer_id``, ``joined_at_ms``, ``category``, ``popularity`` and ``latent`` of every streamer."""
    streamers = population.streamers
    return pa.table(
        {
            "streamer_id": [streamer_id(number) for number in range(len(streamers.hour))],
            "joined_at_ms": population.config.start_at_ms + streamers.joined_day * DAY_MS,
            "category": _category_names(streamers.category),
            "popularity": streamers.popularity,
            "latent": _vectors(streamers.latent),
        }
    )


def product_truth(population: Population) -> pa.Table:
    """Return streamer, ``joined_at_ms``, ``category``, ``price_cents``, ``quality``, ``latent`` of every product."""
    products = population.products
    return pa.table(
        {
            "product_id": [product_id(number) for number in range(len(products.streamer))],
            "streamer_id": [streamer_id(number) for number in products.streamer.tolist()],
            "joined_at_ms": population.config.start_at_ms + products.joined_day * DAY_MS,
            "category": _category_names(products.category),
            "price_cents": products.price_cents,
            "quality": products.quality,
            "latent": _vectors(products.latent),
        }
    )


def room_truth(rooms: Rooms) -> pa.Table:
    """Return ``room_id``, ``streamer_id``, ``start_at_ms``, ``end_at_ms``, ``category``, ``popularity``, ``latent``."""
    streamer = rooms.streamer.tolist()
    return pa.table(
        {
            "room_id": [room_id(rooms.day, number) for number in streamer],
            "streamer_id": [streamer_id(number) for number in streamer],
            "start_at_ms": rooms.start_ms,
            "end_at_ms": rooms.end_ms,
            "category": _category_names(rooms.category),
            "popularity": rooms.popularity,
            "latent": _vectors(rooms.latent),
        }
    )


def _category_names(category: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array([CATEGORY_NAMES[number] for number in category.tolist()], pa.string())


def _vectors(latent: npt.NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(latent.ravel()), latent.shape[1])
