"""Step 3a: the rooms of a log, and from when to when each was live."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.events.schema import EVENT_TYPE_CODES
from training.preprocessing.shuffle import Shuffle, rows_of

_START_COLUMNS = ("event_id", "occurred_at_ms", "room_id", "streamer_id", "category", "title", "attributes")
_END_COLUMNS = ("event_id", "occurred_at_ms", "room_id")

Int64Array = npt.NDArray[np.int64]


class Rooms(NamedTuple):
    """All rooms of a log by number, ordered by start, equals by id."""

    ids: list[str]
    """[R]"""
    number: dict[str, int]
    """Id to number"""
    streamer_ids: list[str | None]
    """[R]"""
    categories: list[str | None]
    """[R] as said when it started"""
    titles: list[str | None]
    """[R] as said when it started"""
    attributes: list[str | None]
    """[R] as said when it started"""
    from_ms: Int64Array
    """[R] its room_start, or its first event where the log has none"""
    to_ms: Int64Array
    """[R] its room_end, or just after its last event where the log has none"""
    num_without_end: int
    """Rooms without a room_end after their start"""


def read_rooms(files: Sequence[Path], shuffle: Shuffle) -> Rooms:
    """Gather all rooms of a log.

    The first ``room_start`` and the first ``room_end`` after it count; a room that ended does not come back.
    """
    seen = shuffle.rooms(files)
    ids = seen["room_id"].to_pylist()
    place = {room_id: row for row, room_id in enumerate(ids)}
    from_ms, to_ms = seen["first_ms"].to_numpy().copy(), seen["last_ms"].to_numpy() + 1
    streamers: list[str | None] = seen["streamer_id"].to_pylist()
    categories: list[str | None] = [None] * len(ids)
    titles: list[str | None] = [None] * len(ids)
    attributes: list[str | None] = [None] * len(ids)
    starts = shuffle.select(files, columns=_START_COLUMNS, event_types=[EVENT_TYPE_CODES["room_start"]])
    started = set()
    for room_id, at_ms, streamer_id, category, title, tags in rows_of(
        starts, "room_id", "occurred_at_ms", "streamer_id", "category", "title", "attributes"
    ):
        if room_id not in started:
            started.add(room_id)
            row = place[room_id]
            from_ms[row], streamers[row], categories[row], titles[row] = at_ms, streamer_id, category, title
            attributes[row] = tags
    ends = shuffle.select(files, columns=_END_COLUMNS, event_types=[EVENT_TYPE_CODES["room_end"]])
    ended = set()
    for room_id, at_ms in rows_of(ends, "room_id", "occurred_at_ms"):
        row = place[room_id]
        if row not in ended and at_ms > from_ms[row]:
            ended.add(row)
            to_ms[row] = at_ms
    order = np.lexsort((np.arange(len(ids)), from_ms)).tolist()  # ids came in order
    return Rooms(
        ids=[ids[row] for row in order],
        number={ids[row]: number for number, row in enumerate(order)},
        streamer_ids=[streamers[row] for row in order],
        categories=[categories[row] for row in order],
        titles=[titles[row] for row in order],
        attributes=[attributes[row] for row in order],
        from_ms=from_ms[order],
        to_ms=to_ms[order],
        num_without_end=len(ids) - len(ended),
    )


def room_numbers(number: dict[str, int], room_ids: pa.ChunkedArray) -> Int64Array:
    """Return the number of each room, -1 for none, shape ``[n]``."""
    names = room_ids.combine_chunks().dictionary_encode()
    known = np.array([number[room_id] for room_id in names.dictionary.to_pylist()] + [-1], dtype=np.int64)
    return known[np.asarray(pc.fill_null(names.indices, len(known) - 1))]
