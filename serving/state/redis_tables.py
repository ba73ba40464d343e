"""What lies in Redis of one generation of the state: its keys, what is read together, and what a batch writes."""

from collections.abc import Iterable, Mapping
from itertools import islice
from math import inf
from typing import Any, Final, NamedTuple

import msgspec
import redis

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
from serving.state.redis_connection import RedisConnection
from serving.state.state_store import CatalogueRecords, MomentRecords, Position

_FIELDS_AT_ONCE = 1_000
_CHANGES_AT_ONCE = 100


class Standing(NamedTuple):
    """Where a generation stands, and whether it is still what its owner key names."""

    owner: int | None
    """the generation that the owner key names"""
    packed: bytes
    """the position as stored, empty before the first event; changes with every write, so it guards them"""
    position: Position
    edits: int
    """how often something was written that is no event"""


class Writes:
    """Commands to be carried out together: each changes one key."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[Any] = []
        self._places: dict[bytes, int] = {}

    def add(self, command: str, key: bytes, *arguments: Any) -> None:
        """Add a command whose first argument is its key."""
        place = self._places.get(key)
        if place is None:
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        self.values += (len(arguments), command, place, *arguments)

    def add_fields(self, key: bytes, fields: Mapping[str, bytes]) -> None:
        """Set fields of a hash, in pieces that a script can pass on."""
        left = iter(fields.items())
        while some := list(islice(left, _FIELDS_AT_ONCE)):
            self.add("HSET", key, *(part for pair in some for part in pair))


class RedisTables:
    """Records of one generation.

    Viewers have a key each, so that they can expire. ``rooms`` (without their listings), ``ended``, ``products`` and
    ``moments`` are hashes by id, and so are the listings of each room. ``moments-by-seq`` says which moments changed
    last, ``changes`` is the feed replicas follow: a stream whose ids begin with the place in the log.

    Args:
        connection: Where they are.
        owner: Key that names the generation that counts: the live one, or the one being built.
        generation: Which one this is.
        rules: Number of the rules it was made by.
        history_limit: Most events remembered for a viewer.
        user_ttl_s: How long a viewer who does nothing is remembered, None for ever.
    """

    def __init__(
        self,
        connection: RedisConnection,
        *,
        owner: bytes,
        generation: int,
        rules: int,
        history_limit: int,
        user_ttl_s: int | None,
    ) -> None:
        self.owner: Final = owner
        self.generation: Final = generation
        self.rules: Final = rules
        self.history_limit: Final = history_limit
        self.name: Final = str(generation).encode()
        self._expiry = () if user_ttl_s is None else ("EX", user_ttl_s)
        prefix = connection.key("state", str(generation), "")
        self.position_key: Final = prefix + b"position"
        self.made_with_key: Final = prefix + b"made-with"
        self._user, self._listings_of = prefix + b"user:", prefix + b"listings:"
        self._rooms, self._ended = prefix + b"rooms", prefix + b"ended"
        self._products, self._moments = prefix + b"products", prefix + b"moments"
        self._moments_by_seq, self._changes = prefix + b"moments-by-seq", prefix + b"changes"
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode_position = msgspec.msgpack.Decoder(tuple[int, int, int, int]).decode
        self._decode_user = msgspec.msgpack.Decoder(StoredUser).decode
        self._decode_room = msgspec.msgpack.Decoder(RoomRecord).decode
        self._decode_listing = msgspec.msgpack.Decoder(Listing).decode
        self._decode_product = msgspec.msgpack.Decoder(ProductRecord).decode
        self._decode_moment = msgspec.msgpack.Decoder(RoomMoment).decode
        self._decode_change = msgspec.msgpack.Decoder(Change).decode

    def user_key(self, user_id: str) -> bytes:
        """Return the key of a viewer's record."""
        return self._user + user_id.encode()

    def standing(self, owner: bytes | None, packed: bytes | None) -> Standing:
        """Read the values of the owner key and the position key."""
        position, edits = Position(self.generation, 0, 0), 0
        if packed is not None:
            *place, edits = self._decode_position(packed)
            position = Position(*place)
        return Standing(None if owner is None else int(owner), packed or b"", position, edits)

    def pack(self, position: Position, *, edits: int) -> bytes:
        """Return a position as stored."""
        return self._encode((*position, edits))

    def load(self, client: redis.Redis, needed: Needed) -> tuple[Standing, Loaded]:
        """Read the records a batch of events needs, and where the state stood before them, in one round trip."""
        listings: dict[str, list[str]] = {}
        for room_id, product_id in needed.listings:
            listings.setdefault(room_id, []).append(product_id)
        pipeline = client.pipeline(transaction=False)
        pipeline.mget(self.owner, self.position_key)
        if needed.users:
            pipeline.mget(*map(self.user_key, needed.users))
        for key, ids in self._hashes(needed):
            pipeline.hmget(key, ids)
        for room_id, product_ids in listings.items():
            pipeline.hmget(self._listings(room_id), product_ids)
        found = iter(pipeline.execute())
        standing = self.standing(*next(found))
        loaded = Loaded({}, {}, set(), {}, {})
        if needed.users:
            loaded.users.update(_decoded(needed.users, next(found), self._decode_user))
        for key, ids in self._hashes(needed):
            packed = next(found)
            if key is self._rooms:
                loaded.rooms.update(_decoded(ids, packed, self._decode_room))
            elif key is self._ended:
                loaded.ended.update(room_id for room_id, stamp in zip(ids, packed, strict=True) if stamp is not None)
            elif key is self._products:
                loaded.products.update(_decoded(ids, packed, self._decode_product))
            else:
                loaded.moments.update(_decoded(ids, packed, self._decode_moment))
        for room_id, product_ids in listings.items():
            packed = next(found)
            if room_id in loaded.rooms:
                loaded.rooms[room_id].listings.update(_decoded(product_ids, packed, self._decode_listing))
        return standing, loaded

    def write(self, writes: Writes, applied: Applied) -> None:
        """Add what a batch of events has changed, and put it on the feed."""
        encode = self._encode
        for user_id, user in applied.users.items():
            writes.add("SET", self.user_key(user_id), encode(user), *self._expiry)
        for room_id, room in applied.rooms.items():
            if room is None:
                writes.add("HDEL", self._rooms, room_id)
                writes.add("UNLINK", self._listings(room_id))
                writes.add("HDEL", self._moments, room_id)
                writes.add("ZREM", self._moments_by_seq, room_id)
                continue
            writes.add("HSET", self._rooms, room_id, encode(without_listings(room)))
            writes.add_fields(self._listings(room_id), {name: encode(each) for name, each in room.listings.items()})
        for room_id, stamp in applied.ended.items():
            writes.add("HSETNX", self._ended, room_id, encode(stamp))
        writes.add_fields(self._products, {name: encode(each) for name, each in applied.products.items()})
        for room_id, moment in applied.moments.items():
            writes.add("HSET", self._moments, room_id, encode(moment))
            writes.add("ZADD", self._moments_by_seq, moment.changed_seq, room_id)
        for place, change in enumerate(changes_of(applied) if applied.catalogue_seq else ()):
            writes.add("XADD", self._changes, f"{applied.catalogue_seq}-{place}", "change", encode(change))
        if applied.catalogue_seq:
            writes.add("XTRIM", self._changes, "MAXLEN", KEPT_CHANGES)

    def catalogue(self, client: redis.Redis) -> tuple[Standing, CatalogueRecords]:
        """Read every room that has not ended, then what is listed there, then the products.

        What is read later may be newer than the position, which is read first. Laying the changes since that position
        over it makes all of it right, for they say what was, not by how much it changed.
        """
        pipeline = client.pipeline(transaction=True)
        pipeline.mget(self.owner, self.position_key)
        pipeline.hgetall(self._rooms)
        (_, first), packed_rooms = pipeline.execute()
        found = CatalogueRecords(self.standing(None, first).position, {}, {})
        pipeline = client.pipeline(transaction=False)
        rooms = [self._decode_room(packed) for packed in packed_rooms.values()]
        for room in rooms:
            pipeline.hgetall(self._listings(room.room_id))
        for room, listings in zip(rooms, pipeline.execute() if rooms else (), strict=True):
            room.listings.update((name.decode(), self._decode_listing(packed)) for name, packed in listings.items())
            slim_listings(room.listings)
            found.rooms[room.room_id] = room
        listed = list({product_id for room in rooms for product_id in room.listings})
        for start in range(0, len(listed), _FIELDS_AT_ONCE):
            some = listed[start : start + _FIELDS_AT_ONCE]
            products = _decoded(some, client.hmget(self._products, some), self._decode_product)
            found.products.update((product_id, slim_product(product)) for product_id, product in products)
        return self.standing(*client.mget(self.owner, self.position_key)), found

    def changes(self, client: redis.Redis, since: Position) -> tuple[Standing, CatalogueRecords | None]:
        """Read what has changed of the catalogue, None if the feed no longer says all of it.

        Much is read in pieces, so that no answer is long in coming. The feed is only ever added to, so the pieces
        together are what one answer would have been at the instant of the last.
        """
        found = CatalogueRecords(since, {}, {})
        read_to, begin = (since.catalogue_seq, inf), f"{since.catalogue_seq + 1}-0"
        while True:
            pipeline = client.pipeline(transaction=True)
            pipeline.mget(self.owner, self.position_key)
            pipeline.xrange(self._changes, count=1)
            pipeline.xrange(self._changes, min=begin, count=_CHANGES_AT_ONCE)
            keys, oldest, rows = pipeline.execute()
            standing = self.standing(*keys)
            position = standing.position
            if since == position:
                return standing, found
            told_since = _place(oldest[0][0]) if oldest else (0, 0)
            is_whole = told_since <= read_to and since.catalogue_seq <= position.catalogue_seq
            if since.generation != position.generation or not is_whole:
                return standing, None
            for _, fields in rows:
                lay_over(found, self._decode_change(fields[b"change"]))
            if len(rows) < _CHANGES_AT_ONCE:
                return standing, found._replace(position=position)
            read_to, begin = _place(rows[-1][0]), f"({rows[-1][0].decode()}"

    def moments(self, client: redis.Redis, since: Position | None) -> tuple[Standing, MomentRecords]:
        """Read the moments counted after ``since``."""
        after = since.applied_seq if since is not None and since.generation == self.generation else 0
        pipeline = client.pipeline(transaction=True)
        pipeline.mget(self.owner, self.position_key)
        pipeline.zrangebyscore(self._moments_by_seq, f"({after}", "+inf")
        keys, names = pipeline.execute()
        standing = self.standing(*keys)
        ids = [name.decode() for name in names]
        packed = client.hmget(self._moments, ids) if ids else []
        return standing, MomentRecords(standing.position, dict(_decoded(ids, packed, self._decode_moment)))

    def _hashes(self, needed: Needed) -> list[tuple[bytes, list[str]]]:
        wanted = (
            (self._rooms, needed.rooms),
            (self._ended, needed.rooms),
            (self._products, needed.products),
            (self._moments, needed.moments),
        )
        return [(key, list(ids)) for key, ids in wanted if ids]

    def _listings(self, room_id: str) -> bytes:
        return self._listings_of + room_id.encode()


def _place(change_id: bytes) -> tuple[int, float]:
    seq, _, nth = change_id.partition(b"-")
    return int(seq), int(nth)


def _decoded(ids: Iterable[str], packed: Iterable[bytes | None], decode: Any) -> Iterable[tuple[str, Any]]:
    """Pair ids with their records, leaving out those that do not exist."""
    return ((name, decode(each)) for name, each in zip(ids, packed, strict=True) if each is not None)
