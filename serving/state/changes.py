"""The feed of changes of the catalogue: what replicas follow, in pieces. Knows no store."""

from collections.abc import Iterator
from typing import Final

import msgspec

from roomrec.retrieval.availability import Listing, ProductRecord, RoomRecord
from serving.state.applying import Applied
from serving.state.state_store import CatalogueRecords

KEPT_CHANGES: Final = 10_000
"""Pieces of the feed that are kept; a replica further behind reads the whole catalogue."""

_RECORDS_PER_CHANGE = 100
_NEVER = (-1, "")


class Change(msgspec.Struct, array_like=True):
    """A piece of the feed: rooms with those of their listings that have changed, and products."""

    rooms: dict[str, RoomRecord | None]
    products: dict[str, ProductRecord]


def changes_of(applied: Applied) -> Iterator[Change]:
    """Cut what has changed so that the feed, whose pieces are counted, is bounded in bytes too.

    A product comes before or with its listings: pieces are read together, so no reader sees one without the other.
    """
    change, records = Change({}, {}), 0
    for product_id, product in applied.products.items():
        change.products[product_id] = product
        if len(change.products) == _RECORDS_PER_CHANGE:
            yield change
            change = Change({}, {})
    records = len(change.products)
    for room_id, room in applied.rooms.items():
        head = None if room is None else without_listings(room)
        change.rooms[room_id] = head
        records += 1
        for product_id, listing in ({} if room is None else room.listings).items():
            if records >= _RECORDS_PER_CHANGE:
                yield change
                change, records = Change({}, {}), 1
                head = change.rooms[room_id] = without_listings(room)
            head.listings[product_id] = listing
            records += 1
    if change.rooms or change.products:
        yield change


def lay_over(records: CatalogueRecords, change: Change) -> None:
    """Add a piece of the feed to those before it; ``records`` is changed in place."""
    for room_id, room in change.rooms.items():
        if room is not None:
            slim_listings(room.listings)
        before = records.rooms.get(room_id)
        if room is not None and before is not None:
            before.listings.update(room.listings)
            room.listings = before.listings
        records.rooms[room_id] = room
    for product_id, product in change.products.items():
        records.products[product_id] = slim_product(product)


def slim_product(product: ProductRecord) -> ProductRecord:
    """Drop what only places late events among others: replicas need none of it, and it is half of their memory."""
    product.described = product.introduced = product.counted = _NEVER
    if product.first_title == product.title:
        product.first_title = product.title  # one string instead of two
    return product


def slim_listings(listings: dict[str, Listing]) -> None:
    """As ``slim_product``, for listings."""
    for listing in listings.values():
        listing.newest = _NEVER


def without_listings(room: RoomRecord) -> RoomRecord:
    """Return a room's record as it lies in a store, apart from what is listed there."""
    return msgspec.structs.replace(room, listings={})
