"""The live catalogue in a replica's memory: a copy of what the state store says about rooms that are live."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from roomrec.policy.fallback import decayed_count
from roomrec.retrieval.availability import ProductRecord, RoomRecord, available_products
from serving.state.event_log import EventLog
from serving.state.state_store import CatalogueRecords, Enters, Position, StateStore


class Changes(NamedTuple):
    """What a refresh may have changed."""

    room_ids: frozenset[str]
    """rooms whose record, or one of whose products, is not what it was"""
    product_ids: frozenset[str] | None
    """products of those rooms whose record or listing may have changed; None for any"""


class LiveCatalogue:
    """Live rooms, the products listed there, and how many viewers enter.

    ``refresh`` asks the state how far it has come, and reads only what the log has touched since. Called before every
    answer, it makes an accepted event visible to the next request on every replica.

    Args:
        store: Where records come from.
        log: Says which records an event touches; a connection of its own, since other threads write.
    """

    def __init__(self, store: StateStore, log: EventLog) -> None:
        self._store = store
        self._log = log
        self.position = Position(-1, 0)
        self.rooms: dict[str, RoomRecord] = {}
        self.products: dict[str, ProductRecord] = {}
        self._enters: dict[str, Enters] = {}
        self._rooms_of_product: dict[str, set[str]] = {}

    def refresh(self, position: Position | None = None) -> Changes | None:
        """Follow the state.

        Args:
            position: How far the state has come, if already known.

        Returns:
            What may have changed, None if nothing.

        Raises:
            StateError: If the state or the log cannot be read.
        """
        position = position or self._store.position()
        if position == self.position:
            return None
        if position.generation != self.position.generation or position.applied_seq < self.position.applied_seq:
            return self._reload()
        touched = self._log.touched(after=self.position.applied_seq, until=position.applied_seq)
        product_ids = touched.product_ids & self._rooms_of_product.keys()
        changed = set(touched.room_ids)
        if changed or product_ids:
            records = self._store.read_records(
                room_ids=changed, product_ids=product_ids, known_product_ids=self.products.keys()
            )
            if records.position.generation != position.generation:
                return self._reload()
        for product_id in product_ids:
            changed |= self._rooms_of_product[product_id]
        if changed or product_ids:
            self._take(records)
        if entered := touched.entered_room_ids & self.rooms.keys():
            self._enters.update(self._store.read_enters(entered))
        self.position = position
        if not changed:
            return None
        return Changes(frozenset(changed), frozenset(touched.product_ids))

    def available_products(self, room_id: str) -> list[str]:
        """Return the products of a room that can be bought now, ascending; none if it is not live."""
        room = self.rooms.get(room_id)
        return [] if room is None else available_products(room, self.products)

    def enters(self, *, at_ms: int) -> dict[str, float]:
        """Return the decayed count of enters of each live room that had any."""
        return {
            room_id: decayed_count(count, counted_at_ms=counted_at_ms, at_ms=at_ms)
            for room_id, (count, counted_at_ms) in self._enters.items()
        }

    def copy(self) -> Self:
        """Return the catalogue as it is now, for another thread to read while this one follows the log."""
        twin = type(self)(self._store, self._log)
        twin.position = self.position
        twin.rooms, twin.products = dict(self.rooms), dict(self.products)
        twin._enters = dict(self._enters)
        twin._rooms_of_product = {product_id: set(rooms) for product_id, rooms in self._rooms_of_product.items()}
        return twin

    def _reload(self) -> Changes:
        records = self._store.read_catalogue()
        gone_rooms = set(self.rooms)
        self.rooms, self.products, self._enters, self._rooms_of_product = {}, {}, {}, {}
        self.position = records.position
        self._take(records)
        return Changes(frozenset(gone_rooms | set(self.rooms)), None)

    def _take(self, records: CatalogueRecords) -> None:
        for product_id, product in records.products.items():
            if product is not None:
                self.products[product_id] = product
        gone: list[tuple[str, Iterable[str]]] = []
        for room_id, room in records.rooms.items():
            before = self.rooms.pop(room_id, None)
            listed_before = before.listings.keys() if before else set[str]()
            listed = room.listings.keys() if room is not None and room.is_live else set[str]()
            if room is not None and room.is_live:
                self.rooms[room_id] = room
                if room_id in records.enters:
                    self._enters[room_id] = records.enters[room_id]
            else:
                self._enters.pop(room_id, None)
            self._file(room_id, listed - listed_before)
            gone.append((room_id, listed_before - listed))
        # only now: a product may have gone from one of these rooms and come to another, and is not to be forgotten
        for room_id, product_ids in gone:
            self._unfile(room_id, product_ids)
        for product_id in records.products.keys() - self._rooms_of_product.keys():
            self.products.pop(product_id, None)

    def _file(self, room_id: str, product_ids: Iterable[str]) -> None:
        for product_id in product_ids:
            self._rooms_of_product.setdefault(product_id, set()).add(room_id)

    def _unfile(self, room_id: str, product_ids: Iterable[str]) -> None:
        for product_id in product_ids:
            rooms = self._rooms_of_product[product_id]
            rooms.discard(room_id)
            if not rooms:
                del self._rooms_of_product[product_id]
                self.products.pop(product_id, None)
