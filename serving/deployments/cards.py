"""Rooms and products as answers show them."""

from collections.abc import Sequence
from typing import Any

from roomrec.policy.explanation import Reason
from roomrec.retrieval.availability import ProductRecord, RoomRecord

Card = dict[str, Any]
"""Ready for JSON; shares parts with other cards, so it is not to be changed."""


def room_card(
    room: RoomRecord, *, score: float, position: int, reasons: Sequence[Reason], products: list[Card]
) -> Card:
    """Return a room of a feed."""
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "category": room.category,
        "title": room.title,
        "score": score,
        "position": position,
        "propensity": 1.0,
        "reasons": reasons,
        "products": products,
    }


def product_card(
    product_id: str, product: ProductRecord | None, category: str | None, score: float, reasons: Sequence[Reason]
) -> Card:
    """Return a product of a room; its record is None where nothing but its id is known."""
    return {
        "product_id": product_id,
        "category": category,
        "title": product and product.title,
        "price_cents": product and product.price_cents,
        "stock": product and product.stock,
        "score": score,
        "reasons": reasons,
    }


def placed_product_card(room: RoomRecord, product: Card, *, position: int) -> Card:
    """Return a product as an item of its own, with the room that sells it."""
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        **product,
        "position": position,
        "propensity": 1.0,
        "products": [],
    }
