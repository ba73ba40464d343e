"""The oldest events of a Redis log move into Parquet, so that Redis does not grow with the years."""

import os
from pathlib import Path
from typing import NamedTuple

from serving.privacy.exports import Exports
from serving.state.export import write_piece
from serving.state.redis_event_log import RedisEventLog

_ROWS_AT_ONCE = 50_000


class Trimmed(NamedTuple):
    """What a trim did."""

    events: int
    """events that moved from Redis to files"""
    seq: int
    """place up to which events have left the log"""
    held_by: str | None
    """consumer group that is not done with the next event; None if the events kept are all there are"""


def trim_log(log: RedisEventLog, folder: Path, *, keep: int, exports: Exports) -> Trimmed:
    """Write the oldest events into day folders, then remove them from Redis.

    What has not been applied stays: nothing goes that a consumer group is not done with. Each piece is on the disk
    before it is removed, and its name is where it begins; a run that was interrupted between the two writes the same
    file again. The folder may be used again and again, and is a source for training as an export is.

    Args:
        log: The log.
        folder: Where the files go.
        keep: Newest events that stay, counted with those that were erased.
        exports: Remembers the folder, so that an erasure goes through it as well.

    Raises:
        StateError: If the log cannot be read or changed.
        OSError: If the folder cannot be written; nothing that is not on the disk has been removed.
    """
    exports.register(folder)
    held_by, done = log.slowest_group()
    until = min(done, log.last_seq() - keep)
    events, after = 0, log.trimmed_seq()
    while after < until:
        # an erasure comes before a piece is read or after it is written, never between
        with exports.lock():
            entries = log.read(after=after, limit=min(_ROWS_AT_ONCE, until - after))
            entries = [entry for entry in entries if entry.seq <= until]
            if not entries:
                break
            for file in write_piece(entries, folder, part=f"{after:012}"):
                _sync(file)
                _sync(file.parent)
            log.trim(entries)
        events, after = events + len(entries), entries[-1].seq
    return Trimmed(events, after, held_by if done < log.last_seq() - keep else None)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
