"""Generations of the state in Redis: which is live, which is being built, how one takes the other's place."""

import time
from contextlib import suppress

import msgspec

from roomrec.errors import StateError
from serving.state.redis_connection import RedisConnection
from serving.state.redis_scripts import TAKE_OVER
from serving.state.redis_tables import RedisTables

BUILDER_MS = 30_000
"""Who builds and has written nothing for so long counts as dead."""

_KEYS_AT_ONCE = 1_000


class RedisGenerations:
    """The generations of one state.

    One process builds at a time. Every piece it writes says that it is alive; if another has taken its place, what it
    then still writes is refused, because the key of the building generation no longer names its own.

    Args:
        connection: Where they are.
        rules: Number of the rules by which generations are begun.
        history_limit: Most events of a viewer in a state that is begun where there was none.
        user_ttl_s: How long a viewer who does nothing is remembered, None for ever.
    """

    def __init__(self, connection: RedisConnection, *, rules: int, history_limit: int, user_ttl_s: int | None) -> None:
        self._redis = connection
        self._rules = rules
        self._history_limit = history_limit
        self._user_ttl_s = user_ttl_s
        self.live_key = connection.key("state-live")
        self.building_key = connection.key("state-building")
        self._decode_made_with = msgspec.msgpack.Decoder(tuple[int, int]).decode
        with connection.asking("state cannot be opened") as client:
            self._take_over_script = client.register_script(TAKE_OVER)

    def live(self) -> RedisTables:
        """Return the live generation, begun if there is none.

        Raises:
            StateError: If Redis refuses.
        """
        while True:
            with self._redis.asking("state cannot be opened") as client:
                name = client.get(self.live_key)
                if name is None:
                    begun = self._tables(self.live_key, _now_ms(), self._rules, self._history_limit)
                    client.set(begun.made_with_key, msgspec.msgpack.encode((self._rules, self._history_limit)))
                    client.set(self.live_key, begun.name, nx=True)
                    continue
                made_with, again = client.mget(self._redis.key("state", name.decode(), "made-with"), self.live_key)
            if again == name:
                rules, limit = (0, self._history_limit) if made_with is None else self._decode_made_with(made_with)
                return self._tables(self.live_key, int(name), rules, limit)

    def named_by(self, owner: bytes) -> RedisTables | None:
        """Return the generation that a key names now, None if it names none; to erase from, not to apply to."""
        with self._redis.asking("state cannot be read") as client:
            name = client.get(owner)
        return None if name is None else self._tables(owner, int(name), self._rules, self._history_limit)

    def begin(self, *, after: RedisTables, history_limit: int) -> RedisTables | None:
        """Begin to build a generation, None if another process is at it.

        Raises:
            StateError: If Redis refuses.
        """
        built = self._tables(self.building_key, max(after.generation + 1, _now_ms()), self._rules, history_limit)
        with self._redis.asking("state cannot be rebuilt") as client:
            if not client.set(self.building_key, built.name, nx=True, px=BUILDER_MS):
                return None
            client.set(built.made_with_key, msgspec.msgpack.encode((self._rules, history_limit)))
        return built

    def take_over(self, built: RedisTables, live: RedisTables, applied_seq: int) -> bool:
        """Make what was built the live generation, unless that has moved or is ahead; say whether it was done.

        Args:
            built: What was built.
            live: What was live when that began.
            applied_seq: How far ``built`` has come.

        Raises:
            StateError: If Redis refuses.
        """
        with self._redis.asking("state cannot be rebuilt"):
            done = self._take_over_script(
                keys=[self.building_key, self.live_key, live.position_key],
                args=[built.name, live.name, applied_seq],
            )
        return bool(done)

    def abandon(self, built: RedisTables) -> None:
        """Let another build at once; if Redis is away, it has to wait until this one counts as dead."""
        with suppress(StateError), self._redis.asking("state cannot be rebuilt") as client:
            if client.get(self.building_key) == built.name:
                client.delete(self.building_key)

    def sweep(self, *kept: RedisTables) -> None:
        """Remove the records of all generations but some.

        Raises:
            StateError: If Redis refuses.
        """
        prefix = self._redis.key("state", "")
        pattern = b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\" else bytes([byte]) for byte in prefix) + b"*"
        names = {tables.name for tables in kept}
        cursor = 0
        while True:
            with self._redis.asking("state of before cannot be removed") as client:
                cursor, keys = client.scan(cursor, match=pattern, count=_KEYS_AT_ONCE)
                gone = [key for key in keys if key[len(prefix) :].partition(b":")[0] not in names]
                if gone:
                    client.unlink(*gone)
            if cursor == 0:
                return

    def _tables(self, owner: bytes, generation: int, rules: int, history_limit: int) -> RedisTables:
        return RedisTables(
            self._redis,
            owner=owner,
            generation=generation,
            rules=rules,
            history_limit=history_limit,
            user_ttl_s=self._user_ttl_s,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
