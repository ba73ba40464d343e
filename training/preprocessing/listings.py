"""Step 3b: what rooms sold: facts of products, what each room began with, and when each product could be bought."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.items import ROOM_LISTING_WINDOW_MS
from roomrec.features.timeline import Intervals, ListingEvents, StockEvents, product_intervals
from training.preprocessing.rooms import Rooms, room_numbers
from training.preprocessing.shuffle import Shuffle, rows_of

_LISTED, _UNLISTED, _STOCK = (
    EVENT_TYPE_CODES[name] for name in ("product_listed", "product_unlisted", "stock_changed")
)
_COLUMNS = (
    "row", "event_id", "event_type", "occurred_at_ms", "room_id", "product_id", "amount_cents", "stock", "category",
    "title", "attributes",
)  # fmt: skip

Int64Array = npt.NDArray[np.int64]


class ProductFacts(NamedTuple):
    """What is known of a product, from its first listing or from the source."""

    category: str | None
    title: str | None
    price_cents: int | None
    known_from_ms: int
    """When it was said; -1 for ever"""
    attributes: str | None = None


class Listings(NamedTuple):
    """What the events of products say: facts, the products rooms began with, and when each could be bought."""

    facts: dict[str, ProductFacts]
    first_products: dict[int, list[str]]
    """Room number to the products of its listing window, first listed first"""
    availability: list[tuple[list[str], Intervals]]
    """By partition: product ids, and intervals by their places among them and by room numbers"""


def read_listings(
    files: Sequence[Path], shuffle: Shuffle, rooms: Rooms, *, work: Path, num_partitions: int, products: pa.Table
) -> Listings:
    """Gather what listings and stock counts say, partition by partition.

    Args:
        files: Staged files.
        shuffle: Does the shuffling.
        rooms: The rooms.
        work: Folder to work in.
        num_partitions: Partitions to shuffle into.
        products: What the source knows apart from events, in ``PRODUCT_SCHEMA``.
    """
    facts = {
        product_id: ProductFacts(category, title, price_cents, -1, attributes)
        for product_id, category, title, price_cents, attributes in rows_of(products, *products.column_names)
    }
    openings: list[_Opening] = []
    availability = []
    shuffle.partition(
        files,
        work,
        key="product_id",
        columns=_COLUMNS,
        num_partitions=num_partitions,
        event_types=[_LISTED, _UNLISTED, _STOCK],
    )
    for partition in shuffle.partitions(work, _COLUMNS):
        events = partition.sort_by([("occurred_at_ms", "ascending"), ("event_id", "ascending")])
        room = room_numbers(rooms.number, events["room_id"])
        _read_facts(events, room, rooms, facts, openings)
        availability.append(_read_availability(events, room, rooms))
    first_products: dict[int, list[str]] = {}
    for opening in sorted(openings):
        begun = first_products.setdefault(opening.room, [])
        if opening.product_id not in begun:
            begun.append(opening.product_id)
    return Listings(facts, first_products, availability)


class _Opening(NamedTuple):
    """A listing within a room's listing window; sorts by room, then as events do."""

    room: int
    at_ms: int
    event_id: str
    product_id: str


def _read_facts(
    events: pa.Table, room: Int64Array, rooms: Rooms, facts: dict[str, ProductFacts], openings: list[_Opening]
) -> None:
    """Take down each product's first listing, and what was listed as rooms opened."""
    listed = np.flatnonzero(events["event_type"].to_numpy() == _LISTED)
    listings = events.take(pa.array(listed))
    in_time = listings["occurred_at_ms"].to_numpy() <= rooms.from_ms[room[listed]] + ROOM_LISTING_WINDOW_MS
    columns = ("event_id", "product_id", "occurred_at_ms", "category", "title", "amount_cents", "attributes")
    for (event_id, product_id, at_ms, category, title, price, attributes), opens, number in zip(
        rows_of(listings, *columns), in_time.tolist(), room[listed].tolist(), strict=True
    ):
        if product_id not in facts:
            facts[product_id] = ProductFacts(category, title, price, at_ms, attributes)
        if opens:
            openings.append(_Opening(number, at_ms, event_id, product_id))


def _read_availability(events: pa.Table, room: Int64Array, rooms: Rooms) -> tuple[list[str], Intervals]:
    names = events["product_id"].combine_chunks().dictionary_encode()
    product = names.indices.to_numpy().astype(np.int64)
    code, at_ms = events["event_type"].to_numpy(), events["occurred_at_ms"].to_numpy()
    stock = np.asarray(pc.fill_null(events["stock"], -1))
    listing, counted = (code == _LISTED) | (code == _UNLISTED), stock >= 0
    intervals = product_intervals(
        ListingEvents(product[listing], room[listing], at_ms[listing], code[listing] == _LISTED),
        StockEvents(product[counted], at_ms[counted], stock[counted]),
        room_from_ms=rooms.from_ms,
        room_to_ms=rooms.to_ms,
    )
    return names.dictionary.to_pylist(), intervals
