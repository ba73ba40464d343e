"""Who had to do with what, as sparse matrices: what every counting baseline starts from."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import TRAIN_SPLIT, ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.popularity import train_counts

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class Interactions:
    """Users by products and streamers: what ``ItemTable.popularity_index`` counts, E of them, called entities here.

    Args:
        dataset: Where the histories come from.

    Attributes:
        entity: The entity of each item, 0 for none, shape ``[V]``.
        train: One row a user, ones where the train split holds an event, shape ``[U, E]``.
        tie_break: Popularity scaled below anything that a baseline knows, shape ``[V]``: equal scores, zero above all,
            are ordered by it, as anybody would do who served this.
    """

    def __init__(self, dataset: ProcessedDataset) -> None:
        self._histories = dataset.histories
        self._ordered = dataset.ordered
        self.entity = dataset.items.popularity_index
        self.num_entities = int(self.entity.max()) + 1
        counts = train_counts(dataset).astype(np.float32)
        self.tie_break: Float32Array = counts / max(float(counts.max()), 1.0) * np.float32(1e-6)
        offsets = dataset.histories.offsets
        self.train = self._matrix(offsets[:-1], offsets[1:], only_train=True, half_life=None)

    def of(self, queries: Queries, *, half_life: float | None = None) -> sparse.csr_matrix:
        """Return what the history of each query holds, ``[Q, E]``.

        Args:
            queries: Q of them.
            half_life: What was last had before so many other entities counts half, in logs that know the order; None
                counts all alike. Entities are counted, not events: one visit of a room is many events.
        """
        start = self._histories.offsets[queries.row]
        return self._matrix(start, queries.stop, only_train=False, half_life=half_life)

    def _matrix(
        self, start: Int64Array, stop: Int64Array, *, only_train: bool, half_life: float | None
    ) -> sparse.csr_matrix:
        length = stop - start
        row = np.repeat(np.arange(len(start)), length)
        place = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(len(row))
        item = self._histories.item_index[place]
        entity = self.entity[item]
        kept = (item >= FIRST_INDEX) & (entity > 0)
        if only_train:
            kept &= self._histories.split[place] == TRAIN_SPLIT
        place, row, entity = place[kept], row[kept], entity[kept]
        # The newest of each: places ascend within a row, so it is the last of its (row, entity).
        _, newest = np.unique((row * self.num_entities + entity)[::-1], return_index=True)
        newest = len(row) - 1 - newest
        newest = newest[np.lexsort((place[newest], row[newest]))]
        row, entity = row[newest], entity[newest]
        weight = np.ones(len(row), dtype=np.float32)
        if half_life is not None and self._ordered:
            last = np.cumsum(np.bincount(row, minlength=len(start))) - 1
            weight = np.exp2((np.arange(len(row)) - last[row]) / half_life).astype(np.float32)
        return sparse.csr_matrix((weight, (row, entity)), shape=(len(start), self.num_entities), dtype=np.float32)


class EntityScores:
    """Scores of entities as scores of items, ties broken by popularity.

    Args:
        interactions: Entities and popularity.
        scores: Of b queries, dense or sparse, shape ``[b, E]``.
    """

    def __init__(self, interactions: Interactions, scores: Float32Array | sparse.csr_matrix) -> None:
        self._interactions = interactions
        self._scores = scores

    def matrix(self, candidates: Int64Array) -> Float32Array:
        """Score the same candidates for each query, ``[b, C]``."""
        dense = self._scores if isinstance(self._scores, np.ndarray) else self._scores.toarray()
        return self._to_items(np.asarray(dense, dtype=np.float32), candidates)

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        """Score candidates for one query, ``[C]``."""
        dense = self._scores[place] if isinstance(self._scores, np.ndarray) else self._scores[place].toarray()[0]
        return self._to_items(np.asarray(dense, dtype=np.float32), candidates)

    def _to_items(self, dense: Float32Array, candidates: Int64Array) -> Float32Array:
        return dense[..., self._interactions.entity[candidates]] + self._interactions.tie_break[candidates]


def keep_highest(matrix: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """Keep the k highest values of each row that are above zero; of equal ones any.

    Example:
        >>> keep_highest(sparse.csr_matrix([[3.0, 1.0, 2.0], [0.0, 0.0, 5.0]]), 2).toarray()
        array([[3., 0., 2.],
               [0., 0., 5.]])
    """
    matrix = matrix.tocsr()
    kept = []
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        values = matrix.data[start:stop]
        chosen = (
            np.argpartition(values, len(values) - k)[len(values) - k :] if len(values) > k else np.arange(len(values))
        )
        kept.append(start + np.sort(chosen[values[chosen] > 0]))
    places = np.concatenate(kept) if kept else np.empty(0, dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in kept])])
    return sparse.csr_matrix((matrix.data[places], matrix.indices[places], indptr), shape=matrix.shape)
