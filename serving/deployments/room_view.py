"""What an operator is told of live rooms: who streams, what goes on, what is sold there."""

from typing import Any

from roomrec.features.moments import MOMENT_WINDOW_S
from roomrec.retrieval.availability import RoomRecord
from serving.state.live_catalogue import LiveCatalogue


def list_rooms(catalogue: LiveCatalogue, *, limit: int, offset: int, at_ms: int) -> dict[str, Any]:
    """Return some of the live rooms, by id, and how many there are.

    Args:
        catalogue: What is live.
        limit: Most rooms returned.
        offset: Rooms left out before the first.
        at_ms: Now.
    """
    chosen = sorted(catalogue.rooms)[offset : offset + limit]
    return {
        "total": len(catalogue.rooms),
        "offset": offset,
        "rooms": [_describe(catalogue, catalogue.rooms[room_id], at_ms)[0] for room_id in chosen],
    }


def describe_room(catalogue: LiveCatalogue, room_id: str, *, limit: int, at_ms: int) -> dict[str, Any] | None:
    """Return what is known of a live room, with the first of the products that can be bought there.

    Args:
        catalogue: What is live.
        room_id: The room.
        limit: Most products returned.
        at_ms: Now.

    Returns:
        None if the room is not live.
    """
    room = catalogue.rooms.get(room_id)
    if room is None:
        return None
    described, available = _describe(catalogue, room, at_ms)
    products = []
    for product_id in available[:limit]:
        product = catalogue.products.get(product_id)
        products.append(
            {
                "product_id": product_id,
                "category": None if product is None else product.category,
                "title": None if product is None else product.title,
                "price_cents": None if product is None else product.price_cents,
                "stock": None if product is None else product.stock,
            }
        )
    return described | {"products": products}


def _describe(catalogue: LiveCatalogue, room: RoomRecord, at_ms: int) -> tuple[dict[str, Any], list[str]]:
    available = catalogue.available_products(room.room_id)
    described = {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "category": room.category,
        "title": room.title,
        "started_at_ms": room.started[0] if room.started else None,
        "on_air_product_id": room.pinned_product_id,
        "num_products": len(available),
        "moment": {"window_s": MOMENT_WINDOW_S} | catalogue.moments(room.room_id, at_ms=at_ms)._asdict(),
    }
    return described, available
