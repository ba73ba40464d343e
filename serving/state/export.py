"""The event log as Parquet by day: what training reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from roomrec.errors import StateError
from roomrec.events.parquet import write_events
from roomrec.events.schema import EVENT_SCHEMA
from serving.privacy.exports import Exports
from serving.state.event_log import Event, EventLog, LoggedEvent

_ROWS_AT_ONCE = 100_000


def export_events(log: EventLog, folder: Path, *, exports: Exports) -> int:
    """Write every event of a log into day folders; what `trim-log` moved into files before is not among them.

    A new folder is asked for each time, so that no older part is taken for one of this export.

    Args:
        log: The log; events accepted meanwhile may or may not be in the export.
        folder: Where to; must not exist, or be empty.
        exports: Remembers the folder, so that an erasure goes through it as well.

    Returns:
        How many events were written.

    Raises:
        StateError: If the folder holds something, or the log cannot be read.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StateError(f"{folder} is not empty: choose a new folder, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    exports.register(folder)
    after, written = log.trimmed_seq(), 0
    while True:
        # an erasure comes before a piece is read or after it is written, never between
        with exports.lock():
            entries = log.read(after=after, limit=_ROWS_AT_ONCE)
            if not entries:
                return written
            write_piece(entries, folder, part=f"{entries[0].seq:012}")
        after, written = entries[-1].seq, written + len(entries)


def write_piece(entries: Iterable[LoggedEvent], folder: Path, *, part: str) -> list[Path]:
    """Write a piece of a log into day folders.

    Args:
        entries: The piece.
        folder: Where to.
        part: Name of the piece, unique in the folder.

    Returns:
        The files written.
    """
    table = pa.Table.from_pylist([_row(entry.event) for entry in entries], schema=EVENT_SCHEMA)
    return write_events(table, folder, part=part)


def _row(event: Event) -> dict[str, Any]:
    context = event.get("context")
    return event if context is None else event | {"context": list(context.items())}
