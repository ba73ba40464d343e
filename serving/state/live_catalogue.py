"""The live catalogue in a replica's memory: a copy of what the state store says about rooms that are live."""

import gc
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from roomrec.features.items import ROOM_LISTING_WINDOW_MS
from roomrec.features.moments import Moment
from roomrec.policy.fallback import decayed_count
from roomrec.retrieval.availability import ProductRecord, RoomRecord, Stamp, available_products
from serving.state.records import RoomMoment
from serving.state.state_store import CatalogueRecords, Position, StateStore

MOMENTS_LAG_S: Final = 0.1
"""Moments and counts of enters are read again when they are older than this and somebody asks."""


class Changes(NamedTuple):
    """What a refresh may have changed."""

    room_ids: frozenset[str]
    """rooms whose record, or one of whose products, is not what it was"""
    product_ids: frozenset[str] | None
    """products of those rooms whose record or listing may have changed; None for any"""


class LiveCatalogue:
    """Live rooms, the products listed there, and what goes on in them.

    ``refresh`` asks the state for what has changed since it last did. Called before every answer, it makes an accepted
    event visible to the next request on every replica; while only viewers do things it does nothing.

    A room's record is another object whenever what the item encoder sees of the room may have changed. A listing it
    does not see is changed in place, because a room may list tens of thousands.

    Args:
        store: Where records come from.
        clock: Seconds that only go forward.
    """

    def __init__(self, store: StateStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self.position = Position(-1, 0, 0)
        self.rooms: dict[str, RoomRecord] = {}
        self.products: dict[str, ProductRecord] = {}
        self._not_started: dict[str, RoomRecord] = {}
        self._rooms_of_product: dict[str, str | set[str]] = {}  # most products are in one room
        self._rooms_of_streamer: dict[str, str | set[str]] = {}  # live ones; most streamers have one
        self._own: set[str] = set()  # rooms whose listings no copy shares
        self._moments: dict[str, RoomMoment] = {}
        self._moments_position: Position | None = None
        self._moments_until = 0.0

    def refresh(self, position: Position | None = None) -> Changes | None:
        """Follow the state.

        Args:
            position: How far the state has come, if already known.

        Returns:
            What may have changed, None if nothing.

        Raises:
            StateError: If the state cannot be read.
        """
        position = position or self._store.position()
        if position.catalogue_seq == self.position.catalogue_seq and position.generation == self.position.generation:
            self.position = position
            return None
        records = self._store.read_changes(self.position)
        if records is None:
            return self._reload()
        self.position = records.position
        return self._take(records)

    def hosted_by(self, streamer_ids: Iterable[str]) -> set[str]:
        """Return the live rooms of some streamers."""
        found: set[str] = set()
        for streamer_id in streamer_ids:
            rooms = self._rooms_of_streamer.get(streamer_id, ())
            found.update((rooms,) if isinstance(rooms, str) else rooms)
        return found

    def available_products(self, room_id: str) -> list[str]:
        """Return the products of a room that can be bought now, ascending; none if it is not live."""
        room = self.rooms.get(room_id)
        return [] if room is None else available_products(room, self.products)

    def enters(self, *, at_ms: int, room_ids: Collection[str] | None = None) -> dict[str, float]:
        """Return the decayed count of enters of each live room that had any, at most ``MOMENTS_LAG_S`` old.

        Args:
            at_ms: The instant asked for.
            room_ids: Rooms asked about, all of them for None.
        """
        self._follow_moments()
        found = {}
        for room_id in self._moments if room_ids is None else room_ids:
            moment = self._moments.get(room_id)
            if moment is not None and moment.enters and room_id in self.rooms:
                found[room_id] = decayed_count(moment.enters, counted_at_ms=moment.enters_at_ms, at_ms=at_ms)
        return found

    def moments(self, room_id: str, *, at_ms: int) -> Moment:
        """Return what goes on in a room, at most ``MOMENTS_LAG_S`` old; nothing if it is not live."""
        self._follow_moments()
        moment = self._moments.get(room_id)
        return Moment() if moment is None or room_id not in self.rooms else moment.counts.at(at_ms)

    def copy(self) -> Self:
        """Return the rooms as they are now, for another thread to read while this one follows the state.

        Only the rooms are copied, a matter of a millisecond or two; listings are when they change. Products, of which
        there may be a million, are shared: their records are replaced, never changed, so that looking one up is safe,
        but a pass over all of them is not. The other thread may see one newer than its rooms. What goes on in rooms is
        left out, and the copy cannot be refreshed.
        """
        twin = type(self)(self._store, clock=self._clock)
        twin.rooms, twin.products = dict(self.rooms), self.products
        twin._moments_until = float("inf")
        self._own = set()
        return twin

    def _follow_moments(self) -> None:
        now = self._clock()
        if now < self._moments_until:
            return
        records = self._store.read_moments(self._moments_position)
        if self._moments_position is None or records.position.generation != self._moments_position.generation:
            self._moments = {}
        self._moments.update(records.rooms)
        self._moments_position = records.position
        self._moments_until = now + MOMENTS_LAG_S

    def _reload(self) -> Changes:
        with _without_garbage_collection():
            records = self._store.read_catalogue()
            gone_rooms = set(self.rooms)
            self.rooms, self.products, self._not_started = {}, {}, {}
            self._rooms_of_product, self._rooms_of_streamer = {}, {}
            self._moments_position, self._moments_until = None, 0.0
            self._own = set()
            self.position = records.position
            self._take(records)
            self._follow_moments()
            self._moments_until = 0.0  # the next who asks need not wait to hear of what came since
        return Changes(frozenset(gone_rooms | set(self.rooms)), None)

    def _take(self, records: CatalogueRecords) -> Changes | None:
        changed: set[str] = set()
        product_ids = set(records.products)
        gone: list[RoomRecord] = []
        self.products.update(records.products)
        for room_id, record in records.rooms.items():
            was_live = self.rooms.pop(room_id, None)
            before = was_live or self._not_started.pop(room_id, None)
            if was_live is not None and was_live.streamer_id is not None:
                _unfile(self._rooms_of_streamer, was_live.streamer_id, room_id)
            if (before is not None and before.is_live) or (record is not None and record.is_live):
                changed.add(room_id)
            if record is None:
                self._moments.pop(room_id, None)
                self._own.discard(room_id)
                if before is not None:
                    gone.append(before)
                continue
            product_ids.update(record.listings)
            for product_id in record.listings:
                _file(self._rooms_of_product, product_id, room_id)
            room = record if before is None else self._merged(before, record)
            self._own.add(room_id)
            (self.rooms if room.is_live else self._not_started)[room_id] = room
            if room.is_live and room.streamer_id is not None:
                _file(self._rooms_of_streamer, room.streamer_id, room_id)
        # only now: a product may have gone from one of these rooms and come to another, and is not to be forgotten
        for room in gone:
            for product_id in room.listings:
                _unfile(self._rooms_of_product, product_id, room.room_id)
                if product_id not in self._rooms_of_product:
                    self.products.pop(product_id, None)
        for product_id in records.products:
            rooms = self._rooms_of_product.get(product_id)
            if rooms is None:
                self.products.pop(product_id, None)
            elif isinstance(rooms, set):
                changed |= rooms & self.rooms.keys()
            elif rooms in self.rooms:
                changed.add(rooms)
        return Changes(frozenset(changed), frozenset(product_ids)) if changed else None

    def _merged(self, before: RoomRecord, record: RoomRecord) -> RoomRecord:
        """Lay a room's changed record over the one held."""
        listings = before.listings if before.room_id in self._own else dict(before.listings)
        is_seen = listings is not before.listings or _described(before) != _described(record)
        for product_id, listing in record.listings.items():
            known = listings.get(product_id)
            if known is None or known.first != listing.first:
                is_seen = is_seen or _is_early(record, listing.first)
            listings[product_id] = listing
        if is_seen:
            record.listings = listings
            return record
        before.pinned, before.pinned_product_id = record.pinned, record.pinned_product_id
        return before


def _file(rooms_of: dict[str, str | set[str]], key: str, room_id: str) -> None:
    """Note one more room; a set is made only where there are two."""
    rooms = rooms_of.setdefault(key, room_id)
    if isinstance(rooms, set):
        rooms.add(room_id)
    elif rooms != room_id:
        rooms_of[key] = {rooms, room_id}


def _unfile(rooms_of: dict[str, str | set[str]], key: str, room_id: str) -> None:
    """Forget a room, and the key with its last one."""
    rooms = rooms_of[key]
    if isinstance(rooms, set):
        rooms.discard(room_id)
        if rooms:
            return
    del rooms_of[key]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Millions of records are made at once, none of them in a cycle: looking for garbage would double the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _described(room: RoomRecord) -> tuple[object, ...]:
    """What the item encoder sees of a room beside its listings."""
    return room.started, room.streamer_id, room.category, room.title, room.attributes


def _is_early(room: RoomRecord, first: Stamp | None) -> bool:
    """Whether the item encoder may see a product of a room that was first listed then."""
    return first is not None and (room.started is None or first[0] <= room.started[0] + ROOM_LISTING_WINDOW_MS)
