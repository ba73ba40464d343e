"""Step 2: of several events with one id, keep the one that was received first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from training.preprocessing.shuffle import Shuffle
from training.preprocessing.staging import Staged

_COLUMNS = ("row", "event_id", "received_at_ms")


def drop_duplicates(staged: Staged, shuffle: Shuffle, *, work: Path, num_partitions: int) -> int:
    """Find duplicates of the whole log, exactly, and rewrite the staged files that hold any.

    Only ids, instants of receipt and row numbers are shuffled. What stays in memory is the rows to drop.

    Args:
        staged: The staged log.
        shuffle: Does the shuffling.
        work: Folder to work in.
        num_partitions: Partitions to shuffle into.

    Returns:
        Number of events dropped.
    """
    shuffle.partition(staged.files, work, key="event_id", columns=_COLUMNS, num_partitions=num_partitions)
    found = [later_copies(partition) for partition in shuffle.partitions(work, _COLUMNS)]
    dropped = np.sort(np.concatenate(found))
    _rewrite(staged, dropped)
    return len(dropped)


def later_copies(events: pa.Table) -> npt.NDArray[np.int64]:
    """Return the row numbers of events that are not the first received of their id (on a tie: the first read).

    Args:
        events: Columns ``row``, ``event_id``, ``received_at_ms``.
    """
    ids = events["event_id"].combine_chunks().dictionary_encode()
    rows = events["row"].to_numpy()
    if len(ids.dictionary) == len(events):
        return rows[:0]
    codes = ids.indices.to_numpy()
    order = np.lexsort((rows, events["received_at_ms"].to_numpy(), codes))
    repeated = np.zeros(len(order), dtype=bool)
    repeated[1:] = codes[order][1:] == codes[order][:-1]
    return rows[order[repeated]]


def _rewrite(staged: Staged, dropped: npt.NDArray[np.int64]) -> None:
    bounds: Sequence[int] = [*staged.first_row, staged.num_accepted]
    for file, start, stop in zip(staged.files, bounds[:-1], bounds[1:], strict=True):
        first, last = np.searchsorted(dropped, [start, stop])
        if first == last:
            continue
        keep = np.ones(stop - start, dtype=bool)
        keep[dropped[first:last] - start] = False
        pq.write_table(pq.read_table(file).filter(pa.array(keep)), file, compression="lz4")
