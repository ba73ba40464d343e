"""Point-in-time join: which rooms were live, and which products could be bought, at an instant."""

from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.ids import PAD_INDEX

ROOM_KIND: Final = 1
"""Kind code of a room."""

PRODUCT_KIND: Final = 2
"""Kind code of a product."""

_BUCKET_MS = 600_000
_REDRAWS = 8

Int64Array = npt.NDArray[np.int64]


class AvailabilityTimeline:
    """When each item could be shown, as half-open intervals ``[from, to)``.

    Intervals are filed under every ten minutes they touch, so a question about an instant looks only at what was there
    around it, however long the log is.

    Args:
        item_index: The item of each interval, shape ``[n]``.
        room_item_index: The room the item is in; a room is in itself. Shape ``[n]``.
        from_ms: First instant at which the item is available, shape ``[n]``.
        to_ms: First instant at which it no longer is, shape ``[n]``.

    Raises:
        ValueError: If the arrays differ in length.

    Example:
        >>> timeline = AvailabilityTimeline(np.array([8, 9, 2]), np.array([8, 9, 9]),
        ...                                 np.array([0, 500, 600]), np.array([1_000, 2_000, 700]))
        >>> timeline.available_at(650, kind=ROOM_KIND)
        array([8, 9])
        >>> timeline.available_at(650, kind=PRODUCT_KIND, room_item_index=8)
        array([], dtype=int64)
        >>> timeline.is_available(np.array([2, 2]), np.array([650, 700]))
        array([ True, False])
    """

    def __init__(
        self, item_index: Int64Array, room_item_index: Int64Array, from_ms: Int64Array, to_ms: Int64Array
    ) -> None:
        if not len(item_index) == len(room_item_index) == len(from_ms) == len(to_ms):
            raise ValueError(
                f"item_index, room_item_index, from_ms, to_ms have lengths {len(item_index)}, {len(room_item_index)}, "
                f"{len(from_ms)}, {len(to_ms)}: they must be equal"
            )
        real = to_ms > from_ms
        self._item = item_index[real].astype(np.int64)
        self._room = room_item_index[real].astype(np.int64)
        self._from = from_ms[real].astype(np.int64)
        self._to = to_ms[real].astype(np.int64)
        self._origin = int(self._from.min()) // _BUCKET_MS if len(self._from) else 0
        rooms, products = np.flatnonzero(self._item == self._room), np.flatnonzero(self._item != self._room)
        self._files = {ROOM_KIND: self._file_by_bucket(rooms), PRODUCT_KIND: self._file_by_bucket(products)}
        self._products_by_room = self._file_by_room(products)
        self._span = int(self._to.max()) - self._origin * _BUCKET_MS + 2 if len(self._to) else 1
        order = np.lexsort((self._from, self._item))
        base = self._item[order] * self._span
        start = self._origin * _BUCKET_MS
        self._opened = base + self._from[order] - start
        self._open_until = np.maximum.accumulate(base + self._to[order] - start) if len(order) else base

    def __len__(self) -> int:
        return len(self._item)

    def available_at(self, at_ms: int, *, kind: int, room_item_index: int | None = None) -> Int64Array:
        """Return the items of a kind available at an instant, ascending and distinct, shape ``[k]``.

        Args:
            at_ms: The instant.
            kind: ``ROOM_KIND`` or ``PRODUCT_KIND``.
            room_item_index: Only products available in this room.
        """
        offsets, rows = self._files[kind]
        bucket = at_ms // _BUCKET_MS - self._origin
        if not 0 <= bucket < len(offsets) - 1:
            return np.empty(0, dtype=np.int64)
        around = rows[offsets[bucket] : offsets[bucket + 1]]
        there = (self._from[around] <= at_ms) & (at_ms < self._to[around])
        if room_item_index is not None:
            there &= self._room[around] == room_item_index
        return np.unique(self._item[around[there]])

    def is_available(self, item_index: Int64Array, at_ms: Int64Array) -> npt.NDArray[np.bool_]:
        """Say for each pair whether the item was available (anywhere) at the instant, shape ``[n]``."""
        if not len(self._item):
            return np.zeros(len(item_index), dtype=bool)
        moment = np.clip(at_ms - self._origin * _BUCKET_MS, -1, self._span - 1)
        asked = item_index.astype(np.int64) * self._span + moment
        last = np.searchsorted(self._opened, asked, side="right") - 1
        found = (last >= 0) & (moment >= 0)
        return np.asarray(found & (self._open_until[np.maximum(last, 0)] > asked))

    def mean_number(self) -> float:
        """Return how many rooms and products were available at an average instant of the log; 0 for an empty one."""
        if not len(self._item):
            return 0.0
        return float((self._to - self._from).sum(dtype=np.float64) / max(int(self._to.max() - self._from.min()), 1))

    def sample_available(
        self, at_ms: Int64Array, kind: Int64Array, *, num_samples: int, rng: np.random.Generator
    ) -> Int64Array:
        """Draw, for each instant, items of a kind that were available then, with replacement.

        Draws are uniform over availabilities: a product sold in two rooms at once counts twice.

        Args:
            at_ms: Instants, shape ``[n]``.
            kind: A kind code for each, shape ``[n]``; rows of another kind get ``PAD_INDEX``.
            num_samples: Draws for each instant.
            rng: Where the randomness comes from.

        Returns:
            Item indices ``[n, num_samples]`` int64; ``PAD_INDEX`` throughout a row where nothing was available.
        """
        samples = np.full((len(at_ms), num_samples), PAD_INDEX, dtype=np.int64)
        for kind_code, (offsets, rows) in self._files.items():
            asked = np.flatnonzero(kind == kind_code)
            if len(asked) and len(rows):
                bucket = at_ms[asked] // _BUCKET_MS - self._origin
                inside = (bucket >= 0) & (bucket < len(offsets) - 1)
                bucket = np.where(inside, bucket, 0)
                count = np.where(inside, offsets[bucket + 1] - offsets[bucket], 0)
                samples[asked] = self._draw(at_ms[asked], offsets[bucket], count, rows, num_samples, rng)
        return samples

    def sample_in_room(
        self, at_ms: Int64Array, room_item_index: Int64Array, *, num_samples: int, rng: np.random.Generator
    ) -> Int64Array:
        """Draw, for each instant, products that could be bought then in one room, with replacement.

        Args:
            at_ms: Instants, shape ``[n]``.
            room_item_index: A room for each, shape ``[n]``.
            num_samples: Draws for each instant.
            rng: Where the randomness comes from.

        Returns:
            Item indices ``[n, num_samples]`` int64; ``PAD_INDEX`` throughout a row where nothing could be bought.
        """
        offsets, rows = self._products_by_room
        room = np.clip(room_item_index, 0, len(offsets) - 2)
        count = np.where(room == room_item_index, offsets[room + 1] - offsets[room], 0)
        return self._draw(at_ms, offsets[room], count, rows, num_samples, rng)

    def _draw(
        self,
        at_ms: Int64Array,
        first: Int64Array,
        count: Int64Array,
        rows: Int64Array,
        num_samples: int,
        rng: np.random.Generator,
    ) -> Int64Array:
        """Draw from ``rows[first : first + count]`` of each instant what was there then: by rejection, then exactly."""
        drawn = np.full((len(at_ms), num_samples), PAD_INDEX, dtype=np.int64)
        where_row, where_column = np.nonzero(np.broadcast_to(count[:, None] > 0, drawn.shape))
        for _ in range(_REDRAWS):
            if not len(where_row):
                return drawn
            place = first[where_row] + (rng.random(len(where_row)) * count[where_row]).astype(np.int64)
            interval = rows[place]
            there = (self._from[interval] <= at_ms[where_row]) & (at_ms[where_row] < self._to[interval])
            drawn[where_row[there], where_column[there]] = self._item[interval[there]]
            where_row, where_column = where_row[~there], where_column[~there]
        for row in np.unique(where_row):
            around = rows[first[row] : first[row] + count[row]]
            there = around[(self._from[around] <= at_ms[row]) & (at_ms[row] < self._to[around])]
            if len(there):
                columns = where_column[where_row == row]
                drawn[row, columns] = self._item[there[rng.integers(len(there), size=len(columns))]]
        return drawn

    def _file_by_room(self, intervals: Int64Array) -> tuple[Int64Array, Int64Array]:
        """File intervals under their room: offsets ``[largest room + 2]`` and interval rows."""
        room = self._room[intervals]
        offsets = np.zeros(int(room.max(initial=0)) + 2, dtype=np.int64)
        np.cumsum(np.bincount(room, minlength=len(offsets) - 1), out=offsets[1:])
        return offsets, intervals[np.argsort(room, kind="stable")]

    def _file_by_bucket(self, intervals: Int64Array) -> tuple[Int64Array, Int64Array]:
        """File intervals under each bucket they touch: offsets ``[num_buckets + 1]`` and interval rows."""
        if not len(intervals):
            return np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64)
        first = self._from[intervals] // _BUCKET_MS - self._origin
        last = (self._to[intervals] - 1) // _BUCKET_MS - self._origin
        touched = last - first + 1
        rows = np.repeat(intervals, touched)
        starts = np.cumsum(touched) - touched
        bucket = np.repeat(first, touched) + np.arange(len(rows)) - np.repeat(starts, touched)
        order = np.argsort(bucket, kind="stable")
        offsets = np.zeros(int(last.max()) + 2, dtype=np.int64)
        np.cumsum(np.bincount(bucket, minlength=len(offsets) - 1), out=offsets[1:])
        return offsets, rows[order]
