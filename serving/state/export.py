"""The event log as Parquet by day: what training reads."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from roomrec.errors import StateError
from roomrec.events.parquet import write_events
from roomrec.events.schema import EVENT_SCHEMA
from serving.state.event_log import Event, EventLog

_ROWS_AT_ONCE = 100_000


def export_events(log: EventLog, folder: Path) -> int:
    """Write every event of a log into day folders.

    A new folder is asked for each time, so that nothing of an erased viewer is left in an older part.

    Args:
        log: The log; events accepted meanwhile may or may not be in the export.
        folder: Where to; must not exist, or be empty.

    Returns:
        How many events were written.

    Raises:
        StateError: If the folder holds something, or the log cannot be read.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StateError(f"{folder} is not empty: choose a new folder, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    after = written = 0
    while entries := log.read(after=after, limit=_ROWS_AT_ONCE):
        table = pa.Table.from_pylist([_row(entry.event) for entry in entries], schema=EVENT_SCHEMA)
        write_events(table, folder, part=f"{entries[0].seq:012}")
        after, written = entries[-1].seq, written + len(entries)
    return written


def _row(event: Event) -> dict[str, Any]:
    context = event.get("context")
    return event if context is None else event | {"context": list(context.items())}
