"""The event log as one Redis stream, shared by all machines."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import redis

from roomrec.errors import StateError
from serving.state.event_log import ACCEPTED, DUPLICATE, Appended, Event, LoggedEvent
from serving.state.redis_connection import Durability, RedisConnection
from serving.state.redis_scripts import APPEND, READ, REMOVE

LOG_KEY: Final = "log"
"""Key of the stream, after the prefix."""

_INT64 = range(-(2**63), 2**63)
_APPENDED_AT_ONCE = 2_000
_READ_AT_ONCE = 5_000
_ERASED_AT_ONCE = 1_000


class RedisEventLog:
    """An event log in one Redis stream.

    ``seq`` is the second half of a stream id whose first half is always 0. It is given by the script that appends, so
    it grows in the order of commits, and never twice, since a stream remembers its last id even when empty. A body is
    stored or none of it (very long ones: a piece of it), and whoever reads sees all of that or none. With
    ``appendfsync always`` Redis syncs before it answers.

    The stream holds places only. What happened stands beside it in a hash, because a stream does not let go of the
    bytes of a deleted entry until all its neighbours are deleted. Another hash has the ids of these events, which makes
    a repeated event a duplicate for as long as the event is in the log; a set for each viewer has the places of theirs.

    Args:
        connection: Closed with the log.
        durability: What is asked of Redis.
        forgets_on_disk: Whether an erasure makes Redis rewrite its file; not if the state's erasure will.

    Raises:
        StateError: If Redis cannot be reached or is not configured to keep what it is given.
    """

    def __init__(
        self, connection: RedisConnection, *, durability: Durability = "always", forgets_on_disk: bool = True
    ) -> None:
        self._redis = connection
        self._forgets_on_disk = forgets_on_disk
        self.key = connection.key(LOG_KEY)
        self._ids = connection.key("log-ids")
        self._bodies = connection.key("log-bodies")
        self._trimmed = connection.key("log-trimmed")
        self._notes = connection.key("log-notes")
        connection.check(durability=durability)
        with connection.asking("event log cannot be opened") as client:
            self._append_script = client.register_script(APPEND)
            self._read_script = client.register_script(READ)
            self._remove_script = client.register_script(REMOVE)
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def append(self, events: Sequence[Event]) -> Appended:
        """Store events by a script, whose effects are on the disk when this returns.

        Very many go in pieces, so that Redis has time for others in between; each piece is stored or none of it.

        Args:
            events: Validated events; several may have the same id, of which the first counts.

        Returns:
            What became of them, and where they are in the log. Events of others that came between two pieces are told
            by a ``previous_seq`` that is the place of the last: none of these is then applied without reading the log.

        Raises:
            StateError: If Redis refused, or did not say in time what became of them; sending them again is safe.
            ValueError: If an event holds a whole number beyond 64 bits or text that is not Unicode; nothing is stored.
        """
        pieces = [events[first : first + _APPENDED_AT_ONCE] for first in range(0, len(events), _APPENDED_AT_ONCE)]
        arguments = [self._arguments(piece) for piece in pieces or [()]]  # all of them, before any is stored
        places: list[int] = []
        previous_seq = last_seq = -1
        others_came_between = False
        for keys, values in arguments:
            with self._redis.asking("event log cannot be written"):
                before, *found = self._append_script(keys=keys, args=values)
            if last_seq < 0:
                previous_seq = before
            elif before != last_seq:
                others_came_between = True
            last_seq = max(before, *found)
            places += found
        return Appended(
            [ACCEPTED if place else DUPLICATE for place in places],
            [LoggedEvent(place, event) for place, event in zip(places, events, strict=True) if place],
            last_seq if others_came_between else previous_seq,
        )

    def read(self, *, after: int, limit: int) -> list[LoggedEvent]:
        """Return at most ``limit`` events with ``seq > after``, oldest first.

        Raises:
            StateError: If the log cannot be read, or events after that place have left it.
        """
        entries: list[LoggedEvent] = []
        while len(entries) < limit:
            count = min(limit - len(entries), _READ_AT_ONCE)
            with self._redis.asking("event log cannot be read"):
                trimmed, places, bodies = self._read_script(
                    keys=[self.key, self._bodies, self._trimmed], args=[after + 1, count]
                )
            if after < int(trimmed or 0):
                raise StateError(
                    f"events {after + 1} to {int(trimmed)} have left the event log for the files that `trim-log` "
                    f"wrote: `rebuild-state --archive FOLDER` reads them again"
                )
            entries += (LoggedEvent(int(place), self._decode(body)) for place, body in zip(places, bodies, strict=True))
            if len(places) < count:
                break
            after = entries[-1].seq
        return entries

    def read_user(self, user_id: str) -> Iterator[Event]:
        """Yield every event of a viewer that is in the log, in order of acceptance."""
        with self._redis.asking("event log cannot be read") as client:
            places = sorted(map(int, client.smembers(self._places_of(user_id))))
        for first in range(0, len(places), _ERASED_AT_ONCE):
            with self._redis.asking("event log cannot be read") as client:
                bodies = client.hmget(self._bodies, places[first : first + _ERASED_AT_ONCE])
            yield from (self._decode(body) for body in bodies if body is not None)

    def last_seq(self) -> int:
        """Return the greatest ``seq`` ever given, 0 if none.

        Raises:
            StateError: If the log cannot be read.
        """
        with self._redis.asking("event log cannot be read") as client:
            try:
                return _seq(client.xinfo_stream(self.key)["last-generated-id"])
            except redis.ResponseError as error:
                if "no such key" in str(error):
                    return 0
                raise

    def wait(self, *, after: int, longest_s: float) -> None:
        """Wait until there is an event after a place, or until that takes too long.

        Args:
            after: The place.
            longest_s: How long to wait, seconds; never longer than half the patience for an answer.

        Raises:
            StateError: If the log cannot be read.
        """
        wait_ms = max(1, round(min(longest_s, self._redis.timeout_s / 2) * 1000))
        with self._redis.asking("event log cannot be read") as client:
            client.xread({self.key: f"0-{after}"}, count=1, block=wait_ms)

    def trimmed_seq(self) -> int:
        """Return the place up to which events have left the log, 0 if none have.

        Raises:
            StateError: If the log cannot be read.
        """
        with self._redis.asking("event log cannot be read") as client:
            return int(client.get(self._trimmed) or 0)

    def slowest_group(self) -> tuple[str | None, int]:
        """Return the consumer group that has come least far and the place up to which it is done, 0 without groups.

        Done is what was delivered to a group and is not pending: a group of several consumers of which one died holds
        the log back until its work is claimed (``XAUTOCLAIM``) and acknowledged.

        Raises:
            StateError: If the log cannot be read.
        """
        slowest: tuple[str | None, int] = (None, 0)
        with self._redis.asking("event log cannot be read") as client:
            for group in client.xinfo_groups(self.key) if client.exists(self.key) else ():
                done = _seq(group["last-delivered-id"])
                if group["pending"]:
                    done = min(done, _seq(client.xpending(self.key, group["name"])["min"]) - 1)
                if slowest[0] is None or done < slowest[1]:
                    slowest = group["name"].decode(), done
        return slowest

    def trim(self, entries: Sequence[LoggedEvent]) -> None:
        """Let the oldest events go, with their ids: one that is sent again is then a new one.

        Args:
            entries: The oldest events of the log, all of them up to the last of these.

        Raises:
            StateError: If Redis refused.
        """
        for first in range(0, len(entries), _APPENDED_AT_ONCE):
            piece = entries[first : first + _APPENDED_AT_ONCE]
            with self._redis.asking("event log cannot be trimmed"):
                self._remove(piece, until=piece[-1].seq)

    def hold(self, group: str) -> None:
        """Keep everything in the log for a follower that may have to read all of it again.

        Args:
            group: Its consumer group; made if missing, and never moved. ``XGROUP DESTROY`` lets go.

        Raises:
            StateError: If Redis refused.
        """
        with self._redis.asking("event log cannot be followed") as client:
            try:
                client.xgroup_create(self.key, group, id="0-0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def erase_user(self, user_id: str) -> int:
        """Remove every event of a viewer, its id and its place; asked again, it goes on where it was interrupted.

        Returns:
            How many events there were.

        Raises:
            StateError: If Redis refused, or is busy rewriting its file; asking again is safe.
        """
        index = self._places_of(user_id)
        erased = 0
        while True:
            with self._redis.asking("event log cannot be written") as client:
                places = [int(place) for place in client.srandmember(index, _ERASED_AT_ONCE)]
                if not places:
                    break
                bodies = client.hmget(self._bodies, places)
                erased += self._remove(
                    [
                        LoggedEvent(place, {"event_id": "", "user_id": user_id} if body is None else self._decode(body))
                        for place, body in zip(places, bodies, strict=True)
                    ]
                )
        if self._forgets_on_disk:
            self._redis.forget_on_disk()
        return erased

    def note(self, name: str, value: str | None = None) -> str | None:
        """Return the word kept with the log under a name; if there is none and one is given, it is kept from now on.

        Raises:
            StateError: If the log cannot be read or written.
        """
        with self._redis.asking("event log cannot be written") as client:
            if value is not None:
                client.hsetnx(self._notes, name, value)
            kept = client.hget(self._notes, name)
        return None if kept is None else bytes(kept).decode()

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _remove(self, entries: Sequence[LoggedEvent], *, until: int | str = "") -> int:
        keys = [self.key, self._ids, self._bodies, self._trimmed]
        places_of_users: dict[str, int] = {}
        values: list[str | int] = [until]
        for entry in entries:
            owner = self._owner(entry.event, keys, places_of_users)
            values += (entry.event["event_id"], entry.seq, owner)
        return int(self._remove_script(keys=keys, args=values))

    def _arguments(self, events: Sequence[Event]) -> tuple[list[bytes], list[bytes | int]]:
        """Return keys and values for the script that appends."""
        keys = [self.key, self._ids, self._bodies]
        places_of_users: dict[str, int] = {}
        values: list[bytes | int] = []
        for event in events:
            _refuse_long_numbers(event)
            owner = self._owner(event, keys, places_of_users)
            values += (event["event_id"].encode(), owner, self._encode(event))
        return keys, values

    def _owner(self, event: Event, keys: list[bytes], places_of_users: dict[str, int]) -> int:
        """Return where the index of an event's viewer is among the keys of a script, counted from 1; 0 for none."""
        user_id = event.get("user_id")
        if user_id is None:
            return 0
        if user_id not in places_of_users:
            keys.append(self._places_of(user_id))
            places_of_users[user_id] = len(keys)
        return places_of_users[user_id]

    def _places_of(self, user_id: str) -> bytes:
        return self._redis.key("log-of", user_id)


def _refuse_long_numbers(event: Event) -> None:
    for name, value in event.items():
        if isinstance(value, int) and value not in _INT64:
            raise ValueError(f"{name} is {value}, beyond 64 bits")


def _seq(place: bytes) -> int:
    return int(place.partition(b"-")[2])
