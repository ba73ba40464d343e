"""State in one Redis, shared by all machines."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from serving.state.applying import RULES, apply_events, needed_by
from serving.state.event_log import Appended, EventLog
from serving.state.records import unpack_user
from serving.state.redis_connection import RedisConnection
from serving.state.redis_generations import BUILDER_MS, RedisGenerations
from serving.state.redis_scripts import COMMIT, ERASE
from serving.state.redis_tables import RedisTables, Standing, Writes
from serving.state.state_store import CatalogueRecords, Erased, MomentRecords, Position

T = TypeVar("T")

_CHUNK = 2_000
_POLL_S = 0.05
_ANYWHERE = 2**62


class _MovedError(Exception):
    """The generation is no longer the one that counts."""


class RedisStateStore:
    """State in Redis, followed and read by any number of processes on any number of machines.

    No process holds a lock while it applies events. It reads where the state stands and the records it needs in one
    round trip, and writes the changed records together with the new position by a script that does nothing if the state
    has moved since: whoever was paused in between changes nothing, and starts again. So each event is applied exactly
    once, in the order of the log, and readers see the state before or after.

    Records lie under the number of a generation. Rebuilding fills another one beside the live one, then replaces it.

    Args:
        connection: Closed with the store.
        log: The log this is a view of.
        history_limit: Most events remembered for a viewer. A larger limit than the one the state was made with rebuilds
            it; a smaller one counts at the next rebuild.
        user_ttl_s: How long a viewer who does nothing is remembered, None for ever.
        log_key: The stream of a log in the same Redis: its consumer group ``state`` is told how far the state has come.
        may_shrink: Whether rebuilding takes a smaller limit than the state was made with.

    Raises:
        StateError: If Redis cannot be reached, or might evict what has to stay.
    """

    def __init__(
        self,
        connection: RedisConnection,
        log: EventLog,
        *,
        history_limit: int,
        user_ttl_s: int | None = None,
        log_key: bytes | None = None,
        may_shrink: bool = True,
    ) -> None:
        if history_limit < 1:
            raise ValueError(f"history_limit must be at least 1, received {history_limit}")
        self._redis = connection
        self._log = log
        self._history_limit = history_limit
        self._log_key = log_key
        self._may_shrink = may_shrink
        connection.check(durability=None)
        self._generations = RedisGenerations(
            connection, rules=RULES, history_limit=history_limit, user_ttl_s=user_ttl_s
        )
        with connection.asking("state cannot be opened") as client:
            self._commit_script = client.register_script(COMMIT)
            self._erase_script = client.register_script(ERASE)
        self._tables = self._generations.live()
        self._build(unless=lambda live: live.rules == RULES and live.history_limit >= history_limit)

    def catch_up(self, appended: Appended | None = None) -> Position:
        """Apply the events of the log that have not been applied, in order; any process may call it at any time.

        Args:
            appended: Events just appended. If the state stands before them they are applied from here, and the log is
                not read: two round trips.

        Returns:
            How far the state has come.

        Raises:
            StateError: If the log cannot be read or the state cannot be written; what was applied is whole.
        """
        while True:
            try:
                return self._follow(self._tables, appended)
            except _MovedError:
                self._tables = self._generations.live()

    def rebuild(self) -> Position:
        """Apply the whole log beside the state that is live, then replace it; posts go on meanwhile.

        Raises:
            StateError: As ``catch_up``; also if what the log held has been trimmed. The state is as before then.
        """
        self._build()
        return self._position(is_hurried=False)

    def position(self) -> Position:
        """Return how far the state has come; one round trip."""
        return self._position(is_hurried=True)

    def read_user(self, user_id: str) -> tuple[Position, bytes | None]:
        """Return a viewer's record as stored, None if nothing is known, and how far the state had come then.

        One round trip; a generation replaced meanwhile costs another.
        """
        while True:
            tables = self._tables
            keys = [self._generations.live_key, tables.position_key, tables.user_key(user_id)]
            with self._redis.asking("state cannot be read", is_hurried=True) as client:
                live, packed_position, packed = client.mget(keys)
            if live == tables.name:
                return tables.standing(live, packed_position).position, packed
            self._tables = self._generations.live()

    def read_catalogue(self) -> CatalogueRecords:
        """Return every room that has not ended, started or not, whole, and the products listed there."""
        return self._reading(lambda client, tables: tables.catalogue(client))[1]

    def read_changes(self, since: Position) -> CatalogueRecords | None:
        """Return what has changed of rooms and products, None if that cannot be told any more."""
        return self._reading(lambda client, tables: tables.changes(client, since), is_hurried=True)[1]

    def read_moments(self, since: Position | None) -> MomentRecords:
        """Return what goes on in live rooms in which something was counted after ``since``."""
        return self._reading(lambda client, tables: tables.moments(client, since), is_hurried=since is not None)[1]

    def erase_user(self, user_id: str) -> Erased:
        """Remove what is known of a viewer, after the log forgot them, and have Redis rewrite its file.

        What the log has by now is applied first: then no writer that appended before the erasure can still apply events
        of the viewer from memory. A generation being built is cleared of the viewer before the live one, which it may
        replace at any moment.

        Raises:
            StateError: As ``catch_up``; asking again is safe.
        """
        self.catch_up()
        self._erase_from(self._generations.building_key, user_id)
        erased = self._erase_from(self._generations.live_key, user_id)
        self._redis.forget_on_disk()
        return erased

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _follow(self, tables: RedisTables, appended: Appended | None) -> Position:
        """Apply everything up to the end of the log, or of what was appended."""
        last_seq = position = None
        if appended is not None and not appended.entries:
            appended = None
        while True:
            if appended is not None:
                entries = appended.entries[:_CHUNK]
            else:
                last_seq = self._log.last_seq() if last_seq is None else last_seq
                position = self._owned(tables).position
                if position.applied_seq > last_seq and position.applied_seq > (last_seq := self._log.last_seq()):
                    self._build(unless=lambda live: live.generation != tables.generation, log_was_replaced=True)
                    raise _MovedError
                entries = self._log.read(after=position.applied_seq, limit=_CHUNK)
                if not entries and position.applied_seq == last_seq:
                    return position
            with self._redis.asking("state cannot be read") as client:
                standing, loaded = tables.load(client, needed_by(entries))
            _refuse_if_moved(tables, standing)
            if appended is not None:
                if standing.position.applied_seq < appended.previous_seq:
                    appended = None
                    continue
                entries = [entry for entry in entries if entry.seq > standing.position.applied_seq]
            elif standing.position != position:
                continue
            end = standing.position
            if entries or appended is None:
                writes = Writes()
                applied = apply_events(entries, loaded, history_limit=tables.history_limit)
                tables.write(writes, applied)
                end = Position(
                    tables.generation,
                    entries[-1].seq if entries else last_seq or 0,  # what lay there was erased
                    max(standing.position.catalogue_seq, applied.catalogue_seq),
                )
                if not self._commit(tables, standing, end, writes):
                    continue
            if appended is not None:
                rest = [entry for entry in appended.entries if entry.seq > end.applied_seq]
                if not rest:
                    return end
                appended = appended._replace(entries=rest, previous_seq=end.applied_seq)

    def _commit(
        self, tables: RedisTables, standing: Standing, end: Position, writes: Writes, *, is_erasure: bool = False
    ) -> bool:
        """Carry out commands together with the new position; say whether the state had not moved."""
        script = self._erase_script if is_erasure else self._commit_script
        is_live = tables.owner == self._generations.live_key
        if not is_live:
            writes.add("PEXPIRE", tables.owner, BUILDER_MS)
        tell = end.applied_seq if is_live and self._log_key is not None else ""
        with self._redis.asking("state cannot be written"):
            done = script(
                keys=[tables.owner, tables.position_key, self._log_key or tables.position_key, *writes.keys],
                args=[
                    tables.name,
                    standing.packed,
                    tables.pack(end, edits=standing.edits + is_erasure),
                    tell,
                    *writes.values,
                ],
            )
        return bool(done)

    def _build(self, *, unless: Callable[[RedisTables], bool] | None = None, log_was_replaced: bool = False) -> None:
        """Fill a new generation and make it live.

        Args:
            unless: Says of the live generation that it will do, asked while waiting for whoever builds.
            log_was_replaced: Whether the live generation knows more than the log.
        """
        while True:
            live = self._tables = self._generations.live()
            if unless is not None and unless(live):
                return
            limit = self._history_limit if self._may_shrink else max(self._history_limit, live.history_limit)
            built = self._generations.begin(after=live, history_limit=limit)
            if built is None:
                time.sleep(_POLL_S)
                continue
            try:
                self._generations.sweep(live, built)
                while True:
                    end = self._follow(built, None)
                    if self._generations.take_over(built, live, _ANYWHERE if log_was_replaced else end.applied_seq):
                        break
            except _MovedError:  # paused for so long that another began to build
                continue
            except BaseException:
                self._generations.abandon(built)
                raise
            self._tables = self._generations.live()
            self._generations.sweep(built)
            return

    def _erase_from(self, owner: bytes, user_id: str) -> Erased:
        while True:
            tables = self._generations.named_by(owner)
            if tables is None:
                return Erased(0, 0, 0)
            with self._redis.asking("state cannot be read") as client:
                *keys, packed = client.mget(owner, tables.position_key, tables.user_key(user_id))
            standing = tables.standing(*keys)
            writes = Writes()
            writes.add("UNLINK", tables.user_key(user_id))
            if self._commit(tables, standing, standing.position, writes, is_erasure=True):
                break
        if packed is None:
            return Erased(0, 0, 0)
        user = unpack_user(packed)
        return Erased(len(user.events), len(user.follows), sum(map(len, user.refused.values())))

    def _reading(
        self, read: Callable[[Any, RedisTables], tuple[Standing, T]], *, is_hurried: bool = False
    ) -> tuple[Standing, T]:
        """Read from the live generation; again if it was replaced meanwhile."""
        while True:
            tables = self._tables
            with self._redis.asking("state cannot be read", is_hurried=is_hurried) as client:
                standing, found = read(client, tables)
            if standing.owner == tables.generation:
                return standing, found
            self._tables = self._generations.live()

    def _position(self, *, is_hurried: bool) -> Position:
        read = self._reading(lambda client, tables: (self._standing(client, tables), None), is_hurried=is_hurried)
        return read[0].position

    def _owned(self, tables: RedisTables) -> Standing:
        with self._redis.asking("state cannot be read") as client:
            standing = self._standing(client, tables)
        _refuse_if_moved(tables, standing)
        return standing

    @staticmethod
    def _standing(client: Any, tables: RedisTables) -> Standing:
        return tables.standing(*client.mget(tables.owner, tables.position_key))


def _refuse_if_moved(tables: RedisTables, standing: Standing) -> None:
    if standing.owner != tables.generation:
        raise _MovedError
