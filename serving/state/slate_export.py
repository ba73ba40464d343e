"""Slates as Parquet by day: what was shown, to be joined with what viewers did by ``request_id``."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import StateError
from serving.privacy.exports import Exports
from serving.state.slate_log import LoggedSlate, read_slates, slate_files

SLATE_SCHEMA: Final = pa.schema(
    [
        pa.field("at_ms", pa.int64(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("surface", pa.string(), nullable=False),
        pa.field("room_id", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("degraded", pa.string()),
        pa.field("item_id", pa.list_(pa.string()), nullable=False),
        pa.field("score", pa.list_(pa.float32()), nullable=False),
        pa.field("propensity", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Columns of an export; items in the order shown, rooms or products as ``surface`` says."""

_ROWS_AT_ONCE = 50_000
_DAY_MS = 86_400_000


def export_slates(slates: Path, folder: Path, *, exports: Exports) -> int:
    """Write every slate of a folder of slate files into day folders.

    Args:
        slates: Folder of the files; slates shown meanwhile may or may not be in the export.
        folder: Where to; must not exist, or be empty.
        exports: Remembers the folder, so that an erasure goes through it as well.

    Returns:
        How many slates were written.

    Raises:
        StateError: If the folder holds something, or a file cannot be read or written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StateError(f"{folder} is not empty: choose a new folder, or delete it first")
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        exports.register(folder)
        for path in slate_files(slates):
            # an erasure comes before a file is read or after it is written, never between
            with exports.lock():
                try:
                    found = read_slates(path)
                    for place, some in enumerate(_pieces(found)):
                        _write(some, folder, part=f"{path.stem}-{place:05}")
                        written += len(some)
                except FileNotFoundError:
                    continue  # the oldest files go while replicas write new ones
    except OSError as error:
        raise StateError(f"slates in {slates} cannot be exported to {folder}: {error}") from error
    return written


def _pieces(slates: Iterator[LoggedSlate]) -> Iterator[list[LoggedSlate]]:
    while some := list(islice(slates, _ROWS_AT_ONCE)):
        yield some


def _write(slates: list[LoggedSlate], folder: Path, *, part: str) -> None:
    days = np.array([slate.at_ms // _DAY_MS for slate in slates])
    for day in np.unique(days):
        table = pa.Table.from_pylist(
            [_row(slates[place]) for place in np.flatnonzero(days == day)], schema=SLATE_SCHEMA
        )
        name = np.datetime_as_string(np.datetime64(int(day), "D"))
        target = folder / f"day={name}" / f"part-{part}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".tmp")
        pq.write_table(table, unfinished, compression="zstd", version="2.6")
        os.replace(unfinished, target)


def _row(slate: LoggedSlate) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(slate, name) for name in SLATE_SCHEMA.names[:8]}
    for place, name in enumerate(SLATE_SCHEMA.names[8:]):
        row[name] = [item[place] for item in slate.items]
    return row
