"""What lies in the LMDB environment of the state: one database a kind of record, read and written in a transaction."""

import hashlib
from collections.abc import Iterator
from typing import Final

import lmdb
import msgspec

from roomrec.retrieval.availability import Listing, ProductRecord, RoomRecord
from serving.state.applying import Applied, Loaded, Needed
from serving.state.changes import (
    KEPT_CHANGES,
    Change,
    changes_of,
    lay_over,
    slim_listings,
    slim_product,
    without_listings,
)
from serving.state.records import RoomMoment, StoredUser
from serving.state.state_store import CatalogueRecords, MomentRecords, Position

_DATABASES = ("meta", "users", "rooms", "listings", "ended", "products", "moments", "moments_by_seq", "changes")
_FOLLOWED = ("moments_by_seq", "changes")  # made from the others, and not what a state is
_MAX_KEY_BYTES = 500
_MAX_HALF_KEY_BYTES = 240


class _StoredListing(msgspec.Struct, array_like=True):
    product_id: str
    listing: Listing


class LmdbTables:
    """Records as they lie in one environment; every method works inside a transaction of the caller.

    ``rooms`` holds rooms without their listings, so that one of tens of thousands can be changed alone; ``listings``
    has them under the room's key and the product's. ``changes`` is the feed replicas follow, ``moments_by_seq`` says
    which moments changed last.

    Args:
        environment: The environment, with room for ``MAX_DATABASES``.
    """

    MAX_DATABASES: Final = 16

    def __init__(self, environment: lmdb.Environment) -> None:
        self._databases = {name: environment.open_db(name.encode()) for name in _DATABASES}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode_position = msgspec.msgpack.Decoder(Position).decode
        self._decode_number = msgspec.msgpack.Decoder(int).decode
        self._decode_user = msgspec.msgpack.Decoder(StoredUser).decode
        self._decode_room = msgspec.msgpack.Decoder(RoomRecord).decode
        self._decode_listing = msgspec.msgpack.Decoder(_StoredListing).decode
        self._decode_product = msgspec.msgpack.Decoder(ProductRecord).decode
        self._decode_moment = msgspec.msgpack.Decoder(RoomMoment).decode
        self._decode_change = msgspec.msgpack.Decoder(Change).decode

    def position(self, transaction: lmdb.Transaction) -> Position:
        """Return how far the state has come."""
        packed = transaction.get(b"position", db=self._databases["meta"])
        return Position(0, 0, 0) if packed is None else self._decode_position(packed)

    def set_position(self, transaction: lmdb.Transaction, position: Position) -> None:
        """Say how far the state has come."""
        transaction.put(b"position", self._encode(position), db=self._databases["meta"])

    def number(self, transaction: lmdb.Transaction, name: str) -> int:
        """Return what the state was made with, 0 if it never was."""
        packed = transaction.get(name.encode(), db=self._databases["meta"])
        return 0 if packed is None else self._decode_number(packed)

    def set_number(self, transaction: lmdb.Transaction, name: str, value: int) -> None:
        """Say what the state was made with."""
        transaction.put(name.encode(), self._encode(value), db=self._databases["meta"])

    def clear(self, transaction: lmdb.Transaction) -> None:
        """Remove every record; the position starts again in another generation."""
        for name, database in self._databases.items():
            if name != "meta":
                transaction.drop(database, delete=False)
        self.set_number(transaction, "changes_since", 0)
        self.set_position(transaction, Position(self.position(transaction).generation + 1, 0, 0))

    def load(self, transaction: lmdb.Transaction, needed: Needed) -> Loaded:
        """Read the records a batch of events needs."""
        get, databases = transaction.get, self._databases
        loaded = Loaded({}, {}, set(), {}, {})
        for user_id in needed.users:
            if (packed := get(_user_key(user_id), db=databases["users"])) is not None:
                loaded.users[user_id] = self._decode_user(packed)
        for room_id in needed.rooms:
            if (packed := get(_key(room_id), db=databases["rooms"])) is not None:
                loaded.rooms[room_id] = self._decode_room(packed)
            elif get(_key(room_id), db=databases["ended"]) is not None:
                loaded.ended.add(room_id)
        for room_id, product_id in needed.listings:
            packed = get(_listing_key(room_id, product_id), db=databases["listings"])
            if packed is not None:
                loaded.rooms[room_id].listings[product_id] = self._decode_listing(packed).listing
        for product_id in needed.products:
            if (packed := get(_key(product_id), db=databases["products"])) is not None:
                loaded.products[product_id] = self._decode_product(packed)
        for room_id in needed.moments:
            if (packed := get(_key(room_id), db=databases["moments"])) is not None:
                loaded.moments[room_id] = self._decode_moment(packed)
        return loaded

    def write(self, transaction: lmdb.Transaction, applied: Applied) -> None:
        """Write what a batch of events has changed, and put it on the feed."""
        put, databases, encode = transaction.put, self._databases, self._encode
        for user_id, user in applied.users.items():
            put(_user_key(user_id), encode(user), db=databases["users"])
        for room_id, room in applied.rooms.items():
            if room is None:
                transaction.delete(_key(room_id), db=databases["rooms"])
                self._drop_listings(transaction, room_id)
                self._drop_moment(transaction, room_id)
                continue
            for product_id, listing in room.listings.items():
                stored = _StoredListing(product_id, listing)
                put(_listing_key(room_id, product_id), encode(stored), db=databases["listings"])
            put(_key(room_id), encode(without_listings(room)), db=databases["rooms"])
        for room_id, stamp in applied.ended.items():
            put(_key(room_id), encode(stamp), db=databases["ended"], overwrite=False)
        for product_id, product in applied.products.items():
            put(_key(product_id), encode(product), db=databases["products"])
        for room_id, moment in applied.moments.items():
            self._drop_moment(transaction, room_id)
            put(_key(room_id), encode(moment), db=databases["moments"])
            put(_moment_key(moment.changed_seq, room_id), room_id.encode(), db=databases["moments_by_seq"])
        self._feed(transaction, applied)

    def user(self, transaction: lmdb.Transaction, user_id: str) -> bytes | None:
        """Return a viewer's record as stored."""
        packed = transaction.get(_user_key(user_id), db=self._databases["users"])
        return None if packed is None else bytes(packed)

    def pop_user(self, transaction: lmdb.Transaction, user_id: str) -> StoredUser | None:
        """Remove a viewer's record and return it."""
        packed = transaction.pop(_user_key(user_id), db=self._databases["users"])
        return None if packed is None else self._decode_user(packed)

    def has_ended(self, transaction: lmdb.Transaction, room_id: str) -> bool:
        """Return whether a room's end has been heard of."""
        return transaction.get(_key(room_id), db=self._databases["ended"]) is not None

    def catalogue(self, transaction: lmdb.Transaction) -> CatalogueRecords:
        """Return every room that has not ended with its listings, and the products listed there."""
        rooms: dict[str, RoomRecord | None] = {}
        listed: set[str] = set()
        for _, packed in transaction.cursor(db=self._databases["rooms"]):
            room = self._decode_room(packed)
            for _, packed_listing in self._listings(transaction, room.room_id):
                stored = self._decode_listing(packed_listing)
                room.listings[stored.product_id] = stored.listing
            slim_listings(room.listings)
            listed.update(room.listings)
            rooms[room.room_id] = room
        products = {}
        for product_id in listed:
            if (packed := transaction.get(_key(product_id), db=self._databases["products"])) is not None:
                products[product_id] = slim_product(self._decode_product(packed))
        return CatalogueRecords(self.position(transaction), rooms, products)

    def changes(self, transaction: lmdb.Transaction, since: Position) -> CatalogueRecords | None:
        """Return what has changed of the catalogue, None if the feed no longer says all of it."""
        position = self.position(transaction)
        if since.generation != position.generation or not (
            self.number(transaction, "changes_since") <= since.catalogue_seq <= position.catalogue_seq
        ):
            return None
        found = CatalogueRecords(position, {}, {})
        cursor = transaction.cursor(db=self._databases["changes"])
        if since.catalogue_seq < position.catalogue_seq and cursor.set_range(_seq_key(since.catalogue_seq + 1)):
            for packed in cursor.iternext(keys=False):
                lay_over(found, self._decode_change(packed))
        return found

    def moments(self, transaction: lmdb.Transaction, since: Position | None) -> MomentRecords:
        """Return the moments counted after ``since``."""
        position = self.position(transaction)
        found = MomentRecords(position, {})
        after = since.applied_seq if since is not None and since.generation == position.generation else 0
        cursor = transaction.cursor(db=self._databases["moments_by_seq"])
        if cursor.set_range(_seq_key(after + 1)):
            for value in cursor.iternext(keys=False):
                room_id = bytes(value).decode()
                packed = transaction.get(_key(room_id), db=self._databases["moments"])
                found.rooms[room_id] = self._decode_moment(packed)
        return found

    def contents(self, transaction: lmdb.Transaction) -> dict[str, dict[bytes, bytes]]:
        """Return every record as stored."""
        return {
            name: {bytes(key): bytes(value) for key, value in transaction.cursor(db=database)}
            for name, database in self._databases.items()
            if name != "meta" and name not in _FOLLOWED
        }

    def _listings(self, transaction: lmdb.Transaction, room_id: str) -> Iterator[tuple[bytes, bytes]]:
        prefix = _listing_prefix(room_id)
        cursor = transaction.cursor(db=self._databases["listings"])
        if not cursor.set_range(prefix):
            return
        for key, packed in cursor:
            if not key.startswith(prefix):
                return
            yield key, packed

    def _drop_listings(self, transaction: lmdb.Transaction, room_id: str) -> None:
        for key in [bytes(key) for key, _ in self._listings(transaction, room_id)]:
            transaction.delete(key, db=self._databases["listings"])

    def _drop_moment(self, transaction: lmdb.Transaction, room_id: str) -> None:
        packed = transaction.pop(_key(room_id), db=self._databases["moments"])
        if packed is not None:
            key = _moment_key(self._decode_moment(packed).changed_seq, room_id)
            transaction.delete(key, db=self._databases["moments_by_seq"])

    def _feed(self, transaction: lmdb.Transaction, applied: Applied) -> None:
        if not applied.catalogue_seq:
            return
        database = self._databases["changes"]
        for place, change in enumerate(changes_of(applied)):
            transaction.put(_seq_key(applied.catalogue_seq, place), self._encode(change), db=database)
        surplus = transaction.stat(database)["entries"] - KEPT_CHANGES
        if surplus <= 0:
            return
        cursor = transaction.cursor(db=database)
        cursor.first()
        for _ in range(surplus):
            dropped = int.from_bytes(cursor.key()[:8], "big")
            cursor.delete()
        self.set_number(transaction, "changes_since", dropped)


def _key(external_id: str, *, most: int = _MAX_KEY_BYTES) -> bytes:
    """An id as an LMDB key, which has at most 511 bytes: the few ids that are longer in UTF-8 are hashed."""
    key = external_id.encode()
    return key if len(key) <= most else hashlib.sha256(key).digest()


def _user_key(user_id: str) -> bytes:
    """A viewer's id as an LMDB key: a hash, since a deleted key may stay for years as a signpost of the tree."""
    return hashlib.blake2b(user_id.encode(), digest_size=16).digest()


def _listing_prefix(room_id: str) -> bytes:
    """The room's part of a listing's key: its length comes first, since any letter may be part of an id."""
    key = _key(room_id, most=_MAX_HALF_KEY_BYTES)
    return bytes([len(key)]) + key


def _listing_key(room_id: str, product_id: str) -> bytes:
    return _listing_prefix(room_id) + _key(product_id, most=_MAX_HALF_KEY_BYTES)


def _seq_key(seq: int, place: int = 0) -> bytes:
    return seq.to_bytes(8, "big") + place.to_bytes(4, "big")


def _moment_key(seq: int, room_id: str) -> bytes:
    return seq.to_bytes(8, "big") + _key(room_id, most=_MAX_KEY_BYTES)
