"""Events as Parquet, one folder a day: ``day=2026-01-31/part-00000.parquet``."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import EventError
from roomrec.events.columns import fit_columns
from roomrec.events.schema import EVENT_SCHEMA

_DAY_MS = 86_400_000


def write_events(events: pa.Table, root: Path, *, part: str) -> list[Path]:
    """Write events into the folders of the days on which they occurred.

    Each file appears whole or not at all. A file of the same part is replaced.

    Args:
        events: Events in ``EVENT_SCHEMA``.
        root: Folder of the log; made if missing.
        part: Name of this piece, unique among writers: the file is ``part-<part>.parquet``.

    Returns:
        The files written, by day.

    Raises:
        EventError: If the table does not have the contract's schema.
    """
    if not events.schema.equals(EVENT_SCHEMA):
        raise EventError(f"events have the schema {events.schema}, expected EVENT_SCHEMA")
    days = np.asarray(events["occurred_at_ms"]) // _DAY_MS
    written = []
    for day in np.unique(days):
        name = np.datetime_as_string(np.datetime64(int(day), "D"))
        target = root / f"day={name}" / f"part-{part}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".tmp")
        pq.write_table(events.filter(pa.array(days == day)), unfinished, compression="zstd", version="2.6")
        os.replace(unfinished, target)
        written.append(target)
    return written


def event_files(root: Path) -> list[Path]:
    """Return the finished Parquet files below a folder (or the file itself), in order of path.

    Raises:
        EventError: If there are none.
    """
    files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    if not files:
        raise EventError(f"no Parquet events in {root}: expected day=YYYY-MM-DD/part-*.parquet")
    return files


def read_events(root: Path, *, batch_rows: int = 131_072) -> Iterator[pa.Table]:
    """Read events piece by piece, so that memory does not grow with the log.

    Args:
        root: Folder or file.
        batch_rows: Most rows in a piece.

    Yields:
        Tables in ``EVENT_SCHEMA``; missing nullable columns are filled with null.

    Raises:
        EventError: If a file cannot be read, lacks a column that must not be null, or has one of another type.
    """
    for file in event_files(root):
        try:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=batch_rows):
                yield fit_columns(pa.table(batch), EVENT_SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise EventError(f"{file} cannot be read as events: {error}") from error
