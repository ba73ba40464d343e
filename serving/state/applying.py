"""How a batch of events changes records: which records it needs, and what becomes of them. Knows no store."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from roomrec.features.moments import MOMENT_EVENT_TYPES
from roomrec.retrieval.availability import (
    CATALOGUE_EVENT_TYPES,
    ProductRecord,
    RoomRecord,
    Stamp,
    apply_to_product,
    apply_to_room,
    stamp_of,
)
from serving.state.event_log import LoggedEvent
from serving.state.records import RoomMoment, StoredUser, apply_to_moment, apply_to_user

RULES: Final = 5
"""Raised when an event changes records in another way than before: a state made by other rules is made again."""

_PRODUCT_EVENT_TYPES: Final = frozenset({"product_listed", "product_unlisted", "stock_changed"})
_COUNTED: Final = frozenset(MOMENT_EVENT_TYPES)


class Needed(NamedTuple):
    """Ids of the records that a batch reads or changes."""

    users: set[str]
    rooms: set[str]
    """rooms without their listings, and whether they have ended"""
    listings: set[tuple[str, str]]
    """room id and product id"""
    products: set[str]
    moments: set[str]
    """room ids"""


class Loaded(NamedTuple):
    """The records needed that exist."""

    users: dict[str, StoredUser]
    rooms: dict[str, RoomRecord]
    """rooms that have not ended; of their listings, those needed"""
    ended: set[str]
    products: dict[str, ProductRecord]
    moments: dict[str, RoomMoment]


class Applied(NamedTuple):
    """What a batch has changed: records to be written."""

    users: dict[str, StoredUser]
    rooms: dict[str, RoomRecord | None]
    """None for a room that ended, whose listings and moment go too; of its listings, those needed"""
    ended: dict[str, Stamp]
    """rooms whose end was heard of; if it was before, the first word stays"""
    products: dict[str, ProductRecord]
    moments: dict[str, RoomMoment]
    catalogue_seq: int
    """the newest event that touched what may be shown, 0 if none did"""


def needed_by(entries: Iterable[LoggedEvent]) -> Needed:
    """Return which records a batch reads or changes."""
    needed = Needed(set(), set(), set(), set(), set())
    for entry in entries:
        event = entry.event
        event_type, room_id = event["event_type"], event.get("room_id")
        if event_type not in CATALOGUE_EVENT_TYPES:
            needed.users.add(event["user_id"])
            if event_type in _COUNTED and room_id is not None:
                needed.rooms.add(room_id)
                needed.moments.add(room_id)
            continue
        if event_type in _PRODUCT_EVENT_TYPES:
            needed.products.add(event["product_id"])
        if event_type != "stock_changed" and room_id is not None:
            needed.rooms.add(room_id)
            if event_type in _PRODUCT_EVENT_TYPES:
                needed.listings.add((room_id, event["product_id"]))
    return needed


def apply_events(entries: Sequence[LoggedEvent], loaded: Loaded, *, history_limit: int) -> Applied:
    """Apply a batch of events.

    Args:
        entries: Events that have not been applied, in the order of the log.
        loaded: The records ``needed_by`` names; changed in place.
        history_limit: Most events remembered for a viewer.

    Returns:
        The records to be written. Other batches may have the same result in other pieces: cutting the log elsewhere
        changes nothing in the end.
    """
    rooms: dict[str, RoomRecord | None] = {**loaded.rooms, **dict.fromkeys(loaded.ended)}
    applied = Applied({}, {}, {}, {}, {}, 0)
    catalogue_seq = 0
    for seq, event in entries:
        event_type = event["event_type"]
        room_id = event.get("room_id")
        if event_type not in CATALOGUE_EVENT_TYPES:
            user_id = event["user_id"]
            user = loaded.users.get(user_id)
            if user is None:
                user = loaded.users[user_id] = StoredUser(user_id)
            if apply_to_user(user, event, history_limit=history_limit):
                applied.users[user_id] = user
            if event_type in _COUNTED and room_id is not None:
                room = rooms.get(room_id)
                if room is not None and room.is_live:
                    moment = loaded.moments.setdefault(room_id, RoomMoment())
                    apply_to_moment(moment, event)
                    moment.changed_seq = seq
                    applied.moments[room_id] = moment
            continue
        catalogue_seq = seq
        if event_type == "room_end":
            rooms[event["room_id"]] = applied.rooms[event["room_id"]] = None
            applied.ended.setdefault(event["room_id"], stamp_of(event))
            applied.moments.pop(event["room_id"], None)
        elif event_type != "stock_changed":
            room = rooms.setdefault(event["room_id"], RoomRecord(event["room_id"]))
            if room is not None:
                apply_to_room(room, event)
                applied.rooms[room.room_id] = room
        if event_type in _PRODUCT_EVENT_TYPES:
            product_id = event["product_id"]
            product = loaded.products.setdefault(product_id, ProductRecord(product_id))
            apply_to_product(product, event)
            applied.products[product_id] = product
    return applied._replace(catalogue_seq=catalogue_seq)
