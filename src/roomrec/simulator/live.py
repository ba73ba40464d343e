"""What is live at an instant, as a platform's own catalogue would show it."""

from dataclasses import dataclass

import numpy as np

from roomrec.simulator.arrow import CATEGORY_NAMES, product_id, room_id, streamer_id
from roomrec.simulator.population import Population
from roomrec.simulator.schedule import NO_PRODUCT, Rooms
from roomrec.simulator.stock import StockChanges, stock_at
from roomrec.simulator.streamers import styles
from roomrec.simulator.words import REGIONS


@dataclass(frozen=True, kw_only=True)
class LiveProduct:
    """A product on the list of a live room."""

    product_id: str
    category: str
    title: str
    attributes: str
    price_cents: int
    stock: int
    """Pieces left; 0 is sold out."""


@dataclass(frozen=True, kw_only=True)
class LiveRoom:
    """A room that is live."""

    room_id: str
    streamer_id: str
    category: str
    title: str
    attributes: str
    region: str
    start_at_ms: int
    end_at_ms: int
    """When it will end: a real platform would not know."""
    products: tuple[LiveProduct, ...]
    """What is listed, first listed first."""


def live_rooms_at(population: Population, rooms: Rooms, changes: StockChanges, at_ms: int) -> list[LiveRoom]:
    """Return the rooms with ``start <= at_ms < end`` in order of id.

    Args:
        population: The world's population.
        rooms: The rooms of the day that holds the instant.
        changes: The changes of stock of that day.
        at_ms: The instant; what happens at it has happened.
    """
    live = np.flatnonzero((rooms.start_ms <= at_ms) & (at_ms < rooms.end_ms))
    return [
        LiveRoom(
            room_id=room_id(rooms.day, int(rooms.streamer[room])),
            streamer_id=streamer_id(int(rooms.streamer[room])),
            category=CATEGORY_NAMES[rooms.category[room]],
            title=rooms.title[room],
            attributes=attributes,
            region=REGIONS[population.streamers.region[rooms.streamer[room]]],
            start_at_ms=int(rooms.start_ms[room]),
            end_at_ms=int(rooms.end_ms[room]),
            products=_listed(population, rooms, changes, room, at_ms),
        )
        for room, attributes in zip(live.tolist(), styles(rooms.latent[live]), strict=True)
    ]


def _listed(
    population: Population, rooms: Rooms, changes: StockChanges, room: int, at_ms: int
) -> tuple[LiveProduct, ...]:
    products = population.products
    listed = rooms.product[room] != NO_PRODUCT
    listed &= (rooms.listed_ms[room] <= at_ms) & (at_ms < rooms.unlisted_ms[room])
    place = np.flatnonzero(listed)
    numbers = rooms.product[room, place]
    stock = stock_at(rooms, changes, np.full(len(place), room), place, np.full(len(place), at_ms))
    return tuple(
        LiveProduct(
            product_id=product_id(number),
            category=CATEGORY_NAMES[products.category[number]],
            title=products.title[number],
            attributes=attributes,
            price_cents=int(products.price_cents[number]),
            stock=pieces,
        )
        for number, attributes, pieces in zip(
            numbers.tolist(), styles(products.latent[numbers]), stock.tolist(), strict=True
        )
    )
