"""One Redis: what is asked of it before it is trusted, how long it is waited for, and errors that name it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from roomrec.errors import ConfigurationError, StateError
from serving.state.redis_health import RedisHealth

Durability = Literal["always", "everysec", "trusted"]
"""What is asked of Redis: every answer is on the disk, all but the last second is, or nothing is asked."""

_NEEDED: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "always": {"appendonly": ("yes",), "appendfsync": ("always",), "no-appendfsync-on-rewrite": ("no",)},
    "everysec": {"appendonly": ("yes",), "appendfsync": ("always", "everysec")},
}
"""Configuration of Redis by what is asked of it; without the third, nothing is synced while a file is rewritten."""

_OLDEST_VERSION = 7
_REWRITE_PATIENCE_S = 10.0
_PROBE_S = 0.5


class RedisConnection:
    """Connections of one process to one Redis; may be used by several threads.

    Nothing is sent twice on its own: whether a command whose answer was lost was carried out is for the caller to know.
    A Redis that hangs costs one read its patience, which is short, and a write its own, which is long. Those after it
    fail at once, until a thread that asks in the background has been answered.

    Args:
        url: ``redis://[user:password@]host[:port][/number]``, ``rediss://`` for TLS, or ``unix:///path``.
        prefix: How every key begins, in braces: on a cluster they all lie in one slot, so one command may use several.
        timeout_ms: Longest wait for a connection or an answer.
        read_timeout_ms: The same for who is in a hurry; None, or more than ``timeout_ms``, for no less.
        health: What the other connections of the process know of this Redis, closed by the caller; None to share with
            none.

    Raises:
        ConfigurationError: If the URL cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        timeout_ms: int,
        read_timeout_ms: int | None = None,
        health: RedisHealth | None = None,
    ) -> None:
        self.name = _without_password(url)
        self._prefix = f"{{{prefix}}}:"
        self.timeout_s = timeout_ms / 1000
        self._hurry_s = min(timeout_ms, read_timeout_ms or timeout_ms) / 1000
        self._client, self._hurried = _client(url, self.timeout_s), _client(url, self._hurry_s)
        self._own_health = health is None
        self._health = health or open_health(url, timeout_ms=timeout_ms, read_timeout_ms=read_timeout_ms)

    def key(self, *parts: str) -> bytes:
        """Return a key: ``{prefix}:part:part``.

        Raises:
            ValueError: If a part is not Unicode.
        """
        return (self._prefix + ":".join(parts)).encode()

    @contextmanager
    def asking(self, purpose: str, *, is_hurried: bool = False) -> Iterator[redis.Redis]:
        """Lend the client, and turn what goes wrong into one kind of error.

        Args:
            purpose: What fails if Redis does: ``event log cannot be written``.
            is_hurried: Whether requests wait for this, so that it must not take long.

        Raises:
            StateError: If Redis cannot be reached in time or refuses; never with what was sent.
        """
        patience_s = self._hurry_s if is_hurried else self.timeout_s
        if self._health.is_silent(is_hurried=is_hurried):
            raise StateError(f"{purpose}: Redis {self.name} did not answer within {patience_s:g} s, nor since")
        asked_at = time.monotonic()
        try:
            yield self._hurried if is_hurried else self._client
        except redis.TimeoutError:
            self._health.say_silent(asked_at)
            raise StateError(f"{purpose}: Redis {self.name} did not answer within {patience_s:g} s") from None
        except redis.RedisError as error:
            reason = _without_arguments(str(error))
            if isinstance(error, redis.ConnectionError):
                self._health.say_refused(asked_at, reason)
            raise StateError(f"{purpose}: Redis {self.name}: {reason}") from None

    def check(self, *, durability: Durability | None) -> None:
        """Refuse a Redis that would lose what it was given.

        Args:
            durability: What is asked of it; None for what can be made again from elsewhere.

        Raises:
            StateError: If it is too old, may evict any key, or does not write to the disk as asked.
        """
        with self.asking("log and state cannot be opened") as client:
            version = str(client.info("server")["redis_version"])
            if int(version.partition(".")[0]) < _OLDEST_VERSION:
                raise StateError(f"Redis {self.name} is version {version}; at least {_OLDEST_VERSION} is needed")
            policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
            if policy.startswith("allkeys"):
                raise StateError(
                    f"Redis {self.name} may evict rooms and events (maxmemory-policy is {policy}): set it to "
                    f"noeviction, or to volatile-ttl together with ROOMREC_REDIS_USER_TTL_DAYS to evict viewers only"
                )
            needed = _NEEDED.get(durability or "trusted")
            if needed is not None:
                self._check_configuration(client, needed)

    def forget_on_disk(self) -> None:
        """Have the append-only file written anew without what was deleted; it goes on in the background.

        Raises:
            StateError: If a rewrite that had begun before does not end; what was deleted is gone from memory only.
        """
        give_up_at = time.monotonic() + _REWRITE_PATIENCE_S
        while True:
            with self.asking("what was erased cannot be removed from the disk") as client:
                try:
                    if client.info("persistence").get("aof_enabled"):
                        client.bgrewriteaof()
                    return
                except redis.ResponseError as error:
                    if isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error):
                        return  # whoever forbids it does it
                    if "in progress" not in str(error):
                        raise
                    if time.monotonic() > give_up_at:
                        raise StateError(
                            f"Redis {self.name} is still rewriting its append-only file, begun before the erasure: ask "
                            f"again later"
                        ) from None
            time.sleep(0.05)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._hurried.close()
        if self._own_health:
            self._health.close()

    def _check_configuration(self, client: Any, needed: dict[str, tuple[str, ...]]) -> None:
        try:
            found = client.config_get(*needed)
        except redis.ResponseError:
            wanted = ", ".join(f"{name} {values[0]}" for name, values in needed.items())
            raise StateError(
                f"Redis {self.name} does not say how it is configured (CONFIG GET is refused): make sure of {wanted}, "
                f"then set ROOMREC_REDIS_DURABILITY=trusted"
            ) from None
        for name, values in needed.items():
            if found.get(name) not in values:
                raise StateError(
                    f"Redis {self.name} may lose events that were acknowledged: {name} is {found.get(name)}, must be "
                    f"{values[0]} in redis.conf; ROOMREC_REDIS_DURABILITY=everysec accepts the loss of a second"
                )


