"""Rooms and products as answers show them."""

from collections.abc import Iterable
from typing import Any, Final

from roomrec.policy.explanation import PRODUCT_SENTENCES, ROOM_SENTENCES, Reason
from roomrec.retrieval.availability import ProductRecord, RoomRecord

_REASONS: Final = {code: {"code": code, "text": text} for code, text in (ROOM_SENTENCES | PRODUCT_SENTENCES).items()}

Card = dict[str, Any]
"""Ready for JSON; shares parts with other cards, so it is not to be changed."""


def room_card(
    room: RoomRecord, *, score: float, position: int, reasons: Iterable[Reason], products: list[Card]
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
        "reasons": [_REASONS[reason.code] for reason in reasons],
        "products": products,
    }


def product_card(
    product_id: str, product: ProductRecord | None, category: str | None, score: float, reasons: Iterable[Reason]
) -> Card:
    """Return a product of a room; None for one of which nothing but its id is known."""
    return {
        "product_id": product_id,
        "category": category,
        "title": None if product is None else product.title,
        "price_cents": None if product is None else product.price_cents,
        "stock": None if product is None else product.stock,
        "score": score,
        "reasons": [_REASONS[reason.code] for reason in reasons],
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
