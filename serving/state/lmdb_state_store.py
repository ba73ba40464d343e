"""State in one LMDB environment, shared by all processes of a machine."""

import fcntl
import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
import msgspec

from roomrec.errors import StateError
from roomrec.policy.fallback import add_enter
from roomrec.retrieval.availability import (
    CATALOGUE_EVENT_TYPES,
    ProductRecord,
    RoomRecord,
    Stamp,
    apply_to_product,
    apply_to_room,
)
from serving.state.event_log import Event, EventLog
from serving.state.records import UserRecord, apply_to_user
from serving.state.state_store import CatalogueRecords, Enters, Erased, Position

_RULES: Final = 3
"""Raised when an event changes records in another way than before: a state made by other rules is made again."""

_DATABASES = ("meta", "users", "rooms", "ended", "products", "enters")
_PRODUCT_EVENT_TYPES = frozenset({"product_listed", "product_unlisted", "stock_changed"})
_MAX_KEY_BYTES = 500
_CHUNK = 5_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEFAULT_MAP_BYTES: Final = 64 << 30


class _RoomHead(msgspec.Struct, array_like=True):
    """How a ``RoomRecord`` begins."""

    room_id: str
    started: Stamp | None = None


class LmdbStateStore:
    """State in LMDB, shared by all processes of one machine; opened once per process.

    Writes are not synced: a killed process loses nothing, since the log has every event and ``applied_seq`` is written
    in the same transaction as what it speaks of. After a restart of the machine the file is not trusted: it is dropped
    and made again from the log.

    Args:
        path: Folder of the environment; made if missing.
        log: The log this is a view of.
        history_limit: Most events remembered for a viewer. A larger limit than the one the state was made with rebuilds
            it.
        map_bytes: Most bytes the file may grow to; address space, not memory.
        may_shrink: Whether a smaller limit than the state was made with counts.

    Raises:
        StateError: If it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        log: EventLog,
        *,
        history_limit: int,
        map_bytes: int = _DEFAULT_MAP_BYTES,
        may_shrink: bool = True,
    ) -> None:
        if history_limit < 1:
            raise ValueError(f"history_limit must be at least 1, received {history_limit}")
        self._path = path
        self._log = log
        try:
            path.mkdir(parents=True, exist_ok=True)
            with (path / "open.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                _drop_if_rebooted(path)
                self._environment = lmdb.open(
                    str(path), map_size=map_bytes, max_dbs=len(_DATABASES), sync=False, max_readers=512
                )
                self._environment.reader_check()  # a killed reader would keep old pages from being used again
                self._databases = {name: self._environment.open_db(name.encode()) for name in _DATABASES}
        except (lmdb.Error, OSError) as error:
            raise StateError(f"state {path} cannot be opened: {error}; `rebuild-state` makes it again") from error
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode_user = msgspec.msgpack.Decoder(UserRecord).decode
        self._decode_room = msgspec.msgpack.Decoder(RoomRecord).decode
        self._decode_head = msgspec.msgpack.Decoder(_RoomHead).decode
        self._decode_product = msgspec.msgpack.Decoder(ProductRecord).decode
        self._decode_enters = msgspec.msgpack.Decoder(Enters).decode
        self._decode_meta = msgspec.msgpack.Decoder(int).decode
        with self._transaction() as transaction:
            made_with = self._meta(transaction, "history_limit")
            self._history_limit = history_limit if may_shrink else max(history_limit, made_with)
            is_short = made_with < self._history_limit
            if (is_short or self._meta(transaction, "rules") != _RULES) and self._meta(transaction, "applied_seq"):
                self._clear(transaction)
            self._set_meta(transaction, "rules", _RULES)
            self._set_meta(transaction, "history_limit", self._history_limit)

    def catch_up(self) -> Position:
        """Apply the events of the log that have not been applied, in one transaction.

        Any process may call it, at any time: the write lock lets one work at a time, and the next finds the rest.

        Returns:
            How far the state has come.

        Raises:
            StateError: If the log cannot be read or the state cannot be written; nothing has changed then.
        """
        with self._transaction() as transaction:
            return self._apply_log(transaction)

    def rebuild(self) -> Position:
        """Forget everything and apply the whole log, in one transaction.

        Raises:
            StateError: As ``catch_up``.
        """
        with self._transaction() as transaction:
            self._clear(transaction)
            return self._apply_log(transaction)

    def position(self) -> Position:
        """Return how far the state has come; costs microseconds."""
        with self._reading() as transaction:
            return self._position(transaction)

    def read_user(self, user_id: str) -> tuple[Position, UserRecord | None]:
        """Return what is known of a viewer, None if nothing, and how far the state had come then."""
        with self._reading() as transaction:
            packed = transaction.get(_key(user_id), db=self._databases["users"])
            return self._position(transaction), None if packed is None else self._decode_user(packed)

    def read_catalogue(self) -> CatalogueRecords:
        """Return every room that has not ended, and the products listed there."""
        with self._reading() as transaction:
            rooms = [self._decode_room(value) for _, value in transaction.cursor(db=self._databases["rooms"])]
            return self._records(transaction, {room.room_id: room for room in rooms}, (), ())

    def read_records(
        self, *, room_ids: Collection[str], product_ids: Collection[str], known_product_ids: Collection[str]
    ) -> CatalogueRecords:
        """Return some rooms and products as they are now.

        Args:
            room_ids: Rooms to read.
            product_ids: Products to read.
            known_product_ids: Products listed in those rooms that need not be read.
        """
        with self._reading() as transaction:
            rooms: dict[str, RoomRecord | None] = {}
            for room_id in room_ids:
                packed = transaction.get(_key(room_id), db=self._databases["rooms"])
                rooms[room_id] = None if packed is None else self._decode_room(packed)
            return self._records(transaction, rooms, product_ids, known_product_ids)

    def read_enters(self, room_ids: Collection[str]) -> dict[str, Enters]:
        """Return how many viewers enter some rooms; rooms that nobody entered, or that ended, are left out."""
        with self._reading() as transaction:
            return self._counts(transaction, room_ids)

    def has_ended(self, room_id: str) -> bool:
        """Return whether a room's end has been heard of."""
        with self._reading() as transaction:
            return transaction.get(_key(room_id), db=self._databases["ended"]) is not None

    def erase_user(self, user_id: str) -> Erased:
        """Remove what is known of a viewer.

        Raises:
            StateError: If the state cannot be written.
        """
        with self._transaction() as transaction:
            packed = transaction.pop(_key(user_id), db=self._databases["users"])
            if packed is None:
                return Erased(0, 0, 0)
            user = self._decode_user(packed)
            return Erased(len(user.events), len(user.follows), sum(map(len, user.refused.values())))

    def contents(self) -> dict[str, dict[bytes, bytes]]:
        """Return every record as stored, for comparing two states."""
        with self._reading() as transaction:
            return {
                name: {bytes(key): bytes(value) for key, value in transaction.cursor(db=database)}
                for name, database in self._databases.items()
                if name != "meta"
            }

    def close(self) -> None:
        """Close the environment; it can then be opened again in this process."""
        self._environment.close()

    def _apply_log(self, transaction: lmdb.Transaction) -> Position:
        applied_seq = self._meta(transaction, "applied_seq")
        if applied_seq > self._log.last_seq():
            self._clear(transaction)
            applied_seq = 0
        while entries := self._log.read(after=applied_seq, limit=_CHUNK):
            chunk = _Chunk(self, transaction)
            for entry in entries:
                chunk.apply(entry.event)
            chunk.write()
            applied_seq = entries[-1].seq
        self._set_meta(transaction, "applied_seq", applied_seq)
        return self._position(transaction)

    def _clear(self, transaction: lmdb.Transaction) -> None:
        for name, database in self._databases.items():
            if name != "meta":
                transaction.drop(database, delete=False)
        self._set_meta(transaction, "applied_seq", 0)
        self._set_meta(transaction, "generation", self._meta(transaction, "generation") + 1)

    def _records(
        self,
        transaction: lmdb.Transaction,
        rooms: dict[str, Any],
        product_ids: Collection[str],
        known_product_ids: Collection[str],
    ) -> CatalogueRecords:
        wanted = set(product_ids)
        for room in rooms.values():
            if room is not None:
                wanted.update(room.listings.keys() - known_product_ids)
        products: dict[str, ProductRecord | None] = {}
        for product_id in wanted:
            packed = transaction.get(_key(product_id), db=self._databases["products"])
            products[product_id] = None if packed is None else self._decode_product(packed)
        return CatalogueRecords(self._position(transaction), rooms, products, self._counts(transaction, rooms))

    def _counts(self, transaction: lmdb.Transaction, room_ids: Iterable[str]) -> dict[str, Enters]:
        enters = {}
        for room_id in room_ids:
            packed = transaction.get(_key(room_id), db=self._databases["enters"])
            if packed is not None:
                enters[room_id] = self._decode_enters(packed)
        return enters

    def _position(self, transaction: lmdb.Transaction) -> Position:
        return Position(self._meta(transaction, "generation"), self._meta(transaction, "applied_seq"))

    def _meta(self, transaction: lmdb.Transaction, name: str) -> int:
        packed = transaction.get(name.encode(), db=self._databases["meta"])
        return 0 if packed is None else self._decode_meta(packed)

    def _set_meta(self, transaction: lmdb.Transaction, name: str, value: int) -> None:
        transaction.put(name.encode(), self._encode(value), db=self._databases["meta"])

    @contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._environment.begin(write=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StateError(f"state {self._path} cannot be written: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StateError(f"state {self._path} cannot be read: {error}") from error


def drop_state(path: Path) -> None:
    """Remove a state that no process has open; the log makes it again."""
    for name in ("data.mdb", "lock.mdb"):
        (path / name).unlink(missing_ok=True)


class _Chunk:
    """Records read and changed while a piece of the log is applied, written once at its end."""

    def __init__(self, store: LmdbStateStore, transaction: lmdb.Transaction) -> None:
        self._store = store
        self._transaction = transaction
        self._users: dict[str, UserRecord] = {}
        self._rooms: dict[str, RoomRecord | None] = {}
        self._products: dict[str, ProductRecord] = {}
        self._enters: dict[str, Enters | None] = {}
        self._changed_users: set[str] = set()
        self._ended: dict[str, tuple[int, str]] = {}

    def apply(self, event: Event) -> None:
        event_type: str = event["event_type"]
        room_id: str = event.get("room_id") or ""  # types that use it need it
        if event_type == "room_end":
            self._rooms[room_id] = self._enters[room_id] = None
            self._ended[room_id] = (event["occurred_at_ms"], event["event_id"])
        elif event_type in CATALOGUE_EVENT_TYPES:
            if event_type != "stock_changed" and (room := self._room(room_id)) is not None:
                apply_to_room(room, event)
            if event_type in _PRODUCT_EVENT_TYPES:
                apply_to_product(self._product(event["product_id"]), event)
        else:
            user = self._user(event["user_id"])
            if apply_to_user(user, event, history_limit=self._store._history_limit):
                self._changed_users.add(user.user_id)
            if event_type == "enter" and self._is_live(room_id):
                count, counted_at_ms = self._count(room_id)
                self._enters[room_id] = add_enter(count, counted_at_ms=counted_at_ms, at_ms=event["occurred_at_ms"])

    def write(self) -> None:
        databases, encode = self._store._databases, self._store._encode
        put, delete = self._transaction.put, self._transaction.delete
        for user_id in self._changed_users:
            put(_key(user_id), encode(self._users[user_id]), db=databases["users"])
        for name, records in (("rooms", self._rooms), ("products", self._products), ("enters", self._enters)):
            for record_id, record in records.items():
                if record is None:
                    delete(_key(record_id), db=databases[name])
                else:
                    put(_key(record_id), encode(record), db=databases[name])
        for room_id, stamp in self._ended.items():
            put(_key(room_id), encode(stamp), db=databases["ended"], overwrite=False)

    def _user(self, user_id: str) -> UserRecord:
        if user_id not in self._users:
            packed = self._transaction.get(_key(user_id), db=self._store._databases["users"])
            self._users[user_id] = UserRecord(user_id) if packed is None else self._store._decode_user(packed)
        return self._users[user_id]

    def _room(self, room_id: str) -> RoomRecord | None:
        """Return a room's record, made if it was never heard of; None for a room that has ended."""
        if room_id not in self._rooms:
            get, databases = self._transaction.get, self._store._databases
            packed = get(_key(room_id), db=databases["rooms"])
            if packed is not None:
                self._rooms[room_id] = self._store._decode_room(packed)
            elif get(_key(room_id), db=databases["ended"]) is not None:
                self._rooms[room_id] = None
            else:
                self._rooms[room_id] = RoomRecord(room_id)
        return self._rooms[room_id]

    def _is_live(self, room_id: str) -> bool:
        """Whether a room is live, without reading what is listed there: enters are many, and so may listings be."""
        if room_id in self._rooms:
            room = self._rooms[room_id]
            return room is not None and room.is_live
        packed = self._transaction.get(_key(room_id), db=self._store._databases["rooms"])
        return packed is not None and self._store._decode_head(packed).started is not None

    def _product(self, product_id: str) -> ProductRecord:
        if product_id not in self._products:
            packed = self._transaction.get(_key(product_id), db=self._store._databases["products"])
            self._products[product_id] = (
                ProductRecord(product_id) if packed is None else self._store._decode_product(packed)
            )
        return self._products[product_id]

    def _count(self, room_id: str) -> Enters:
        if room_id not in self._enters:
            packed = self._transaction.get(_key(room_id), db=self._store._databases["enters"])
            self._enters[room_id] = (0.0, 0) if packed is None else self._store._decode_enters(packed)
        return self._enters[room_id] or (0.0, 0)


def _key(external_id: str) -> bytes:
    """An id as an LMDB key, which has at most 511 bytes: the few ids that are longer in UTF-8 are hashed."""
    key = external_id.encode()
    return key if len(key) <= _MAX_KEY_BYTES else hashlib.sha256(key).digest()


def _drop_if_rebooted(path: Path) -> None:
    """Drop a state that was last written before this machine started: its tail may never have reached the disk."""
    boot_id = _BOOT_ID.read_text() if _BOOT_ID.exists() else ""
    written = path / "boot_id"
    if written.exists() and written.read_text() != boot_id:
        drop_state(path)
    written.write_text(boot_id)
