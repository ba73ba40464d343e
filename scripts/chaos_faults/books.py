"""After a fault: the log compared with what was acknowledged, and the state with one made again from the log."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import redis

from serving.settings import Settings
from serving.state.event_log import EventLog
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.opening import open_log, open_store

_CHUNK = 10_000
_FOLLOWED = (b"position", b"made-with", b"changes", b"moments-by-seq")
"""Keys of Redis that say how far the state is, not what it is."""


class Compared(NamedTuple):
    """What became of acknowledged events."""

    acknowledged: int
    lost: list[str]
    """not in the log"""
    doubled: list[str]
    """more than once in the log"""


def compare_log(settings: Settings, acknowledged: set[str]) -> Compared:
    """Read the whole log and look for every acknowledged event.

    Args:
        settings: Where the log is.
        acknowledged: Ids.
    """
    log = open_log(settings)
    try:
        counts = count_ids(log)
    finally:
        log.close()
    lost = sorted(event_id for event_id in acknowledged if not counts[event_id])
    return Compared(len(acknowledged), lost, sorted(event_id for event_id, count in counts.items() if count > 1))


def count_ids(log: EventLog) -> Counter[str]:
    """Count how often each id stands in a log."""
    counts: Counter[str] = Counter()
    after = 0
    while entries := log.read(after=after, limit=_CHUNK):
        counts.update(entry.event["event_id"] for entry in entries)
        after = entries[-1].seq
    return counts


def state_differs(settings: Settings) -> list[str]:
    """Make the state again from the log, and say where the running one differs; the endpoint should be at rest.

    Args:
        settings: Where log and state are.

    Returns:
        Names of the tables that differ; empty if both are the same byte for byte.
    """
    log = open_log(settings)
    try:
        running, again = _redis_states(settings, log) if settings.state_store == "redis" else _states(settings, log)
    finally:
        log.close()
    return sorted(str(name) for name in running.keys() | again.keys() if running.get(name) != again.get(name))


def _states(settings: Settings, log: EventLog) -> tuple[dict[Any, Any], dict[Any, Any]]:
    contents: list[dict[Any, Any]] = []
    with tempfile.TemporaryDirectory(prefix="roomrec-chaos-state-") as folder:
        for path in (settings.state_path, Path(folder)):
            store = LmdbStateStore(path, log, history_limit=settings.history_limit, map_bytes=settings.state_bytes)
            store.catch_up()
            contents.append(store.contents())
            store.close()
    return contents[0], contents[1]


def _redis_states(settings: Settings, log: EventLog) -> tuple[dict[Any, Any], dict[Any, Any]]:
    store = open_store(settings, log)
    try:
        store.catch_up()
        running = _redis_contents(settings)
        store.rebuild()
        return running, _redis_contents(settings)
    finally:
        store.close()


def _redis_contents(settings: Settings) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    with redis.Redis.from_url(settings.redis_url) as client:
        live = client.get(f"{{{settings.redis_prefix}}}:state-live") or b""
        prefix = f"{{{settings.redis_prefix}}}:state:".encode() + live + b":"
        for key in client.scan_iter(count=1_000):
            name = key[len(prefix) :]
            if key.startswith(prefix) and name not in _FOLLOWED:
                found[name] = client.hgetall(key) if client.type(key) == b"hash" else client.get(key)
    return found
