"""What the state remembers of a viewer, and how an event changes it."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.moments import MomentCounts
from roomrec.features.vocabulary import Vocabulary
from roomrec.policy.fallback import add_enter
from roomrec.sequences.history import HISTORY_EVENT_TYPES, History, ViewerEvents, build_history

MAX_FOLLOWS: Final = 1_000
"""Followed hosts remembered for one viewer, the newest."""

MAX_REFUSALS: Final = 500
"""Products, rooms and hosts a viewer is not interested in, remembered of each, the newest."""

EVENT_NAMES: Final = {code: name for name, code in EVENT_TYPE_CODES.items()}
"""Code of a type to its name."""

_IN_HISTORY = frozenset(HISTORY_EVENT_TYPES)
_REFUSED_COLUMNS = ("product_id", "room_id", "streamer_id")  # the narrowest first


class PastEvent(msgspec.Struct, array_like=True, order=True, gc=False):
    """One event of a viewer's history; the first two fields order it. Nothing in it can form a cycle."""

    occurred_at_ms: int
    event_id: str
    received_at_ms: int
    event_type: int
    streamer_id: str | None
    product_id: str | None
    room_id: str | None
    watch_time_ms: int


class UserRecord(msgspec.Struct, array_like=True):
    """What is known of one viewer."""

    user_id: str
    events: list[PastEvent] = msgspec.field(default_factory=list)
    """the newest events of the types a history is made of, oldest first"""
    follows: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)
    """streamer id -> when followed, and the event's id"""
    refused: dict[str, dict[str, tuple[int, str]]] = msgspec.field(default_factory=dict)
    """``product_id``, ``room_id`` or ``streamer_id`` -> id -> when refused, and the event's id"""


class StoredUser(msgspec.Struct, array_like=True):
    """A ``UserRecord`` whose events stay packed: adding one must not cost unpacking hundreds."""

    user_id: str
    events: list[msgspec.Raw] = msgspec.field(default_factory=list)
    follows: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)
    refused: dict[str, dict[str, tuple[int, str]]] = msgspec.field(default_factory=dict)


class RoomMoment(msgspec.Struct, array_like=True):
    """What goes on in one live room."""

    changed_seq: int = 0
    """the place of the log up to which events had been applied when this was last written"""
    enters: float = 0.0
    """decayed count of enters, for what is popular now"""
    enters_at_ms: int = 0
    """the instant ``enters`` stands for"""
    counts: MomentCounts = msgspec.field(default_factory=MomentCounts)
    """enters, comments and orders by second"""


class _Beginning(msgspec.Struct, array_like=True, gc=False):
    """How a packed ``PastEvent`` begins: what orders it."""

    occurred_at_ms: int
    event_id: str


_pack = msgspec.msgpack.Encoder().encode
_unpack_user = msgspec.msgpack.Decoder(UserRecord).decode
_unpack_beginning = msgspec.msgpack.Decoder(_Beginning).decode


class Refusals(NamedTuple):
    """What is not to be shown to one viewer."""

    product_ids: frozenset[str] = frozenset()
    room_ids: frozenset[str] = frozenset()
    streamer_ids: frozenset[str] = frozenset()


def unpack_user(packed: bytes) -> UserRecord:
    """Return a viewer's record from its stored form.

    Raises:
        msgspec.DecodeError: If it is none.
    """
    return _unpack_user(packed)


