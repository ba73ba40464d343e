"""Popularity as a scorer: what everybody chose, ever or lately."""

from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import TRAIN_SPLIT, ProcessedDataset
from roomrec.sequences.queries import Queries

_STEP_MS: Final = 5 * 60_000
_HOUR_MS: Final = 3_600_000

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class Popularity:
    """Counts of the train split: a product's own, a room's those of its streamer.

    Args:
        dataset: Where the histories come from.
        name: What tables call it.
    """

    def __init__(self, dataset: ProcessedDataset, *, name: str = "popularity") -> None:
        self.name = name
        self._counts = train_counts(dataset).astype(np.float32)

    def prepare(self, queries: Queries) -> "_SameForAll":
        """Every query gets the same scores."""
        return _SameForAll(self._counts, len(queries.row))


class RecentPopularity:
    """Counts of the hours before each query, of all splits, by time only: a live system would know them.

    Counts are taken at whole five minutes, so nothing of the moment itself is counted.

    Args:
        dataset: Where the histories come from.
        window_hours: How far back is recent.
        name: What tables call it.
    """

    def __init__(self, dataset: ProcessedDataset, *, window_hours: float = 24, name: str = "recent_popularity") -> None:
        self.name = name
        self._window_ms = int(window_hours * _HOUR_MS)
        self._entity = dataset.items.popularity_index
        histories = dataset.histories
        chosen = np.flatnonzero(histories.target & (histories.item_index >= FIRST_INDEX))
        chosen = chosen[np.argsort(histories.occurred_at_ms[chosen], kind="stable")]
        self._at_ms = histories.occurred_at_ms[chosen]
        self._chosen = self._entity[histories.item_index[chosen]]
        self._last: tuple[int, Float32Array] = (-1, np.zeros(len(self._entity), dtype=np.float32))

    def prepare(self, queries: Queries) -> "_ByMoment":
        """Look up when each query was asked."""
        return _ByMoment(self, queries.at_ms)

    def counts_at(self, at_ms: int) -> Float32Array:
        """Return the recent counts of every item as known at an instant, ``[V]``."""
        now = at_ms // _STEP_MS * _STEP_MS
        if self._last[0] != now:
            first, stop = np.searchsorted(self._at_ms, [now - self._window_ms, now])
            by_entity = np.bincount(self._chosen[first:stop], minlength=int(self._entity.max()) + 1)
            by_entity[0] = 0
            self._last = (now, by_entity.astype(np.float32)[self._entity])
        return self._last[1]


class _SameForAll:
    def __init__(self, counts: Float32Array, num_queries: int) -> None:
        self._counts = counts
        self._num_queries = num_queries

    def matrix(self, candidates: Int64Array) -> Float32Array:
        return np.tile(self._counts[candidates], (self._num_queries, 1))

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        return self._counts[candidates]


class _ByMoment:
    def __init__(self, popularity: RecentPopularity, at_ms: Int64Array) -> None:
        self._popularity = popularity
        self._at_ms = at_ms

    def matrix(self, candidates: Int64Array) -> Float32Array:
        return np.stack([self.row(place, candidates) for place in range(len(self._at_ms))])

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        return self._popularity.counts_at(int(self._at_ms[place]))[candidates]


def train_counts(dataset: ProcessedDataset) -> Int64Array:
    """Return how often each item's product, or a room's streamer, was chosen in the train split, ``[V]``."""
    histories = dataset.histories
    entity = dataset.items.popularity_index
    chosen = histories.target & (histories.split == TRAIN_SPLIT) & (histories.item_index >= FIRST_INDEX)
    by_entity = np.bincount(entity[histories.item_index[chosen]], minlength=int(entity.max()) + 1)
    by_entity[0] = 0
    return by_entity[entity]
