"""Log and state, opened by the words of the settings: the one place that knows which engines there are."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from roomrec.errors import ConfigurationError, StateError
from roomrec.events.erasure import ERASED_USERS_FILE
from serving.settings import Settings
from serving.state.event_log import EventLog
from serving.state.lmdb_state_store import LmdbStateStore, drop_state
from serving.state.redis_archive import ArchivedLog
from serving.state.redis_connection import RedisConnection, open_health
from serving.state.redis_event_log import LOG_KEY, RedisEventLog
from serving.state.redis_health import RedisHealth
from serving.state.redis_state_store import RedisStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.state_store import Position, StateStore

_DAY_S = 86_400
_WRITERS_TURN_S = 0.02


class Opened(NamedTuple):
    """Log and state of one replica."""

    log: EventLog
    """as the thread reads it that looks for what others appended"""
    followed: EventLog
    """as the state reads it. A connection of its own: statements that overlap on one connection of SQLite share a
    snapshot, and the state would not see what was just committed"""
    appended: EventLog
    """as the writer appends to it"""
    store: StateStore
    scrub: Callable[[], int] | None
    """overwrites what files of the state hold of erased records; None where the state has no files"""
    health: RedisHealth | None = None
    """how the Redis of log or state is; None without one"""

    @property
    def tells_of_news(self) -> bool:
        """Whether others append to the log and leave it to this machine to apply that, which must not wait."""
        return isinstance(self.log, RedisEventLog) and isinstance(self.store, LmdbStateStore)

    def follow(self, *, longest_s: float) -> Position:
        """Apply what others have appended; for a thread, since it waits for log and state.

        Args:
            longest_s: Where the log tells of news, how long to wait for them at most, seconds.

        Raises:
            StateError: If log or state cannot be read or written.
        """
        if self.tells_of_news and isinstance(self.log, RedisEventLog):
            self.log.wait(after=self.store.position().applied_seq, longest_s=longest_s)
        newest = self.log.last_seq()
        position = self.store.position()
        if self.tells_of_news and position.applied_seq < newest:
            time.sleep(_WRITERS_TURN_S)  # who appended on this machine is about to apply it, and need not read it
            position = self.store.position()
        return self.store.catch_up() if position.applied_seq < newest else position

    def why_away(self) -> str | None:
        """Return why the state cannot be read as far as is known, None if it can; does not wait for Redis."""
        if isinstance(self.store, LmdbStateStore):
            try:
                self.store.position()
            except StateError as error:
                return str(error)
            return None
        return None if self.health is None else self.health.why_away()

    def close(self) -> None:
        """Close all of it; what was closed already stays so."""
        self.store.close()
        for log in (self.appended, self.followed, self.log):
            log.close()
        if self.health is not None:
            self.health.close()


def open_state(settings: Settings) -> Opened:
    """Open the log and the state that follows it.

    Raises:
        StateError: If one cannot be opened.
        ConfigurationError: If the settings do not go together.
    """
    health = None
    if "redis" in (settings.event_log, settings.state_store):
        health = open_health(
            settings.redis_url, timeout_ms=settings.redis_timeout_ms, read_timeout_ms=settings.redis_read_timeout_ms
        )
    logs: list[EventLog] = []
    try:
        logs.extend(open_log(settings, health=health) for _ in range(3))
        log, followed, appended = logs
        store = open_store(settings, followed, health=health)
    except BaseException:
        for each in logs:
            each.close()
        if health is not None:
            health.close()
        raise
    if health is not None:
        health.start()
    return Opened(log, followed, appended, store, store.scrub if isinstance(store, LmdbStateStore) else None, health)


def open_log(settings: Settings, *, health: RedisHealth | None = None) -> EventLog:
    """Open the event log, made if missing.

    Args:
        settings: Which, and where.
        health: What the process knows of its Redis; None to share nothing.

    Raises:
        StateError: If it cannot be opened, or Redis is not configured to keep what it is given.
    """
    if settings.event_log == "sqlite":
        return SqliteEventLog(settings.event_log_path)
    connection = _connect(settings, health)
    try:
        return RedisEventLog(
            connection,
            durability=settings.redis_durability,
            forgets_on_disk=settings.state_store != "redis",  # else the state does, which is erased after the log
        )
    except BaseException:
        connection.close()
        raise


def open_written_log(settings: Settings) -> EventLog:
    """Open an event log that must be there.

    Raises:
        StateError: If it is not, or as ``open_log``.
    """
    if settings.event_log == "sqlite" and not settings.event_log_path.exists():
        raise StateError(f"there is no event log {settings.event_log_path}")
    log = open_log(settings)
    if settings.event_log == "redis" and not log.last_seq():
        log.close()
        raise StateError(f"there is no event log {settings.redis_prefix!r} in Redis")
    return log


def open_log_with_archive(settings: Settings, archive: Path) -> EventLog:
    """Open an event log together with the events that were trimmed from it, to make the state of.

    Args:
        settings: Which log.
        archive: Where `trim-log` moved them; an erasure is not to go through its files meanwhile.

    Raises:
        StateError: As ``open_written_log``, or if the archive is that of another log.
    """
    log = open_written_log(settings)
    try:
        return ArchivedLog(log, archive, erased_users=Path(settings.data) / ERASED_USERS_FILE)
    except BaseException:
        log.close()
        raise


def open_store(
    settings: Settings, log: EventLog, *, may_shrink: bool = True, health: RedisHealth | None = None
) -> StateStore:
    """Open the state that follows a log.

    Args:
        settings: Which, and where.
        log: Closed by the caller, after the state.
        may_shrink: Whether a smaller ``history_limit`` than the state was made with counts.
        health: What the process knows of its Redis; None to share nothing.

    Raises:
        StateError: If it cannot be opened.
        ConfigurationError: If it could not follow the log.
    """
    if settings.state_store == "lmdb":
        if isinstance(log, RedisEventLog):
            if settings.redis_durability == "everysec":
                raise ConfigurationError(
                    "state_store=lmdb cannot follow a log that may lose its end (redis_durability=everysec): it would "
                    "keep what Redis forgot; choose state_store=redis or redis_durability=always"
                )
            # made again from the whole log when the machine restarts, so nothing may ever be trimmed
            log.hold(f"lmdb@{socket.gethostname()}")
        return LmdbStateStore(
            settings.state_path,
            log,
            history_limit=settings.history_limit,
            map_bytes=settings.state_bytes,
            may_shrink=may_shrink,
        )
    connection = _connect(settings, health)
    try:
        return RedisStateStore(
            connection,
            log,
            history_limit=settings.history_limit,
            user_ttl_s=settings.redis_user_ttl_days * _DAY_S or None,
            log_key=connection.key(LOG_KEY) if settings.event_log == "redis" else None,
            may_shrink=may_shrink,
        )
    except BaseException:
        connection.close()
        raise


def open_store_to_rebuild(settings: Settings, log: EventLog) -> StateStore:
    """Open the state even if it is damaged, remembering no less than a running endpoint was told to.

    Raises:
        StateError: As ``open_store``.
    """
    try:
        return open_store(settings, log, may_shrink=False)
    except StateError:
        if settings.state_store != "lmdb":
            raise
        drop_state(settings.state_path)
        return open_store(settings, log, may_shrink=False)


def _connect(settings: Settings, health: RedisHealth | None) -> RedisConnection:
    return RedisConnection(
        settings.redis_url,
        prefix=settings.redis_prefix,
        timeout_ms=settings.redis_timeout_ms,
        read_timeout_ms=settings.redis_read_timeout_ms,
        health=health,
    )