def apply_to_user(user: StoredUser, event: Mapping[str, Any], *, history_limit: int) -> bool:
    """Change what is known of a viewer by one accepted event; the order in which events are applied does not matter.

    Args:
        user: The record, changed in place.
        event: A viewer event that has not been applied before.
        history_limit: Most events kept; of more, the oldest go.

    Returns:
        Whether the record has changed.
    """
    if event["event_type"] == "not_interested":
        column = next(name for name in _REFUSED_COLUMNS if event.get(name) is not None)
        stamp = event["occurred_at_ms"], event["event_id"]
        return _remember(user.refused.setdefault(column, {}), event[column], stamp, limit=MAX_REFUSALS)
    if event["event_type"] not in _IN_HISTORY:
        return False
    past = PastEvent(
        event["occurred_at_ms"],
        event["event_id"],
        event["received_at_ms"],
        EVENT_TYPE_CODES[event["event_type"]],
        event.get("streamer_id"),
        event.get("product_id"),
        event.get("room_id"),
        -1 if event.get("watch_time_ms") is None else event["watch_time_ms"],
    )
    key = (past.occurred_at_ms, past.event_id)
    place = len(user.events)
    if user.events and _stamp(user.events[-1]) > key:  # most events come in their order
        place = bisect_left(user.events, key, key=_stamp)
    user.events.insert(place, msgspec.Raw(_pack(past)))
    del user.events[:-history_limit]
    if event["event_type"] == "follow":
        _remember(user.follows, event["streamer_id"], key, limit=MAX_FOLLOWS)
    return True


def _stamp(packed: msgspec.Raw) -> tuple[int, str]:
    beginning = _unpack_beginning(packed)
    return beginning.occurred_at_ms, beginning.event_id


def apply_to_moment(moment: RoomMoment, event: Mapping[str, Any]) -> None:
    """Count one accepted event of a live room.

    Args:
        moment: The record, changed in place.
        event: An event of ``MOMENT_EVENT_TYPES`` in this room.
    """
    event_type, at_ms = event["event_type"], event["occurred_at_ms"]
    moment.counts.add(event_type, at_ms=at_ms)
    if event_type == "enter":
        moment.enters, moment.enters_at_ms = add_enter(moment.enters, counted_at_ms=moment.enters_at_ms, at_ms=at_ms)


def _remember(known: dict[str, tuple[int, str]], external_id: str, stamp: tuple[int, str], *, limit: int) -> bool:
    """Keep the newest stamp of each id and the newest ids, in whatever order they come; say whether it was news."""
    if stamp <= known.get(external_id, (-1, "")):
        return False
    known[external_id] = stamp
    if len(known) > limit:
        del known[min(known, key=known.__getitem__)]
    return True


def refusals_of(user: UserRecord | None) -> Refusals:
    """Return what a viewer refused; following a host later takes the refusal of that host back."""
    if user is None or not user.refused:
        return Refusals()
    products, rooms, streamers = (user.refused.get(column, {}) for column in _REFUSED_COLUMNS)
    return Refusals(
        frozenset(products),
        frozenset(rooms),
        frozenset(name for name, stamp in streamers.items() if stamp > user.follows.get(name, (-1, ""))),
    )


def user_history(user: UserRecord, vocabulary: Vocabulary) -> History:
    """Turn a viewer's record into the arrays a model was trained on, by the function that made those.

    Args:
        user: What is known of the viewer.
        vocabulary: The vocabulary of the model that will read the arrays.

    Returns:
        The history, oldest first.
    """
    past = user.events
    count = len(past)
    rank = {event_id: place for place, event_id in enumerate(sorted(event.event_id for event in past))}
    return build_history(
        ViewerEvents(
            user=np.zeros(count, dtype=np.int64),
            event_id=np.fromiter((rank[event.event_id] for event in past), np.int64, count),
            event_type=np.fromiter((event.event_type for event in past), np.int64, count),
            occurred_at_ms=np.fromiter((event.occurred_at_ms for event in past), np.int64, count),
            received_at_ms=np.fromiter((event.received_at_ms for event in past), np.int64, count),
            streamer_index=vocabulary.encode("streamer", [event.streamer_id for event in past]),
            product_index=vocabulary.encode("product", [event.product_id for event in past]),
            watch_time_ms=np.fromiter((event.watch_time_ms for event in past), np.int64, count),
        )
    )
