"""Exact top-k over what is live: a compacted matrix of vectors, kept up to date in place."""

from collections.abc import Sequence
from heapq import nsmallest
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_FIRST_CAPACITY: Final = 64


class Hits(NamedTuple):
    """What a search found, highest score first, equal scores by id."""

    ids: list[str]
    """[k] external ids"""
    scores: npt.NDArray[np.float32]
    """[k] dot products"""


class LiveIndex:
    """Vectors of the items that may be shown now, one after another without gaps.

    An item that goes leaves its place to the last one, so adding, updating and removing cost one row, and a search is
    one matrix-vector product over exactly what is live: nothing has to be filtered afterwards.

    Args:
        embedding_dim: D, the length of a vector.

    Raises:
        ValueError: If ``embedding_dim`` is below 1.

    Example:
        >>> index = LiveIndex(embedding_dim=2)
        >>> index.put(["a", "b", "c"], np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32))
        >>> index.remove("a")
        True
        >>> index.search(np.array([2, 1], dtype=np.float32), k=5).ids
        ['c', 'b']
    """

    def __init__(self, *, embedding_dim: int) -> None:
        if embedding_dim < 1:
            raise ValueError(f"embedding_dim must be at least 1, received {embedding_dim}")
        self._matrix = np.zeros((_FIRST_CAPACITY, embedding_dim), dtype=np.float32)
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._row_of

    @property
    def ids(self) -> list[str]:
        """The ids in the index, in no particular order."""
        return list(self._ids)

    @property
    def rows(self) -> Sequence[str]:
        """The id of each row of ``vectors``; not to be changed."""
        return self._ids

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """The vectors of what is in the index, ``[n, D]``; not to be changed."""
        return self._matrix[: len(self._ids)]

    def put(self, item_ids: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        """Add items, or replace the vectors of those already in the index.

        Args:
            item_ids: External ids of n items.
            vectors: Their vectors, shape ``[n, D]``.

        Raises:
            ValueError: If the shape is wrong or a number is not finite: such a vector would win or spoil every search.
        """
        expected = (len(item_ids), self._matrix.shape[1])
        if vectors.shape != expected:
            raise ValueError(f"vectors has shape {vectors.shape}, expected {expected}")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors holds numbers that are not finite")
        for item_id, vector in zip(item_ids, vectors, strict=True):
            row = self._row_of.get(item_id)
            if row is None:
                row = len(self._ids)
                if row == len(self._matrix):
                    self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
                self._ids.append(item_id)
                self._row_of[item_id] = row
            self._matrix[row] = vector

    def remove(self, item_id: str) -> bool:
        """Take an item out and say whether it was there."""
        row = self._row_of.pop(item_id, None)
        if row is None:
            return False
        last_id = self._ids.pop()
        if last_id != item_id:
            self._matrix[row] = self._matrix[len(self._ids)]
            self._ids[row] = last_id
            self._row_of[last_id] = row
        return True

    def search(self, query: npt.NDArray[np.float32], *, k: int) -> Hits:
        """Find the items with the highest dot product.

        Args:
            query: Shape ``[D]``.
            k: Most items to return, at least 0.

        Returns:
            The best ``min(k, len(index))`` items.

        Raises:
            ValueError: If the query has another length, or ``k`` is negative.
        """
        if query.shape != self._matrix.shape[1:]:
            raise ValueError(f"query has shape {query.shape}, expected {self._matrix.shape[1:]}")
        if k < 0:
            raise ValueError(f"k must be at least 0, received {k}")
        return best_scores(self._ids, self._matrix[: len(self._ids)] @ query, k=k)


def best_scores(ids: Sequence[str], scores: npt.NDArray[np.float32], *, k: int) -> Hits:
    """Keep the k highest scores, highest first; equal scores are ordered by id, so every replica answers alike.

    Args:
        ids: External ids, n of them.
        scores: Their scores, shape ``[n]``.
        k: Most to keep.

    Example:
        >>> best_scores(["b", "a", "c"], np.array([1, 1, 0], dtype=np.float32), k=1).ids
        ['a']
    """
    if k == 0 or not len(ids):
        return Hits([], np.empty(0, dtype=np.float32))
    if k >= len(ids):
        rows = list(range(len(ids)))
    else:
        threshold = np.partition(scores, len(ids) - k)[len(ids) - k]
        rows = np.flatnonzero(scores >= threshold).tolist()
        if len(rows) > k:
            # rooms nobody knows anything of score alike: of thousands only the few that are shown need be sorted
            rows = np.flatnonzero(scores > threshold).tolist()
            rows += nsmallest(k - len(rows), np.flatnonzero(scores == threshold).tolist(), key=ids.__getitem__)
    best = sorted(zip((-scores[rows]).tolist(), [ids[row] for row in rows], rows, strict=True))
    return Hits([item_id for _, item_id, _ in best], scores[[row for _, _, row in best]])
