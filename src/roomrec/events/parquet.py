"""Events as Parquet, one folder a day: ``day=2026-01-31/part-00000.parquet``."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from roomrec.errors import EventError
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
                yield conform(pa.table(batch))
        except (pa.ArrowException, OSError) as error:
            raise EventError(f"{file} cannot be read as events: {error}") from error


def conform(table: pa.Table) -> pa.Table:
    """Give a table the contract's columns, order and types; unknown columns are left out.

    Raises:
        EventError: If a column that must not be null is missing, or a column cannot be cast; the message names it.
    """
    columns = []
    for field in EVENT_SCHEMA:
        if field.name in table.column_names:
            column = table[field.name]
            try:
                if pa.types.is_dictionary(column.type) or not pa.types.is_dictionary(field.type):
                    columns.append(column.cast(field.type))
                else:
                    columns.append(pc.dictionary_encode(column.cast(pa.string())).cast(field.type))
            except pa.ArrowException as error:
                raise EventError(
                    f"column {field.name} is {column.type}, which does not fit {field.type}: {error}"
                ) from error
        elif field.nullable:
            columns.append(pa.nulls(len(table), field.type))
        else:
            raise EventError(f"column {field.name} is missing; found {table.column_names}")
    return pa.table(columns, schema=EVENT_SCHEMA)
