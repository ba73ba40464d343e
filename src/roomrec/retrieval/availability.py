"""What may be shown now: records of rooms and products, and how room events change them in whatever order they come.

The records forget nothing they need to place a late event: the newest by ``(occurred_at_ms, event_id)`` decides what is
listed and in stock, the oldest describes a room and what the encoder sees of a product, and an end is final.
Preprocessing follows the same rules, so an item that is not available at an instant is neither a candidate there nor an
answer here.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from roomrec.features.items import ROOM_LISTING_WINDOW_MS, ItemFacts

Stamp = tuple[int, str]
"""When an event occurred, and its id to tell two of the same instant apart: the greater one is the newer."""

CATALOGUE_EVENT_TYPES: Final = frozenset(
    {"room_start", "room_end", "product_listed", "product_unlisted", "product_pinned", "stock_changed"}
)
"""Events that change what may be shown."""


class Listing(msgspec.Struct, array_like=True, gc=False):
    """One product in one room; nothing in it can form a cycle, and a shop has tens of thousands."""

    first: Stamp | None = None
    """the oldest ``product_listed``; None if only its end has been heard of"""
    newest: Stamp = (-1, "")
    """the newest ``product_listed`` or ``product_unlisted``"""
    listed: bool = False
    """what the newest said"""


class RoomRecord(msgspec.Struct, array_like=True):
    """A room that has not ended."""

    room_id: str
    started: Stamp | None = None
    """the oldest ``room_start``; None while only other events of the room have arrived"""
    streamer_id: str | None = None
    category: str | None = None
    title: str | None = None
    listings: dict[str, Listing] = msgspec.field(default_factory=dict)
    """product id -> listing"""
    pinned: Stamp = (-1, "")
    """the newest ``product_pinned``"""
    pinned_product_id: str | None = None
    attributes: str | None = None
    """as said when it started; fields are stored by place, so a new one comes last"""

    @property
    def is_live(self) -> bool:
        """Whether the room has started (it has not ended, or there would be no record)."""
        return self.started is not None


class ProductRecord(msgspec.Struct, array_like=True, gc=False):
    """A product, wherever it is sold: it has one stock."""

    product_id: str
    described: Stamp = (-1, "")
    """the newest ``product_listed``: what viewers are told"""
    category: str | None = None
    title: str | None = None
    price_cents: int | None = None
    introduced: Stamp | None = None
    """the oldest ``product_listed``: what the item encoder sees, as in training"""
    first_category: str | None = None
    first_title: str | None = None
    first_price_cents: int | None = None
    counted: Stamp = (-1, "")
    """the newest event that knew the stock"""
    stock: int | None = None
    """pieces left; None if nobody ever said"""
    first_attributes: str | None = None
    """as the oldest ``product_listed`` said; fields are stored by place, so a new one comes last"""

    @property
    def in_stock(self) -> bool:
        """Whether it can be bought as far as is known."""
        return self.stock is None or self.stock > 0


def stamp_of(event: Mapping[str, Any]) -> Stamp:
    """Return what orders an event among others."""
    return event["occurred_at_ms"], event["event_id"]


def apply_to_room(room: RoomRecord, event: Mapping[str, Any]) -> None:
    """Change a room's record by one of its events other than ``room_end``.

    The result does not depend on the order in which events are applied.

    Args:
        room: The record, changed in place.
        event: ``room_start``, ``product_listed``, ``product_unlisted`` or ``product_pinned`` of this room.

    Raises:
        ValueError: If the event is of another type.
    """
    stamp = stamp_of(event)
    match event["event_type"]:
        case "room_start":
            if room.started is None or stamp < room.started:
                context = event.get("context") or {}
                room.started = stamp
                room.streamer_id = event["streamer_id"]
                room.category = context.get("category") or None  # no letters are no fact, as preprocessing has it
                room.title = context.get("title") or None
                room.attributes = context.get("attributes") or None
        case "product_listed" | "product_unlisted" as kind:
            listing = room.listings.setdefault(event["product_id"], Listing())
            if kind == "product_listed" and (listing.first is None or stamp < listing.first):
                listing.first = stamp
            if stamp > listing.newest:
                listing.newest = stamp
                listing.listed = kind == "product_listed"
        case "product_pinned":
            if stamp > room.pinned:
                room.pinned = stamp
                room.pinned_product_id = event["product_id"]
        case other:
            raise ValueError(f"event_type {other!r} does not change a room's record")


def apply_to_product(product: ProductRecord, event: Mapping[str, Any]) -> None:
    """Change a product's record by one of its events, in any order.

    Args:
        product: The record, changed in place.
        event: ``product_listed``, ``product_unlisted`` or ``stock_changed`` of this product.
    """
    stamp = stamp_of(event)
    if event["event_type"] == "product_listed":
        context = event.get("context") or {}
        facts = context.get("category") or None, context.get("title") or None, event.get("amount_cents")
        if stamp > product.described:
            product.described = stamp
            product.category, product.title, product.price_cents = facts
        if product.introduced is None or stamp < product.introduced:
            product.introduced = stamp
            product.first_category, product.first_title, product.first_price_cents = facts
            product.first_attributes = context.get("attributes") or None
    if event.get("stock") is not None and stamp > product.counted:
        product.counted = stamp
        product.stock = event["stock"]


def can_be_bought(room: RoomRecord, products: Mapping[str, ProductRecord], product_id: str) -> bool:
    """Return whether a product can be bought in a room now: the room is live, it is listed there and in stock.

    Args:
        room: The room.
        products: Records of products; one without a record has no known stock.
        product_id: The product.
    """
    listing = room.listings.get(product_id)
    if listing is None or not listing.listed or not room.is_live:
        return False
    product = products.get(product_id)  # looked up once: in serving another thread may take it out
    return product is None or product.in_stock


def available_products(room: RoomRecord, products: Mapping[str, ProductRecord]) -> list[str]:
    """Return the ids of the products that can be bought in a room now.

    Args:
        room: The room.
        products: Records of at least its listed products.

    Returns:
        Product ids, ascending.
    """
    return sorted(product_id for product_id in room.listings if can_be_bought(room, products, product_id))


def room_facts(room: RoomRecord) -> ItemFacts:
    """Return what the item encoder sees of a room: its products are those first listed in its listing window.

    Raises:
        ValueError: If the room has not started.
    """
    if room.started is None:
        raise ValueError(f"room {room.room_id!r} has not started")
    until = room.started[0] + ROOM_LISTING_WINDOW_MS
    bag = sorted(
        (listing.first, product_id)
        for product_id, listing in room.listings.items()
        if listing.first is not None and listing.first[0] <= until
    )
    product_ids = [product_id for _, product_id in bag]
    return ItemFacts(room.streamer_id, product_ids, room.category, room.title, None, room.attributes)


def product_facts(product: ProductRecord) -> ItemFacts:
    """Return what the item encoder sees of a product."""
    return ItemFacts(
        None,
        [product.product_id],
        product.first_category,
        product.first_title,
        product.first_price_cents,
        product.first_attributes,
    )
