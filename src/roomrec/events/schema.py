"""The event contract: types, columns, units, and which column each type needs.

Everything that happens is an event: what viewers do and what rooms do. Training, evaluation and serving read this one
contract.
"""

from typing import Final

import pyarrow as pa

VIEWER_EVENT_TYPES: Final = (
    "impression",
    "enter",
    "leave",
    "watch",
    "like",
    "comment",
    "share",
    "follow",
    "gift",
    "product_click",
    "add_to_cart",
    "order",
    "coupon_claim",
    "not_interested",
)
"""What a viewer does. The order is part of the contract: a type's code is its place here, counted from 1."""

ROOM_EVENT_TYPES: Final = (
    "room_start",
    "room_end",
    "product_listed",
    "product_unlisted",
    "product_pinned",
    "stock_changed",
)
"""What a room does."""

EVENT_TYPES: Final = VIEWER_EVENT_TYPES + ROOM_EVENT_TYPES
"""All types; new ones are only ever appended to their group together with a new bundle schema version."""

EVENT_TYPE_CODES: Final = {name: code for code, name in enumerate(EVENT_TYPES, start=1)}
"""Type name to its code; 0 is padding."""

EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_type", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("occurred_at_ms", pa.int64(), nullable=False),
        pa.field("received_at_ms", pa.int64(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("streamer_id", pa.string()),
        pa.field("room_id", pa.string()),
        pa.field("product_id", pa.string()),
        pa.field("watch_time_ms", pa.int64()),
        pa.field("amount_cents", pa.int64()),
        pa.field("quantity", pa.int64()),
        pa.field("stock", pa.int64()),
        pa.field("request_id", pa.string()),
        pa.field("position", pa.int32()),
        pa.field("propensity", pa.float32()),
        pa.field("context", pa.map_(pa.string(), pa.string())),
    ]
)
"""One row is one event. Instants are epoch milliseconds in UTC, money is cents, a stock is pieces left to sell.

``context`` holds what has no column: ``surface``, ``device``, ``region``; on ``room_start`` the room's ``category``,
``title``, ``attributes`` and ``region``; on ``product_listed`` the product's ``category``, ``title`` and ``attributes``
(its price is ``amount_cents``, its stock is ``stock``). ``attributes`` are any number of tags, such as brand, material
or sub-category, with ``ATTRIBUTE_SEPARATOR`` between them: ``brand:northwind|silk``.
"""

ATTRIBUTE_SEPARATOR: Final = "|"
"""Stands between the tags of ``attributes``, and so in none of them."""

EVENT_COLUMNS: Final = tuple(EVENT_SCHEMA.names)
"""Column names in order."""

ID_COLUMNS: Final = ("event_id", "user_id", "streamer_id", "room_id", "product_id", "request_id")
"""Columns that hold external ids: never empty strings, at most ``MAX_ID_LENGTH`` characters."""

MAX_ID_LENGTH: Final = 128
"""Longest external id, in characters."""

MAX_CONTEXT_LENGTH: Final = 16_384
"""Most characters of a context, keys and values together: it describes an event and is no document."""

_ROOM_VISIT = ("user_id", "room_id", "streamer_id")
_PRODUCT_ACTION = ("user_id", "product_id")

REQUIRED_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "impression": ("user_id",),
    "enter": _ROOM_VISIT,
    "leave": _ROOM_VISIT,
    "watch": (*_ROOM_VISIT, "watch_time_ms"),
    "like": _ROOM_VISIT,
    "comment": _ROOM_VISIT,
    "share": _ROOM_VISIT,
    "follow": ("user_id", "streamer_id"),
    "gift": _ROOM_VISIT,
    "product_click": _PRODUCT_ACTION,
    "add_to_cart": _PRODUCT_ACTION,
    "order": _PRODUCT_ACTION,
    "coupon_claim": ("user_id",),
    "not_interested": ("user_id",),
    "room_start": ("room_id", "streamer_id"),
    "room_end": ("room_id",),
    "product_listed": ("room_id", "product_id"),
    "product_unlisted": ("room_id", "product_id"),
    "product_pinned": ("room_id", "product_id"),
    "stock_changed": ("product_id", "stock"),
}
"""Columns a type cannot do without, besides ``event_id``, ``event_type`` and ``occurred_at_ms``.

Product actions need no room, so that logs of shops without rooms fit. ``stock_changed`` counts a product wherever it
is sold: a product has one stock.
"""

NEEDS_ANY_OF: Final[dict[str, tuple[str, ...]]] = {
    "impression": ("room_id", "product_id"),
    "not_interested": ("room_id", "streamer_id", "product_id"),
}
"""Types that need at least one of these columns."""

NON_NEGATIVE_COLUMNS: Final = ("watch_time_ms", "amount_cents", "quantity", "stock", "position")
"""Columns that are never below zero."""

MAX_CLOCK_SKEW_MS: Final = 10 * 60 * 1000
"""How far ``occurred_at_ms`` may lie after ``received_at_ms``.

Up to here the client's clock is believed to be a little fast and ``occurred_at_ms`` is set to ``received_at_ms``;
beyond, the event is rejected, since a wrong future instant would stay the newest event for ever.
"""

MIN_OCCURRED_AT_MS: Final = 0
"""Instants before the epoch are rejected. There is no other limit to how late an event may come."""


def empty_events() -> pa.Table:
    """Return a table of no events in the contract's schema."""
    return EVENT_SCHEMA.empty_table()
