"""Step 1: read a source, validate, keep what was rejected, and stage what was accepted as narrow Parquet files."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from roomrec.errors import DatasetError
from roomrec.events.erasure import ErasedUsers
from roomrec.events.schema import EVENT_TYPE_CODES, EVENT_TYPES, VIEWER_EVENT_TYPES
from roomrec.events.sources.source import Source
from roomrec.events.validation import validate_table

ROWS_PER_FILE: Final = 262_144
"""Events in a staged file: the unit in which everything streams."""

STAGED_SCHEMA: Final = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("event_id", pa.string()),
        pa.field("event_type", pa.int8()),
        pa.field("occurred_at_ms", pa.int64()),
        pa.field("received_at_ms", pa.int64()),
        pa.field("user_id", pa.string()),
        pa.field("streamer_id", pa.string()),
        pa.field("room_id", pa.string()),
        pa.field("product_id", pa.string()),
        pa.field("watch_time_ms", pa.int64()),
        pa.field("amount_cents", pa.int64()),
        pa.field("stock", pa.int64()),
        pa.field("category", pa.string()),
        pa.field("title", pa.string()),
        pa.field("attributes", pa.string()),
        pa.field("held_out", pa.bool_()),
    ]
)
"""What later steps need of an event. ``row`` counts accepted events in the order in which they were read."""

_LAST_VIEWER_CODE = len(VIEWER_EVENT_TYPES)


@dataclass
class Staged:
    """What step 1 found, and where it put it."""

    files: list[Path] = field(default_factory=list)
    first_row: list[int] = field(default_factory=list)
    num_read: int = 0
    num_accepted: int = 0
    num_held_out: int = 0
    num_erased: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    event_types: Counter[str] = field(default_factory=Counter)
    first_ms: int | None = None
    last_ms: int | None = None


def stage(source: Source, erased: ErasedUsers, *, work: Path, rejected: Path, advance: Callable[[int], None]) -> Staged:
    """Read, validate and stage a whole log.

    Args:
        source: The log.
        erased: Users whose events are left out, rejected ones too.
        work: Folder for the staged files.
        rejected: Folder for ``part-*.parquet`` with rejected events and reasons.
        advance: Told the number of events of each piece that was read.

    Returns:
        Files and counts. The instants are those of viewer events, since boundaries between splits are made of them.

    Raises:
        DatasetError: If no event of a viewer was accepted.
    """
    work.mkdir(parents=True)
    rejected.mkdir(parents=True)
    staged = Staged()
    for table in _in_pieces(_accepted(source, erased, staged, rejected, advance)):
        rows = np.arange(staged.num_accepted, staged.num_accepted + len(table))
        file = work / f"part-{len(staged.files):06d}.parquet"
        numbered = table.set_column(0, STAGED_SCHEMA.field("row"), pa.array(rows))
        pq.write_table(numbered.cast(STAGED_SCHEMA), file, compression="lz4")
        staged.files.append(file)
        staged.first_row.append(staged.num_accepted)
        staged.num_accepted += len(table)
    if not staged.num_accepted:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in staged.rejected.most_common(3)) or "it is empty"
        raise DatasetError(f"source {source.name} holds no valid event: {reasons}")
    if staged.first_ms is None:
        raise DatasetError(f"source {source.name} holds {staged.num_accepted} valid events, but none of a viewer")
    return staged


def _accepted(
    source: Source, erased: ErasedUsers, staged: Staged, rejected: Path, advance: Callable[[int], None]
) -> Iterator[pa.Table]:
    num_files = 0
    for piece in source.read():
        accepted, broken = validate_table(piece.events)
        accepted = _leave_out(accepted, erased, staged)
        for refused in (_leave_out(each, erased, staged) for each in (piece.rejected, broken)):
            if len(refused):
                pq.write_table(refused, rejected / f"part-{num_files:05d}.parquet", compression="zstd")
                num_files += 1
                for entry in pc.value_counts(refused["reason"]).to_pylist():
                    staged.rejected[entry["values"]] += entry["counts"]
        num_read = len(piece.events) + len(piece.rejected)
        staged.num_read += num_read
        advance(num_read)
        if len(accepted):
            table = _narrow(accepted, held_out=piece.held_out)
            _count(table, staged)
            staged.num_held_out += len(table) if piece.held_out else 0
            yield table


def _leave_out(events: pa.Table, erased: ErasedUsers, staged: Staged) -> pa.Table:
    """Give the events of users who were not erased, and count the others."""
    if not erased.by_hash or not len(events):
        return events
    received_at_ms = pc.fill_null(events["received_at_ms"], 0).to_numpy()
    gone = erased.find(events["user_id"], received_at_ms)
    staged.num_erased += int(gone.sum())
    return events.filter(pa.array(~gone)) if gone.any() else events


def _narrow(events: pa.Table, *, held_out: bool) -> pa.Table:
    """Give the columns later steps need; the row number is filled in when the file is written."""
    codes = pc.index_in(events["event_type"].cast(pa.string()), value_set=pa.array(EVENT_TYPES))
    columns = {
        "row": pa.nulls(len(events), pa.int64()),
        "event_type": pc.add(codes, 1).cast(pa.int8()),
        "category": _fact(events, "category"),
        "title": _fact(events, "title"),
        "attributes": _fact(events, "attributes"),
        "held_out": pa.repeat(pa.scalar(held_out), len(events)),
    }
    return pa.table(
        [columns.get(name, events[name] if name in events.column_names else None) for name in STAGED_SCHEMA.names],
        schema=STAGED_SCHEMA,
    )


def _fact(events: pa.Table, key: str) -> pa.ChunkedArray:
    """A fact of a room or product out of the context, empty text counting as none."""
    value = pc.map_lookup(events["context"], pa.scalar(key), "first")
    return pc.if_else(pc.equal(value, ""), pa.scalar(None, pa.string()), value)


def _count(table: pa.Table, staged: Staged) -> None:
    codes = table["event_type"].to_numpy()
    for code, count in enumerate(np.bincount(codes, minlength=len(EVENT_TYPES) + 1).tolist()):
        if count:
            staged.event_types[EVENT_TYPES[code - 1]] += count
    viewer = table["occurred_at_ms"].to_numpy()[codes <= _LAST_VIEWER_CODE]
    if len(viewer):
        staged.first_ms = int(min(viewer.min(), math.inf if staged.first_ms is None else staged.first_ms))
        staged.last_ms = int(max(viewer.max(), -1 if staged.last_ms is None else staged.last_ms))


def _in_pieces(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Cut and join tables so that each but the last has ``ROWS_PER_FILE`` rows."""
    waiting: list[pa.Table] = []
    num_waiting = 0
    for table in tables:
        waiting.append(table)
        num_waiting += len(table)
        while num_waiting >= ROWS_PER_FILE:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROWS_PER_FILE).combine_chunks()
            waiting = [joined.slice(ROWS_PER_FILE)]
            num_waiting -= ROWS_PER_FILE
    if num_waiting:
        yield pa.concat_tables(waiting).combine_chunks()


CODES: Final = EVENT_TYPE_CODES
"""Type name to code, for the filters of later steps."""
