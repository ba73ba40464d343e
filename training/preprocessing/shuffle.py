"""Shuffles and counts over staged files with Daft: on this machine's cores, or on a Ray cluster."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import ConfigurationError

if TYPE_CHECKING:
    from daft import DataFrame, Expression

RUNNERS: Final = ("native", "ray")
"""Where Daft runs."""


class Shuffle:
    """Groups staged events by key into files small enough for memory.

    Args:
        runner: ``native`` or ``ray``; on a cluster every node must see the work folder.
        files_at_once: Staged files in one pass. Daft's native runner reads ahead, and keeps what it partitions in
            memory until it has read everything, so passes are what bounds it. On a cluster, take all at once.
        ray_address: The cluster, for ``ray``; None starts or finds a local one.

    Raises:
        ConfigurationError: If the runner is not one of ``RUNNERS``.
    """

    def __init__(self, *, runner: str = "native", files_at_once: int = 4, ray_address: str | None = None) -> None:
        if runner not in RUNNERS:
            raise ConfigurationError(f"shuffle.runner is {runner!r}: expected one of {', '.join(RUNNERS)}")
        # read when daft is imported: no bars over ours, no reports to anybody
        os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
        os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
        import daft

        try:
            daft.set_runner_ray(ray_address) if runner == "ray" else daft.set_runner_native()
        except daft.exceptions.DaftCoreException:  # a process chooses once
            if daft.get_or_infer_runner_type() != runner:
                raise ConfigurationError(f"shuffle.runner is {runner}, but this process runs Daft elsewhere") from None
        self._daft: Any = daft
        self._files_at_once = files_at_once

    def partition(
        self,
        files: Sequence[Path],
        folder: Path,
        *,
        key: str,
        columns: Sequence[str],
        num_partitions: int,
        event_types: Sequence[int] | None = None,
    ) -> None:
        """Write rows with equal keys into one of several partitions of a folder.

        Args:
            files: Staged files.
            folder: Where the partitions go.
            key: Column whose hash chooses the partition; rows where it is null are left out.
            columns: Columns to keep.
            num_partitions: Number of partitions.
            event_types: Codes to keep; all by default.
        """
        folder.mkdir(parents=True)
        for events in self._passes(files, key, event_types):
            place = (self._column(key).hash() % self._daft.lit(num_partitions)).alias("partition")
            events.select(*(self._column(name) for name in columns), place).write_parquet(
                str(folder), partition_cols=["partition"], compression="lz4"
            ).collect()

    def partitions(self, folder: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Read the partitions one by one, in order, each with its rows in the order of the log."""
        numbered = sorted((int(each.name.split("=")[1]), each) for each in folder.glob("partition=*"))
        for _, each in numbered:
            pieces = [pq.ParquetFile(file).read(columns=list(columns)) for file in sorted(each.glob("*.parquet"))]
            # the files come in no order that could be relied on, and neither do their rows
            yield pa.concat_tables(pieces).sort_by("row").combine_chunks()

    def count(self, files: Sequence[Path], key: str, *, before_ms: int | None, held_out: bool = True) -> pa.Table:
        """Count the rows of each key.

        Args:
            files: Staged files.
            key: Column to count by; null is not counted.
            before_ms: Count only what occurred before; None counts all.
            held_out: Whether to count what is held out, too.

        Returns:
            Columns ``id`` and ``count``, the most frequent first, equals by id.
        """
        found = []
        for events in self._passes(files, key, None):
            if before_ms is not None:
                events = events.where(self._column("occurred_at_ms") < before_ms)
            if not held_out:
                events = events.where(~self._column("held_out"))
            by_key = events.groupby(self._column(key).alias("id"))
            found.append(_plain(by_key.agg(self._column("row").count().alias("count")).to_arrow()))
        counted = _merged(found, "id", {"count": "sum"})
        return counted.sort_by([("count", "descending"), ("id", "ascending")])

    def rooms(self, files: Sequence[Path]) -> pa.Table:
        """Return one row for each room: when the first and last thing happened in it, ordered by id."""
        at_ms = self._column("occurred_at_ms")
        found = [
            _plain(
                events.groupby("room_id")
                .agg(at_ms.min().alias("first_ms"), at_ms.max().alias("last_ms"), self._column("streamer_id").min())
                .to_arrow()
            )
            for events in self._passes(files, "room_id", None)
        ]
        return _merged(found, "room_id", {"first_ms": "min", "last_ms": "max", "streamer_id": "min"}).sort_by("room_id")

    def select(self, files: Sequence[Path], *, columns: Sequence[str], event_types: Sequence[int]) -> pa.Table:
        """Return the rows of a few rare types, oldest first, equal instants by event id."""
        found = [_plain(events.select(*columns).to_arrow()) for events in self._passes(files, "room_id", event_types)]
        return pa.concat_tables(found).sort_by([("occurred_at_ms", "ascending"), ("event_id", "ascending")])

    def _passes(self, files: Sequence[Path], key: str, event_types: Sequence[int] | None) -> "Iterator[DataFrame]":
        """A few files at a time, without the rows where the key is null or of other types."""
        for start in range(0, len(files), self._files_at_once):
            events = self._daft.read_parquet([str(file) for file in files[start : start + self._files_at_once]])
            events = events.where(self._column(key).not_null())
            if event_types is not None:
                events = events.where(self._column("event_type").is_in(list(event_types)))
            yield events

    def _column(self, name: str) -> "Expression":
        return self._daft.col(name)


def _merged(found: Sequence[pa.Table], key: str, how: Mapping[str, str]) -> pa.Table:
    """Aggregate the aggregates of several passes."""
    merged = pa.concat_tables(found).group_by(key).aggregate(list(how.items()))
    return merged.rename_columns([key, *how])


def _plain(table: pa.Table) -> pa.Table:
    """Daft gives large strings; the contract has plain ones."""
    fields = [
        pa.field(field.name, pa.string() if pa.types.is_large_string(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).combine_chunks()


def rows_of(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """Iterate over rows as tuples of a few columns."""
    return zip(*(table[name].to_pylist() for name in names), strict=True)
