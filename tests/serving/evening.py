"""Events of an evening in the small shop, written short."""

from itertools import count
from typing import Any

from tests.serving.shop import NOW_MS

_numbers = count()


def event(event_type: str, *, ago_ms: int = 1_000, **columns: Any) -> dict[str, Any]:
    """An event a second ago, with an id of its own."""
    return {
        "event_id": f"e{next(_numbers)}",
        "event_type": event_type,
        "occurred_at_ms": NOW_MS - ago_ms,
    } | columns


def start(room_id: str, streamer_id: str, **columns: Any) -> dict[str, Any]:
    return event("room_start", ago_ms=3_600_000, room_id=room_id, streamer_id=streamer_id, **columns)


def listed(room_id: str, product_id: str, **columns: Any) -> dict[str, Any]:
    return event("product_listed", ago_ms=3_599_000, room_id=room_id, product_id=product_id, **columns)


def enter(user_id: str, room_id: str, streamer_id: str, **columns: Any) -> dict[str, Any]:
    return event("enter", user_id=user_id, room_id=room_id, streamer_id=streamer_id, **columns)


def opening() -> list[dict[str, Any]]:
    """Three rooms: mia sells scarves, tom sells tools, zoe nothing yet."""
    return [
        start("scarf-room", "mia", context={"category": "scarves", "title": "Scarves tonight"}),
        start("tool-room", "tom", context={"category": "tools"}),
        start("quiet-room", "zoe"),
        listed("scarf-room", "silk", stock=10, amount_cents=1_990, context={"category": "scarves", "title": "Silk"}),
        listed("scarf-room", "wool", stock=10, amount_cents=2_990, context={"category": "scarves", "title": "Wool"}),
        listed("tool-room", "drill", stock=3, amount_cents=9_900, context={"category": "tools", "title": "Drill"}),
    ]