def open_health(url: str, *, timeout_ms: int, read_timeout_ms: int | None = None) -> RedisHealth:
    """Return what is to be shared by the connections of a process to one Redis.

    Args:
        url: As of the connections, and so are the others.
        timeout_ms: Longest wait of a write.
        read_timeout_ms: Longest wait of a read.

    Raises:
        ConfigurationError: If the URL cannot be read.
    """
    patience_s, hurry_s = timeout_ms / 1000, min(timeout_ms, read_timeout_ms or timeout_ms) / 1000
    return RedisHealth(
        _without_password(url),
        hurried=_client(url, hurry_s),
        patient=_client(url, min(_PROBE_S, patience_s)),
        hurry_s=hurry_s,
        patience_s=patience_s,
    )


def _client(url: str, timeout_s: float) -> redis.Redis:
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # with 3, redis-py does not look whether a connection from the pool is still open
        )
        client.connection_pool.make_connection()  # opens nothing, but reads all of the address
    except (ValueError, TypeError):
        raise ConfigurationError(
            f"redis_url cannot be read ({_without_password(url)}): expected "
            f"redis://[user:password@]host[:port][/number], rediss://... or unix:///path"
        ) from None
    return client


def _without_arguments(text: str) -> str:
    """Return what Redis complains of; what was sent, which may be what a viewer did, stands before or after it."""
    return text.rpartition("caused error: ")[2].partition(", with args")[0]


def _without_password(url: str) -> str:
    """Return the address a person needs to find the Redis, and nothing that opens it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
